"""A server's log lines on stderr: for people, or one JSON object each."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any

from edgec.core.plain import plain

__all__ = ["JsonLines", "PlainLines", "log_config"]

_LEVELS = {"uvicorn": "ERROR", "uvicorn.access": "INFO", "asyncio": "ERROR", "edgec.serve": "INFO"}
"""Warnings of uvicorn and asyncio tell of what clients do, who could fill a disk with them."""


class JsonLines(logging.Formatter):
    """A line of JSON: time in UTC, level, where it comes from, text, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": plain(record.getMessage()),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class PlainLines(logging.Formatter):
    """Time, level and text for people, and a traceback where there is one: an entry begins where a line does."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line."""
        record.message = plain(record.message)
        return super().formatMessage(record)


def log_config(*, as_json: bool) -> dict[str, Any]:
    """What `logging.config.dictConfig` takes: those of uvicorn, asyncio and edgec, all to stderr."""
    lines = {"()": JsonLines} if as_json else {"()": PlainLines, "format": "%(asctime)s %(levelname)s %(message)s"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": lines},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
        "loggers": {
            name: {"handlers": ["stderr"], "level": level, "propagate": False} for name, level in _LEVELS.items()
        },
    }

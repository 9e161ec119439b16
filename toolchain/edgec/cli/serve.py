"""`edgec serve`: a bundle over HTTP."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from edgec.cli.trust import find_trust, signed_by
from edgec.core.errors import MissingDependencyError

__all__ = ["command"]

_PACKAGES = ("starlette", "uvicorn", "prometheus_client")
_MIB = 1 << 20
FILE = click.Path(path_type=Path)


@click.command("serve")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What clients call the model. Default: the manifest's name.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Threads that run the model.")
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Threads within an operator. Default: the bundle's."
)
@click.option(
    "--queue",
    "waiting",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Requests that may wait; more get 503.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=8, show_default=True, help="How many waiting requests run together."
)
@click.option(
    "--max-body", type=click.FloatRange(min=0.001), default=16, show_default=True, help="Largest body, in MiB."
)
@click.option(
    "--max-pixels",
    type=click.FloatRange(min=0.001),
    default=12.5,
    show_default=True,
    help="Largest image, in millions of pixels.",
)
@click.option(
    "--per-client",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Requests of one address at a time; more get 429.",
)
@click.option(
    "--connections", type=click.IntRange(min=1), default=512, show_default=True, help="Most connections at once."
)
@signed_by
@click.option("--token-file", type=FILE, metavar="FILE", help="Bearer tokens, one a line. EDGEC_SERVE_TOKEN adds one.")
@click.option(
    "--tls-certificate", type=FILE, metavar="FILE", help="Certificate, PEM, followed by the intermediate ones."
)
@click.option(
    "--tls-key",
    type=FILE,
    metavar="FILE",
    help="The certificate's private key, PEM. Default: in the certificate's file.",
)
@click.option(
    "--open", is_flag=True, help="Let other machines in without tokens or TLS, where a proxy controls access."
)
@click.option(
    "--watch/--no-watch", default=True, show_default=True, help="Switch when BUNDLE leads to another version."
)
@click.option("--unknown", is_flag=True, help="Answer 'unknown' where the confidence is below the bundle's threshold.")
@click.option("--access-log", is_flag=True, help="Log every request.")
@click.option("--json-logs", is_flag=True, help="Log lines of JSON.")
def command(
    bundle: Path,
    *,
    max_body: float,
    max_pixels: float,
    key: Path | None,
    certificate: Path | None,
    token_file: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    watch: bool,
    **options: object,
) -> None:
    """Answer requests over HTTP with a BUNDLE: Open Inference Protocol v2, and image files to …/classify.

    BUNDLE is a folder, an archive, or a link to one, such as ROOT/current. /v2/health/ready answers 200 when the bundle
    is verified and its golden images are reproduced. SIGHUP loads it again; SIGTERM ends the server after the waiting
    requests. Other machines need tokens and TLS.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"serving needs {missing[0]}", hint="pip install 'edgec[serve]'")
    from edgec.serve import Settings, read_tokens, serve

    settings = Settings(
        bundle=bundle,
        max_body_bytes=int(max_body * _MIB),
        most_pixels=int(max_pixels * 1e6),
        trust=find_trust(key, certificate),
        tokens=read_tokens(token_file),
        certificate=tls_certificate,
        key=tls_key,
        watch_seconds=2.0 if watch else None,
        **options,  # pyright: ignore[reportArgumentType]  # click has checked them
    )
    serve(settings)

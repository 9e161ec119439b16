"""`edgec report`: a bundle's report as one HTML page."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgec.core.errors import ConfigError

__all__ = ["command"]


@click.command("report")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Default: BUNDLE-report.html beside it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead, write nothing.")
def command(bundle: Path, *, output: Path | None, as_json: bool) -> None:
    """Write a BUNDLE's report as one HTML page that works offline, and print its path.

    BUNDLE is a folder or an archive.
    """
    from edgec.core.files import require_writable, write_bytes
    from edgec.evaluate.gates import check_gates
    from edgec.evaluate.page import render_report
    from edgec.package import open_bundle
    from edgec.pipeline.check import REPORT, read_evidence

    if as_json:
        sys.stdout.write(open_bundle(bundle).read_bytes(REPORT).decode())
        return
    evidence = read_evidence(bundle)
    report = evidence.report
    target = output or _beside(bundle)
    _require_outside(target, bundle)
    require_writable(target)
    gates = check_gates(report, report.gates, drops=evidence.predictions.against_teacher()) if report.gates else None
    write_bytes(target, render_report(report, gates=gates).encode())
    click.echo(target)


def _beside(bundle: Path) -> Path:
    """`out/digits` and `out/digits.edgec` to `out/digits-report.html`."""
    name = bundle.resolve().name if bundle.is_dir() else bundle.stem
    return (
        bundle.resolve().parent / f"{name}-report.html" if bundle.is_dir() else bundle.with_name(f"{name}-report.html")
    )


def _require_outside(output: Path, bundle: Path) -> None:
    """A file more in the bundle would break its manifest.

    Raises:
        ConfigError: `output` is a folder, or lies in the bundle.
    """
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder", hint=f"name a file, such as {output / 'report.html'}")
    if bundle.is_dir() and output.resolve().is_relative_to(bundle.resolve()):
        raise ConfigError(
            f"--output {output} lies in the bundle, which would no longer be what its manifest says",
            hint="choose a place outside; the bundle holds a report.html of its own",
        )

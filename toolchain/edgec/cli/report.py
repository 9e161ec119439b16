"""`edgec report`: a bundle's report as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.say import say
from edgec.core.errors import ConfigError

__all__ = ["command"]


@click.command("report")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path), required=False)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="The page. Default: BUNDLE-report.html beside the bundle; for two, BUNDLE-to-OTHER.html beside the second.",
)
@click.option("--json", "as_json", is_flag=True, help="Print report.json, and write no page.")
def command(bundle: Path, other: Path | None, *, output: Path | None, as_json: bool) -> None:
    """Write a BUNDLE's report as one HTML page that works offline, and print its path.

    With OTHER, the page shows what changes when OTHER replaces BUNDLE. Both are folders or archives.
    """
    from edgec.core.files import require_writable, write_bytes
    from edgec.core.plain import in_json
    from edgec.evaluate.report import parse_report
    from edgec.package import open_bundle
    from edgec.pipeline.check import REPORT
    from edgec.pipeline.pages import comparison_page, report_page

    if as_json:
        if other is not None:
            hint = f"verdicts on both: edgec check {other} --baseline {bundle} --json"
            raise ConfigError("--json prints one bundle's report.json, got two bundles", hint=hint)
        data = open_bundle(bundle).read_bytes(REPORT)
        parse_report(data, where=f"{bundle}/{REPORT}")
        click.echo(in_json(data.decode()), nl=False)
        return
    target = output or _beside(bundle, other)
    for read in filter(None, (bundle, other)):
        _require_outside(target, read)
    require_writable(target)
    page = comparison_page(bundle, other) if other else report_page(bundle)
    write_bytes(target, page.encode())
    say(target)


def _beside(bundle: Path, other: Path | None) -> Path:
    """`out/digits` and `out/digits.edgec` to `out/digits-report.html`; `out/a` and `out/b` to `out/a-to-b.html`."""
    if other is not None:
        return _folder(other) / f"{_name(bundle)}-to-{_name(other)}.html"
    return _folder(bundle) / f"{_name(bundle)}-report.html"


def _name(bundle: Path) -> str:
    return bundle.resolve().name if bundle.is_dir() else bundle.stem


def _folder(bundle: Path) -> Path:
    return bundle.resolve().parent if bundle.is_dir() else bundle.parent


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

"""What a contributor runs: `nox` for all that a change needs, `nox --list` for the rest.

`lint`, `types`, `generated` and `tests` run in the environment that nox is started from (`.venv/bin/nox`), because
torch is too large to be installed again; `site` and `release` make small ones of their own.
"""

from __future__ import annotations

import sys

import nox

nox.needs_version = ">=2024.4"
nox.options.sessions = ("lint", "types", "generated", "tests")
nox.options.default_venv_backend = "venv"

EXTRAS = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]


@nox.session(python=False)
def lint(session: nox.Session) -> None:
    """Compare code with ruff's rules and format."""
    session.run(sys.executable, "-m", "ruff", "check", ".")
    session.run(sys.executable, "-m", "ruff", "format", "--check", ".")


@nox.session(python=False)
def types(session: nox.Session) -> None:
    """Check types with pyright."""
    session.run(sys.executable, "-m", "pyright", "--threads", "--pythonpath", sys.executable)


@nox.session(python=False)
def generated(session: nox.Session) -> None:
    """Name generated parts of README and docs that are stale."""
    session.run(sys.executable, "docs/generate.py", "--check")


@nox.session(python=False)
def tests(session: nox.Session) -> None:
    """Run the tests; what follows `--` goes to pytest."""
    session.run(sys.executable, "-m", "pytest", *session.posargs)


@nox.session
def site(session: nox.Session) -> None:
    """Build the documentation's site into build/site; warnings are errors."""
    session.install(*EXTRAS["docs"])
    session.run("mkdocs", "build", "--strict")


@nox.session
def release(session: nox.Session) -> None:
    """Build wheel and sdist into dist/ and check both."""
    session.install("build", "packaging")
    session.run("python", "-m", "build")
    session.run("python", "tools/check_release.py", "dist")

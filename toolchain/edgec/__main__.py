"""`python -m edgec`."""

from __future__ import annotations

from edgec.cli import main

if __name__ == "__main__":
    main()

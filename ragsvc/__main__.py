"""The entry point of the console script `ragsvc` and of `python -m ragsvc`."""

from __future__ import annotations

import sys

from ragsvc.cli.app import run


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run())


if __name__ == "__main__":
    main()

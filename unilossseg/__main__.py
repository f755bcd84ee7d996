"""`unilossseg`, or `python -m unilossseg`: the command line."""

from __future__ import annotations

import sys

_NEEDED = ("typer", "rich", "jinja2", "safetensors", "matplotlib")


def main() -> None:
    """Runs the command line, whose packages are an extra: the losses themselves need none of them."""
    try:
        from unilossseg.conformance.cli import app
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        sys.stderr.write(f"unilossseg: the command line needs {error.name}: pip install 'unilossseg[report]'\n")
        raise SystemExit(2) from None
    app(prog_name="unilossseg")


if __name__ == "__main__":
    main()

"""`python -m imsim.cli`: the same as the `imsim` command."""

from imsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

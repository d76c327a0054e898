"""`python -m emu`: the same as the installed command `emu`."""

from emu.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

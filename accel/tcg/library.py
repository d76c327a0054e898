"""libunicorn: found without importing its Python package, and opened once."""

from __future__ import annotations

import os
import sys

from accel.errors import Unavailable
from accel.native import ffi, lib

_opened = False


def place() -> str:
    """The path of libunicorn.

    Importing the package costs ten times the opening, and importlib half as much again as the opening: a
    wheel's place is looked up by hand, and importlib asked only for what is not there.  Raises Unavailable.
    """
    name = os.fsdecode(ffi.string(lib.emu_uc_library_name()))
    places = (os.path.join(folder, name) for folder in sys.path)
    return next(filter(os.path.exists, places), "") or _asked_of_importlib()


def library() -> str:
    """Opens libunicorn if that is still to be done, and returns its path.  Raises Unavailable."""
    global _opened
    path = place()
    if not _opened:
        text = ffi.new("char[256]")
        if lib.emu_uc_library(os.fsencode(path), text, 256) != 0:
            reason = os.fsdecode(ffi.string(text))
            raise Unavailable(f"tcg cannot open Unicorn: {reason}; reinstall unicorn==2.1.4")
        _opened = True
    return path


def _asked_of_importlib() -> str:
    from glob import escape, glob
    from importlib.util import find_spec

    spec = find_spec("unicorn")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if found := sorted(glob(os.path.join(escape(folder), "lib", "libunicorn.so*"))):
            return found[0]
    raise Unavailable("tcg needs Unicorn, which is not installed; run: pip install unicorn==2.1.4")

"""The engines for user code under translation, behind engine.h's table of functions.

`unicorn` runs every ISA; `translator` runs AArch64, faster, its threads in parallel, and leaves to Unicorn
what it does not translate.
"""

from __future__ import annotations

import os

from accel.errors import AccelError, nearest
from accel.native import ffi, lib
from accel.tcg.library import library, place

ENGINES = ("translator", "unicorn")


def user_engine(*, later: bool = False) -> int:
    """The address of Unicorn's `const emu_engine_ops`; libunicorn is opened now, or when it is first used.

    It is an integer because the runtime that uses it is another cffi module, which has types of its own.
    Raises Unavailable where Unicorn is not installed.
    """
    if later:
        lib.emu_uc_library_later(place().encode())
    else:
        library()
    return int(ffi.cast("uintptr_t", lib.emu_uc_user()))


def user_engines(name: str | None = None) -> list[int]:
    """The engines to try, in their order; name: one of ENGINES, None: $EMU_ENGINE, else the usual one.

    Raises AccelError for another name, Unavailable as user_engine does.
    """
    asked = ffi.NULL if name is None else ffi.new("char[]", os.fsencode(name))
    name = os.fsdecode(ffi.string(lib.emu_engine_name(asked)))
    if name not in ENGINES:
        raise AccelError(f"no engine is called {name!r}{nearest(name, ENGINES)}; use {' or '.join(ENGINES)}")
    if name == "unicorn":
        return [user_engine()]
    return [int(ffi.cast("uintptr_t", lib.emu_a64_user())), user_engine(later=True)]


def show(dump: str | None = None, *, perf: bool = False) -> None:
    """Appends guest code and its translations to the file `dump`, as bytes without capstone's library.

    perf: writes /tmp/perf-PID.map, where Linux's perf looks for it.
    """
    capstone = ffi.NULL
    if dump is not None:
        from importlib.util import find_spec
        from pathlib import Path

        spec = find_spec("capstone")
        for folder in spec.submodule_search_locations or () if spec is not None else ():
            for found in Path(folder).glob("lib/libcapstone.so*"):
                capstone = ffi.new("char[]", os.fsencode(found))
    name = ffi.NULL if dump is None else ffi.new("char[]", os.fsencode(dump))
    lib.emu_a64_show(name, capstone, perf)

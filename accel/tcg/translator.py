"""The engine that translates AArch64 programs: accel/native/a64_engine.c behind engine.h."""

from __future__ import annotations

import os

from accel.native import ffi, lib


def user_engine() -> int:
    """The address of a `const emu_engine_ops`, as an integer (see accel.tcg.user)."""
    return int(ffi.cast("uintptr_t", lib.emu_a64_user()))


def show(dump: str | None = None, *, perf: bool = False) -> None:
    """Appends guest code and its translations to the file `dump`; perf: writes /tmp/perf-PID.map.

    Without capstone's library the code is written as bytes.
    """
    capstone = ffi.NULL
    if dump is not None:
        from importlib.util import find_spec
        from pathlib import Path

        spec = find_spec("capstone")
        for place in spec.submodule_search_locations or () if spec is not None else ():
            for library in Path(place).glob("lib/libcapstone.so*"):
                capstone = ffi.new("char[]", os.fsencode(library))
    name = ffi.NULL if dump is None else ffi.new("char[]", os.fsencode(dump))
    lib.emu_a64_show(name, capstone, perf)

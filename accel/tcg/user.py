"""The engine for user code: accel/native/uc_user.c behind engine.h's table of functions."""

from __future__ import annotations

from accel.native import ffi, lib
from accel.tcg.library import library, place


def user_engine(*, later: bool = False) -> int:
    """The address of a `const emu_engine_ops`; libunicorn is opened now, or when the engine is first used.

    It is an integer because the runtime that uses it is another cffi module, which has types of its own.
    Raises Unavailable where Unicorn is not installed.
    """
    if later:
        lib.emu_uc_library_later(place().encode())
    else:
        library()
    return int(ffi.cast("uintptr_t", lib.emu_uc_user()))

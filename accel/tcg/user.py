"""The engine for user code: accel/native/uc_user.c behind engine.h's table of functions."""

from __future__ import annotations

from accel.native import ffi, lib
from accel.tcg.library import library


def user_engine() -> int:
    """The address of a `const emu_engine_ops`, with libunicorn open.

    It is an integer because the runtime that uses it is another cffi module, which has types of its own.
    Raises Unavailable where Unicorn is not installed.
    """
    library()
    return int(ffi.cast("uintptr_t", lib.emu_uc_user()))

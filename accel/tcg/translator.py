"""The engine that translates AArch64 programs: accel/native/a64_engine.c behind engine.h."""

from __future__ import annotations

from accel.native import ffi, lib


def user_engine() -> int:
    """The address of a `const emu_engine_ops`, as an integer (see accel.tcg.user)."""
    return int(ffi.cast("uintptr_t", lib.emu_a64_user()))

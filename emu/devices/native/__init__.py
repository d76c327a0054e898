"""Devices in C as Python sees them: `ffi` and `lib` of the module that build.py makes.

A device is in C where a guest's speed depends on it (interrupt controllers, virtqueues); its class in Python
makes it, connects it, saves and restores it.  Pointers of the core's types (core.h) go from accel.native to
here by cast().
"""

from __future__ import annotations

import accel.native as core
from accel.errors import NativeMissing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    import emu._devices as _devices
except ImportError as error:
    raise NativeMissing(f"the native core is not built ({error}); build it with: pip install -e .") from None

# cffi objects carry no static types; the signatures are in the headers beside this file.
ffi: Any = _devices.ffi
lib: Any = _devices.lib

lib.emu_core_link(ffi.cast("void *", int(core.ffi.cast("uintptr_t", core.lib.emu_core_table()))))


def cast(kind: str, pointer: Any) -> Any:
    """A pointer of accel.native's as this module's type `kind`; the caller keeps what it points at alive."""
    return ffi.cast(kind, int(core.ffi.cast("uintptr_t", pointer)))


def function(name: str, kind: str) -> Any:
    """This module's C function `name` as accel.native's type `kind`, for Region.native_ops and the like."""
    return core.ffi.cast(kind, int(ffi.cast("uintptr_t", ffi.addressof(lib, name))))


def opaque(pointer: Any) -> Any:
    """A pointer of this module's as accel.native's void *."""
    return core.ffi.cast("void *", int(ffi.cast("uintptr_t", pointer)))

"""The C side of emu as Python sees it: the ELF parser and Linux user mode's runtime, bound by build.py.

The runtime (../linux/native) knows no Python: it gets an engine as a table of functions
(accel/native/engine.h) and gives back a wait status.
"""

from __future__ import annotations

from accel.errors import NativeMissing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    import emu._native as _native
except ImportError as error:
    raise NativeMissing(f"the native core is not built ({error}); build it with: pip install -e .") from None

# cffi objects carry no static types; the signatures are in the headers beside this file.
ffi: Any = _native.ffi
lib: Any = _native.lib

"""The native core as Python sees it: `ffi` and `lib` of the cffi module built from this folder.

The C core (core.h and its siblings) knows no Python; build.py binds it.  Everything that must be fast is
on the C side: dispatch of accesses, registers without hooks, doorbells, run loops.
"""

from __future__ import annotations

from accel.errors import NativeMissing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

try:
    import accel._core as _core
except ImportError as error:
    raise NativeMissing(f"the native core is not built ({error}); build it with: pip install -e .") from None

# cffi objects carry no static types; the signatures are in the headers beside this file.
ffi: Any = _core.ffi
lib: Any = _core.lib


def called_from_c(
    keep: Callable[[Any, BaseException], None], answer: int | None = None, module: Any = ffi
) -> Callable[[Function], Function]:
    """Makes a function what C calls by its name: build.py declares it `extern "Python"`.

    Whatever it raises, a Ctrl-C between two of its instructions included, is given to keep(owner, exception),
    and C gets `answer`.  Its first argument is called `handle`, and stands for the owner (ffi.new_handle).
    module: the ffi of the module whose build.py that is.
    """

    def raised(kind: type[BaseException], error: BaseException, trace: TracebackType) -> None:
        keep(ffi.from_handle(trace.tb_frame.f_locals["handle"]), error)

    def register(function: Function) -> Function:
        module.def_extern(error=answer, onerror=raised)(function)
        return function

    return register

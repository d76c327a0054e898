"""Builds accel._core: the native core under cffi's API mode.

Every header named in HEADERS is read by cffi as it stands (binding.py); every .c file of this folder is
compiled.
"""

import importlib.util
import os
import platform
import runpy
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
HEADERS = (
    "core.h",
    "trace.h",
    "trace_read.h",
    "trace_machine.h",
    "engine.h",
    "kvm.h",
    "kvm_user.h",
    "uc.h",
    "a64_engine.h",
)


def unicorn_headers() -> str:
    """The folder of unicorn's headers, without importing the package."""
    spec = importlib.util.find_spec("unicorn")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("unicorn's headers are not installed: pip install unicorn==2.1.4")
    return str(Path(spec.submodule_search_locations[0]) / "include")


def makes(source: Path) -> bool:
    """Whether this host has a use for a source: the translator makes x86-64 code."""
    ours = platform.machine() == "x86_64" or source.name in ("a64_absent.c", "a64_decode.c")
    return ours or not (source.name.startswith("a64_") or source.name in ("a64.c", "translate.c"))


binding = runpy.run_path(str(HERE / "binding.py"))
declarations = binding["declarations"]

# By its path: to import accel.native is to need what is built here.
runpy.run_path(str(HERE / "decode_c.py"))["write"]()

ffi = FFI()
PYTHON_CALLBACKS = """
extern "Python" int emu_py_read(void *, uint64_t, uint32_t, uint64_t *);
extern "Python" int emu_py_write(void *, uint64_t, uint32_t, uint64_t);
extern "Python" void emu_py_irq(void *, uint32_t, int);
"""
present = [name for name in HEADERS if (HERE / name).exists()]
ffi.cdef("\n".join(declarations(HERE / name) for name in present) + PYTHON_CALLBACKS)
root = HERE.parent.parent
ffi.set_source(
    "accel._core",
    "\n".join(f'#include "{name}"' for name in present),
    sources=sorted(os.path.relpath(path) for path in HERE.glob("*.c") if makes(path)),
    include_dirs=[os.path.relpath(HERE), unicorn_headers()],
    depends=sorted(os.path.relpath(path) for path in HERE.glob("*.h")),
    extra_compile_args=binding["FLAGS"],
    libraries=["pthread", "dl"],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)

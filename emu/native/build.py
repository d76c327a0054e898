"""Builds emu._native: the ELF parser and Linux user mode's runtime under cffi's API mode.

As accel/native/build.py: the headers named in HEADERS are read by cffi, every .c file of FOLDERS is compiled.
"""

import os
import runpy
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FOLDERS = ("emu/native", "emu/linux/native")
HEADERS = (
    "accel/native/trace.h",
    "accel/native/engine.h",
    "emu/native/elf.h",
    "emu/linux/native/process.h",
    "emu/linux/native/watch.h",
)


binding = runpy.run_path(str(ROOT / "accel/native/binding.py"))
declarations = binding["declarations"]

# By its path: to import emu.native is to need what is built here.
runpy.run_path(str(HERE / "tables.py"))["write"](ROOT / "emu/linux/native/syscall_calls.h")

ffi = FFI()
ffi.cdef("\n".join(declarations(ROOT / name) for name in HEADERS))
ffi.set_source(
    "emu._native",
    "\n".join(f'#include "{Path(name).name}"' for name in HEADERS),
    sources=sorted(os.path.relpath(path) for folder in FOLDERS for path in (ROOT / folder).glob("*.c")),
    include_dirs=[os.path.relpath(ROOT / folder) for folder in (*FOLDERS, "accel/native")],
    depends=sorted(
        os.path.relpath(path) for folder in (*FOLDERS, "accel/native") for path in (ROOT / folder).glob("*.h")
    ),
    extra_compile_args=binding["FLAGS"],
    libraries=["pthread"],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)

"""Builds emu._devices: what devices do at every access, and what stands behind them, under cffi's API mode.

As accel/native/build.py: the headers named in HEADERS are read by cffi, every .c file of FOLDERS is compiled.
"""

import os
import runpy
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
FOLDERS = ("emu/devices/native", "emu/block/native", "emu/net/native", "emu/virtio/native")
HEADERS = (
    "emu/devices/native/core_link.h",
    "emu/devices/native/apic.h",
    "emu/devices/native/gic.h",
    "emu/devices/native/gic_lpi.h",
    "emu/devices/native/gic_its.h",
    "emu/devices/native/gicv2m.h",
    "emu/devices/native/pci.h",
    "emu/devices/native/pflash.h",
    "emu/block/native/block.h",
    "emu/block/native/copy.h",
    "emu/net/native/net_python.h",
    "emu/virtio/native/virtio_python.h",
)
PYTHON_CALLBACKS = """
extern "Python" int emu_py_virtio(void *, uint32_t, uint32_t, uint32_t);
extern "Python" int emu_py_console(void *, uint32_t, uint32_t, const uint8_t *, uint32_t);
"""


binding = runpy.run_path(str(ROOT / "accel/native/binding.py"))
declarations = binding["declarations"]

includes = (*FOLDERS, "accel/native")
ffi = FFI()
ffi.cdef(
    "typedef struct emu_region emu_region; typedef struct emu_space emu_space;"
    "typedef struct emu_irq emu_irq; typedef void (*emu_irq_fn)(void *, uint32_t, int);"
    "struct iovec { void *iov_base; size_t iov_len; };"
)
ffi.cdef("\n".join(declarations(ROOT / name) for name in HEADERS) + PYTHON_CALLBACKS)
ffi.set_source(
    "emu._devices",
    '#include "core.h"\n' + "\n".join(f'#include "{Path(name).name}"' for name in HEADERS),
    sources=sorted(os.path.relpath(path) for folder in FOLDERS for path in (ROOT / folder).glob("*.c")),
    include_dirs=[os.path.relpath(ROOT / folder) for folder in includes],
    depends=sorted(os.path.relpath(path) for folder in includes for path in (ROOT / folder).glob("*.h")),
    extra_compile_args=binding["FLAGS"],
    libraries=["pthread", "dl"],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)

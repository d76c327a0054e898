"""What the extension modules' build.py files share: how cffi reads a header, and how C is compiled.

They run this file by its path, since accel.native cannot be imported before it is built.  EMU_WERROR=1 in the
environment makes warnings errors, as CI does.
"""

import os
import re
from pathlib import Path


def declarations(header: Path) -> str:
    """A header's text without what cffi cannot read."""
    kept = []
    for line in header.read_text().splitlines():
        if line.startswith("#") and not re.match(r"#define \w+ (0x)?[0-9a-fA-F]+$", line):
            continue
        kept.append(line)
    return "\n".join(kept)


FLAGS = [
    "-std=c11",
    "-O2",
    "-g",
    "-Wall",
    "-Wextra",
    "-Wstrict-prototypes",
    "-Wno-unused-parameter",
    "-D_GNU_SOURCE",
    "-fvisibility=hidden",
    "-fno-strict-aliasing",
]
if os.environ.get("EMU_WERROR"):
    FLAGS.append("-Werror")

"""Builds and runs fuzz_a64: the translator against Unicorn, instruction by instruction.

    python tests/native/fuzz_a64.py [options of fuzz_a64.c]

Needs the unicorn package.  Objects are kept in build/fuzz and compiled again only where a source has changed.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CORE = ROOT / "accel" / "native"
BUILD = ROOT / "build" / "fuzz"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
FLAGS += ["-fno-strict-aliasing"]
# What the fuzzer does with a field is decided by its name; the others are immediates.
KINDS = (
    "rd",
    "rn",
    "rm",
    "ra",
    "rt",
    "rt2",
    "rs",
    "imm26",
    "imm19",
    "imm14",
    "imm12",
    "imm9",
    "imm7",
    "size",
)


def table(path: Path) -> None:
    """Write the encodings as the fuzzer wants them."""
    decode = runpy.run_path(str(CORE / "decode_c.py"))
    decode["write"](CORE)
    encodings = decode["load"]("aarch64")
    lines = [
        "/* Written by fuzz_a64.py from isa/aarch64.decode. */",
        "enum kind { " + ", ".join(f"K_{kind.upper()}" for kind in KINDS) + ", K_OTHER };",
        "static const struct table {",
        "    uint32_t mask, value, should;",
        "    struct field { const char *name; uint8_t kind, shift, width; } field[16];",
        "} table[A64_ENCODINGS] = {",
    ]
    for e in encodings:
        fields = ", ".join(
            f'{{ "{f.name}", K_{f.name.upper() if f.name in KINDS else "OTHER"}, {f.shift}, {f.width} }}'
            for f in e.fields.values()
        )
        bits = f"{e.mask:#010x}, {e.value:#010x}, {e.should:#010x}"
        lines.append(f"    [A64_{e.name}] = {{ {bits}, {{ {fields or '{ 0 }'} }} }},")
    lines += ["};", "", "static bool unpredictable(enum a64_encoding encoding, uint32_t word)", "{"]
    lines.append("    switch (encoding) {")
    for e in encodings:
        if e.open is not None:
            lines.append(f"    case A64_{e.name}:")
            lines.append(f"        return {decode['expression'](e, e.open)};")
    lines += ["    default:", "        return false;", "    }", "}", ""]
    text = "\n".join(lines)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def unicorn() -> Path:
    """The installed package's folder.  Raise LookupError if there is none."""
    from importlib.util import find_spec

    spec = find_spec("unicorn")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        return Path(folder)
    raise LookupError("Unicorn is not installed; run: pip install unicorn==2.1.4")


def build() -> Path:
    """Return the program's path.  Raise LookupError if something is missing that it is built with."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise LookupError("no C compiler (gcc) to build the fuzzer with")
    package = unicorn()
    library = sorted((package / "lib").glob("libunicorn.so*"))
    if not library:
        raise LookupError("Unicorn's package has no libunicorn.so; reinstall unicorn==2.1.4")
    BUILD.mkdir(parents=True, exist_ok=True)
    table(BUILD / "fuzz_a64_table.h")
    headers = [*CORE.glob("*.h"), *HERE.glob("*.h"), BUILD / "fuzz_a64_table.h"]
    newest = max(path.stat().st_mtime_ns for path in [*headers, Path(__file__)])
    sources = [*sorted(CORE.glob("*.c")), HERE / "fuzz_a64.c"]
    include = [f"-I{folder}" for folder in (CORE, HERE, BUILD, package / "include")]

    def compile(source: Path) -> Path:
        out = BUILD / f"{source.stem}.o"
        if not out.exists() or out.stat().st_mtime_ns < max(newest, source.stat().st_mtime_ns):
            define = f'-DLIBUNICORN="{library[0]}"'
            command = [compiler, *FLAGS, *include, define, "-c", str(source), "-o", str(out)]
            subprocess.run(command, check=True, timeout=300)
        return out

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile, sources))
    program = BUILD / "fuzz_a64"
    if not program.exists() or program.stat().st_mtime_ns < max(path.stat().st_mtime_ns for path in objects):
        subprocess.run([compiler, *map(str, objects), "-pthread", "-ldl", "-o", str(program)], check=True)
    return program


if __name__ == "__main__":
    try:
        os.execv(build(), ["fuzz_a64", *sys.argv[1:]])
    except (LookupError, subprocess.CalledProcessError) as error:
        sys.exit(f"fuzz_a64: {error}")

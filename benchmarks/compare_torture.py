"""gcc's torture programs and csmith's random ones, built for arm64, under emu and under their oracle.

    python benchmarks/compare_torture.py [--most N] [--level O0 ...] [--csmith SEEDS] [--json FILE]
    python benchmarks/compare_torture.py --most 0 --csmith 500

The torture programs (Debian's gcc-12-source, gcc.c-torture/execute) check themselves; each is built
statically at -O0 and -O2, as far as it builds, and must end under emu as under qemu-aarch64.  csmith's
programs, at -O0 to -O3 in turn, print a checksum, which must be that of the same program built for this
host; those that never end count as not built.  Prints what differs, and counts.  Needs apt,
aarch64-linux-gnu-gcc, gcc and, for its programs, csmith and libcsmith-dev.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CROSS = "aarch64-linux-gnu-gcc"
EMU = [str(Path(sys.executable).with_name("emu")), "--engine", "translator"]
SECONDS = 60
NATIVE_SECONDS = 5  # for a random program, which may loop for ever
LEVELS = ("O0", "O1", "O2", "O3")


def torture() -> list[Path]:
    """The programs' sources, unpacked from Debian's archive of gcc once."""
    from emu.samples.debian import cache, unpacked

    folder = cache() / "torture"
    if not folder.is_dir():
        archive = next(unpacked("gcc-12-source", "amd64").glob("usr/src/gcc-12/gcc-12*.tar.xz"))
        with tempfile.TemporaryDirectory(dir=cache()) as made:
            with tarfile.open(archive) as tar:
                wanted = [one for one in tar if "/gcc.c-torture/execute/" in one.name and one.isfile()]
                tar.extractall(made, wanted, filter="data")
            next(Path(made).glob("*/gcc/testsuite/gcc.c-torture/execute")).rename(folder)
    return sorted(folder.glob("**/*.c"))


def end(words: list[str], seconds: int = SECONDS) -> tuple[int | str, bytes]:
    """How a command ends, and what it prints."""
    try:
        done = subprocess.run(words, capture_output=True, timeout=seconds, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return "time", b""
    return done.returncode, done.stdout


def built(compiler: str, source: Path, out: Path, *flags: str) -> bool:
    words = [compiler, "-w", "-static", *flags, str(source), "-o", str(out), "-lm"]
    return subprocess.run(words, capture_output=True).returncode == 0


def one_torture(job: tuple[Path, str]) -> tuple[str, str]:
    """A program's name, and "same", "unbuilt" or how it differs."""
    source, level = job
    with tempfile.TemporaryDirectory() as made:
        out = Path(made) / "program"
        if not built(CROSS, source, out, f"-{level}"):
            return f"{source.stem} -{level}", "unbuilt"
        ours = end([*EMU, str(out)])
        theirs = (0, b"") if ours[0] == 0 else end(["qemu-aarch64", str(out)])
        same = ours[0] == theirs[0]
        return (
            f"{source.stem} -{level}",
            "same" if same else f"emu ends with {ours[0]}, qemu with {theirs[0]}",
        )


def one_csmith(seed: int) -> tuple[str, str]:
    level = LEVELS[seed % len(LEVELS)]
    name = f"csmith {seed} -{level}"
    with tempfile.TemporaryDirectory() as made:
        source, native, out = (Path(made) / file for file in ("program.c", "native", "program"))
        with open(source, "wb") as file:
            subprocess.run(["csmith", "--seed", str(seed)], stdout=file, check=True)
        include = "-I/usr/include/csmith"
        if not built("gcc", source, native, "-O1", include):
            return name, "unbuilt"
        theirs = end([str(native)], NATIVE_SECONDS)
        if theirs[0] == "time" or not built(CROSS, source, out, f"-{level}", include):
            return name, "unbuilt"
        ours = end([*EMU, str(out)])
        return name, "same" if ours == theirs else f"emu {ours}, native {theirs}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--most", type=int, default=sys.maxsize, help="torture programs")
    parser.add_argument("--every", type=int, default=1, help="only each N-th of them")
    parser.add_argument("--level", action="append", help="O0, O2 ...; both of these")
    parser.add_argument("--csmith", type=int, default=0, help="random programs")
    parser.add_argument("--first", type=int, default=1, help="their first seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.csmith and shutil.which("csmith") is None:
        print("csmith is not installed: apt-get install csmith libcsmith-dev", file=sys.stderr)
        return 2
    results: dict[str, str] = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        if options.most:
            sources = torture()[:: options.every][: options.most]
            jobs = [(source, level) for source in sources for level in options.level or ("O0", "O2")]
            results.update(pool.map(one_torture, jobs))
        seeds = range(options.first, options.first + options.csmith)
        results.update(pool.map(one_csmith, seeds))
    for name, result in results.items():
        if result not in ("same", "unbuilt"):
            print(f"{name}: {result}")
    count = {kind: list(results.values()).count(kind) for kind in ("same", "unbuilt")}
    differ = len(results) - sum(count.values())
    print(
        f"{len(results)} programs: {count['same']} the same, {differ} differ, {count['unbuilt']} do not build"
    )
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2))
    return 0 if differ == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

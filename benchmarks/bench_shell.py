"""Work in an arm64 root: `emu shell` beside qemu-user, which binfmt_misc starts in a chroot.

    python benchmarks/bench_shell.py [ROUNDS]

CPU time (user and system) of all that a command takes, in turn; median of the rounds and spread.
The kernel's binfmt_misc is one of a user namespace (Linux 6.7); the host's is not touched.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from emu.samples.debian import unpacked

sys.path.insert(0, str(Path(__file__).parent))
import binfmt

PACKAGES = ("bash", "coreutils", "gcc-12", "libc6-dev", "python3-minimal", "xz-utils")
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) { printf("%d %s\\n", argc, argv[0]); return EXIT_SUCCESS; }
"""
JOBS = {
    "nothing": ":",
    "200 programs, one after another": "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i + 1)); done",
    "a shell's pipes": "i=0; while [ $i -lt 60 ]; do echo $i | cat | tr 0 1 >/dev/null; i=$((i + 1)); done",
    "gcc -O2 of a small program, 4 times": "for i in 1 2 3 4; do gcc-12 -O2 /src/a.c -o /tmp/a; done; /tmp/a",
    "Python: a loop": "python3 -c 'print(sum(i * i for i in range(10**6)))'",
    "xz of 4 MB": "head -c 4000000 /usr/bin/aarch64-linux-gnu-gcc-12 /usr/bin/bash | xz -1 | wc -c",
}


def emu(root: Path, job: str) -> list[str]:
    return [sys.executable, "-m", "emu", "shell", str(root), "bash", "-c", job]


def qemu(root: Path, job: str) -> list[str]:
    static = unpacked("qemu-user-static", "amd64") / "usr/bin/qemu-aarch64-static"
    script = binfmt.register("arm64", str(static)) + (
        f'mount --rbind /dev "{root}/dev"; mount -t proc proc "{root}/proc"\n'
        f'mount -t tmpfs none "{root}/tmp"\n'
        f'exec chroot "{root}" /bin/bash -c "$1"\n'
    )
    return [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
        "sh",
        "-ec",
        script,
        "sh",
        job,
    ]


def cpu(words: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environ = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    subprocess.run(words, env=environ, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    packages = unpacked(PACKAGES, "arm64", closure=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        subprocess.run(["cp", "-a", packages, root], check=True)
        (root / "src").mkdir()
        (root / "src/a.c").write_text(PROGRAM)
        for name in ("dev", "proc", "tmp"):
            (root / name).mkdir(exist_ok=True)
        print(f"{'CPU seconds, median (spread)':40}{'emu shell':>20}{'qemu, binfmt':>20}{'qemu / emu':>12}")
        for name, job in JOBS.items():
            took: tuple[list[float], list[float]] = ([], [])
            for number in range(rounds + 1):
                for way, times in zip((emu, qemu), took, strict=True):
                    seconds = cpu(way(root, job))
                    if number:  # the first fills the page cache
                        times.append(seconds)
            cells = [f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f})" for times in took]
            ratio = statistics.median(took[1]) / statistics.median(took[0])
            print(f"{name:40}{cells[0]:>20}{cells[1]:>20}{ratio:>12.1f}", flush=True)


if __name__ == "__main__":
    main()

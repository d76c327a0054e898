"""What is tried of Debian's userland: the scripts beside this file, in sysroots made of packages.

Each script prints the same wherever its programs work, and leaves the same files; expected/ has what the
same packages for amd64 printed natively (benchmarks/compare_programs.py --record).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
# Two sysroots: one for daily use, about 60 MB to fetch, and one with compilers and Node on top, 130 MB.
DAILY = (
    "base-files", "base-passwd", "bash", "bsdutils", "bzip2", "coreutils", "dash", "diffutils", "findutils",
    "gawk", "git", "grep", "gzip", "libc-bin", "make", "openssl", "perl", "procps", "python3", "redis-server",
    "redis-tools", "sed", "sqlite3", "tar", "util-linux", "xz-utils", "zstd",
)  # fmt: skip
BUSYBOX = ("base-files", "base-passwd", "busybox-static")
ALL = (*DAILY, "g++-12", "libc6-dev", "nodejs", "openssh-client", "stress-ng")


class Case(NamedTuple):
    script: str
    packages: Sequence[str] = DAILY
    architecture: str = "arm64"

    @property
    def name(self) -> str:
        stem = self.script.partition(".")[0]
        return stem if self.architecture == "arm64" else f"{stem}-{self.architecture}"

    @property
    def expected(self) -> Path:
        """What it prints, its status and the files it leaves, on every architecture."""
        return HERE / "expected" / f"{self.script.partition('.')[0]}.txt"

    def sysroot(self, architecture: str = "") -> Path:
        """Raises Unavailable."""
        from emu.samples.debian import unpacked

        return unpacked(self.packages, architecture or self.architecture, closure=self.packages != BUSYBOX)


CASES = [
    Case("shell.bash"), Case("core.sh"), Case("find.sh"), Case("grep.sh"), Case("sed.sh"),
    Case("gawk.sh"), Case("tar.sh"), Case("git.sh"), Case("threads.py"), Case("subprocesses.py"),
    Case("loops.py"), Case("database.py"), Case("tls.py"), Case("perl.pl"), Case("openssl.sh"),
    Case("sqlite.sh"), Case("redis.sh"), Case("compile.sh", ALL), Case("make.sh", ALL), Case("node.js", ALL),
    Case("system.sh"), Case("stress.sh", ALL), Case("applets.sh", BUSYBOX),
    Case("applets.sh", BUSYBOX, "armhf"),
]  # fmt: skip


class Outcome(NamedTuple):
    """What a run printed, its status as subprocess has it, the files it left; and its CPU time."""

    output: str
    status: int
    files: dict[str, str]
    seconds: float

    @property
    def text(self) -> str:
        """As Case.expected has it."""
        left = "".join(f"left {name} {what}\n" for name, what in self.files.items())
        return f"{self.output}status {self.status}\n{left}"

    def same(self, other: Outcome) -> bool:
        return self[:3] == other[:3]


class Way:
    """How a program of a sysroot is run: by emu, with -L or --root; subclasses have others."""

    def __init__(self, option: str) -> None:
        self.name = f"emu {option}"
        self.option = option
        self.inside = option == "--root"  # the program sees nothing but the sysroot

    def command(self, case: Case, root: Path, folder: Path, words: list[str]) -> list[str]:
        """The host's command for the guest's; its working directory will be the host's `folder`."""
        return [sys.executable, "-m", "emu", "--accel", "tcg", self.option, str(root), *words]

    def run(self, case: Case, root: Path, timeout: float) -> Outcome:
        above = root / "tmp" if self.inside else Path(tempfile.gettempdir())
        for mount in ("tmp", "proc", "dev"):
            (root / mount).mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="emu-program-", dir=above) as made:
            for name in ("script", "work"):
                (Path(made) / name).mkdir()
            shutil.copy(HERE / case.script, Path(made) / "script")
            work = Path(made) / "work"
            started = os.times()
            command = self.command(case, root, work, [f"../script/{case.script}"])
            output, status = _run(command, work, timeout)
            ended = os.times()
            seconds = sum(ended[2:4]) - sum(started[2:4])
            return Outcome(output, status, dict(sorted(_files(work))), seconds)


def _run(command: list[str], work: Path, timeout: float) -> tuple[str, int]:
    environ = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/tmp"}
    process = subprocess.Popen(
        command, cwd=work, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True, umask=0o022,
    )  # fmt: skip
    late = False
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        late, output = True, error.stdout or b""
    finally:
        _end(process)
    text = output.decode(errors="replace")
    return (text + f"[still running after {timeout:.0f} s]\n" if late else text), process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of a run: all processes of its session."""
    for _ in range(100):
        left = []
        for entry in Path("/proc").iterdir():
            try:
                fields = (
                    (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
                )
            except OSError:
                continue
            if fields and int(fields[3]) == process.pid and fields[0] != "Z":
                left.append(int(entry.name))
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)


def _files(folder: Path) -> list[tuple[str, str]]:
    """Each file's name, and what it is."""
    found = []
    for path in folder.rglob("*"):
        status = path.lstat()
        what = stat.filemode(status.st_mode)
        if path.is_symlink():
            what += f" {path.readlink()}"
        elif path.is_file():
            what += " " + hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        found.append((str(path.relative_to(folder)), what))
    return found

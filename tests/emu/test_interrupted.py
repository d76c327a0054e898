"""Ctrl-C at any time: the process ends by the signal, the terminal is as it was, and nothing is left.

EMU_FUZZ_CASES in the environment sets at how many moments.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

import emu.block
from tests.emu.linux_guest import image, initrd

INSTALLED = Path(sys.executable).parent / "emu"
WRITER = """
echo WRITING
while :; do
    dd if=/dev/urandom of=/dev/vda bs=64k count=100 conv=fsync 2>/dev/null
    dd if=/dev/vda of=/dev/null bs=64k count=100 2>/dev/null
done
"""


@pytest.mark.skipif(not INSTALLED.exists(), reason="the command is not installed beside the interpreter")
def test_an_interrupt_while_the_interpreter_starts_ends_the_command(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import os\nos.kill(os.getpid(), 2)\n")
    done = subprocess.run(
        [INSTALLED, "boot", "--help"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


class Started:
    """`emu boot` on a terminal that is the one it is controlled by, in a session of its own."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        command = [INSTALLED] if INSTALLED.exists() else [sys.executable, "-m", "emu"]
        self.process = subprocess.Popen(
            [*command, "boot", *words],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={**os.environ, "TMPDIR": str(folder)},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            self.seen += os.read(self.master, 65536)

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            self.read(0.01)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def test_an_interrupt_at_any_moment_leaves_nothing_behind(tmp_path):
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    (tmp_path / "kernel").write_bytes(image())
    (tmp_path / "initrd").write_bytes(initrd(WRITER, ("virtio_mmio", "virtio_blk")))
    share, disk = tmp_path / "temporary", tmp_path / "disk"
    share.mkdir()
    words = ["--arch", "aarch64", "--accel", "tcg", "--memory", "256", "--append", "console=ttyAMA0 quiet"]
    words += ["--kernel", str(tmp_path / "kernel"), "--initrd", str(tmp_path / "initrd")]
    words += ["--share", str(share), "--drive", f"{disk},format=qcow2,discard=unmap"]
    for moment in range(int(os.environ.get("EMU_FUZZ_CASES", "6"))):
        disk.unlink(missing_ok=True)
        emu.block.create(disk, 64 << 20)
        started = Started(words, share)
        try:
            # Before the guest's first word, and some time after the disk is written to.
            if moment % 4 == 3:
                while b"WRITING" not in started.seen and started.process.poll() is None:
                    started.read(1)
            started.wait(rng.random() * rng.choice((0.1, 0.5, 2)))
            assert started.process.poll() is None, started.seen
            if moment % 2:
                os.killpg(started.process.pid, signal.SIGINT)
            else:  # the key is a signal, or the guest's where the terminal is raw: the second ends it
                os.write(started.master, b"\x03")
                started.wait(1)
                os.write(started.master, b"\x01x")
            started.wait(60)
            why = f"seed {seed}, moment {moment}: {started.seen[-2000:]!r}"
            assert started.process.poll() in ((-signal.SIGINT,) if moment % 2 else (-signal.SIGINT, 0)), why
            assert termios.tcgetattr(started.slave) == started.before, why
            assert b"Traceback" not in started.seen, why
            assert not list(share.iterdir()), why
            with pytest.raises(ProcessLookupError):
                os.killpg(started.process.pid, 0)
            if shutil.which("qemu-img"):
                subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", disk], check=True, timeout=60)
        finally:
            started.close()

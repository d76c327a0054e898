"""Job control: a guest's shell on a terminal, with a person's keys."""

import contextlib
import os
import pty
import select
import sys
import time

import pytest

from tests.linux.programs import ROOT
from tests.linux.test_debian import package


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, words: list[str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.environ["PS1"] = "ready> "
            os.execv(words[0], words)
        self.text = ""

    def expect(self, wanted: str, timeout: float = 30) -> None:
        """Reads until the program has printed `wanted`, and forgets everything up to there."""
        end = time.monotonic() + timeout
        while wanted not in self.text:
            left = end - time.monotonic()
            assert left > 0, f"{wanted!r} did not come; there is {self.text!r}"
            if select.select([self.fd], [], [], left)[0]:
                data = b""
                with contextlib.suppress(OSError):  # EIO: the program has ended
                    data = os.read(self.fd, 4096)
                assert data, f"the program ended before {wanted!r}; there is {self.text!r}"
                self.text += data.decode(errors="replace")
        self.text = self.text.partition(wanted)[2]

    def send(self, keys: str) -> None:
        os.write(self.fd, keys.encode())


@pytest.fixture
def shell():
    busybox = package("busybox-static", "arm64") + "/bin/busybox"
    terminal = Terminal([sys.executable, "-m", "emu", busybox, "sh", "-i"])
    terminal.expect("ready> ")
    yield terminal
    with contextlib.suppress(ProcessLookupError):
        os.kill(terminal.pid, 9)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(terminal.pid, 0)
    os.close(terminal.fd)


def test_ctrl_z_stops_a_program_and_fg_goes_on_with_it(shell):
    shell.send("sh -c 'echo begun; exec cat'\n")
    shell.expect("\nbegun")
    shell.send("one\n")
    shell.expect("one\r\none\r\n")
    shell.send("\x1a")
    shell.expect("Stopped")
    shell.expect("ready> ")
    shell.send("jobs\n")
    shell.expect("[1]+  Stopped")
    shell.expect("ready> ")
    shell.send("fg\n")
    shell.expect("exec cat")
    shell.send("two\n")
    shell.expect("two\r\ntwo\r\n")
    shell.send("\x04")
    shell.expect("ready> ")


def test_ctrl_c_ends_the_program_and_not_the_shell(shell):
    shell.send("sh -c 'echo begun; sleep 100'\n")
    shell.expect("\nbegun")
    shell.send("\x03")
    shell.expect("ready> ")
    shell.send("echo status $?\n")
    shell.expect("\nstatus 130")


def test_the_shells_exit_is_the_emulators(shell):
    shell.send("exit 7\n")
    assert os.waitstatus_to_exitcode(os.waitpid(shell.pid, 0)[1]) == 7

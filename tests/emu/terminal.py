"""A pseudo-terminal with a command on it, driven as a person would."""

import os
import pty
import select
import subprocess
import sys
import termios
import time

PROMPT = b"\r\n=> "


class Terminal:
    """`emu boot` on a pseudo-terminal."""

    def __init__(self, *options, command=("-m", "emu", "boot"), program=sys.executable, **named):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [program, *command, *options],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            **named,
        )
        self.seen = b""

    def wait_for(self, text, seconds=90):
        """Reads until `text` comes; returns everything up to its end."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {text!r} in {self.seen[-2000:]!r}"
            self.seen += os.read(self.master, 65536)
        at = self.seen.index(text) + len(text)
        found, self.seen = self.seen[:at], self.seen[at:]
        return found

    def type(self, keys):
        os.write(self.master, keys)

    def command(self, words):
        """Types a command at U-Boot's prompt and returns what it prints."""
        self.type(words.encode() + b"\r")
        self.wait_for(words.encode())
        return self.wait_for(PROMPT).decode()

    def prompt(self):
        """Stops U-Boot's autoboot and waits for its prompt."""
        self.wait_for(b"Hit any key")
        self.type(b" ")
        self.wait_for(b"=> ")

    def ended(self, seconds=20):
        """The exit status, after all output has been read."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, "it does not end"
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        return self.process.returncode

    def raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def restored(self):
        return termios.tcgetattr(self.slave) == self.before

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

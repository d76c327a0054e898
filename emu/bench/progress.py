"""How far it is, on stderr: one line that renews itself on a terminal, a line for each round elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from emu.bench.work import Job, Way


class Progress:
    """told() is called before each run; clear() takes the line away."""

    def __init__(self, rounds: int, steps: int, stream: TextIO | None = None) -> None:
        self._rounds = rounds
        self._steps = steps
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._done = 0
        self._turn = -1
        self._began = time.monotonic()

    def told(self, turn: int, job: Job, way: Way) -> None:
        """A run begins."""
        if self._live:
            left = ""
            if self._done:
                rest = (time.monotonic() - self._began) / self._done * max(0, self._steps - self._done)
                left = f", {rest:.0f} s left"
            words = f"emu bench: round {turn + 1} of {self._rounds}, {job.title}, {way.engine}{left}"
            columns = shutil.get_terminal_size().columns
            self._stream.write(f"\r{words[: columns - 1]}\x1b[K")
            self._stream.flush()
        elif turn != self._turn:
            self._stream.write(f"emu bench: round {turn + 1} of {self._rounds}\n")
            self._stream.flush()
        self._turn = turn
        self._done += 1

    def clear(self) -> None:
        """Makes room for what is printed next."""
        if self._live and self._done:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

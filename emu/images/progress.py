"""What is being done, on stderr: a line that renews itself on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TextIO


class Progress:
    """Steps with their times, told while they go on.

    with Progress("debian-arm64") as progress:
        progress.step("unpacking", 136)
        for package in packages:
            ...
            progress.advance()
    print(progress.summary)                     76 s: fetching 21 s, unpacking 14 s, ...
    """

    def __init__(self, title: str, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.title = title
        self._quiet = quiet
        self.times: list[tuple[str, float]] = []
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty() and not quiet
        self._what = ""
        self._done = self._total = 0
        self._began = self._shown = 0.0

    def step(self, what: str, total: int = 0) -> None:
        """Begins a step, of `total` parts where that is known, and ends the one before."""
        self._end()
        self._what, self._done, self._total = what, 0, total
        self._began = time.monotonic()
        if self._live:
            self._show()
        elif not self._quiet:
            self._stream.write(f"emu: {self.title}: {what}\n")
            self._stream.flush()

    def advance(self, parts: int = 1) -> None:
        """So many parts more of the step are done."""
        self._done += parts
        # Not for every part: a terminal may be slow.
        if self._live and (self._done == self._total or time.monotonic() - self._shown > 0.1):
            self._show()

    @property
    def summary(self) -> str:
        """The time of all steps and of each."""
        steps = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in self.times)
        return f"{sum(seconds for _, seconds in self.times):.0f} s: {steps}"

    def _end(self) -> None:
        if self._what:
            self.times.append((self._what, time.monotonic() - self._began))
            self._what = ""

    def _show(self) -> None:
        self._shown = time.monotonic()
        count = f" {self._done} of {self._total}" if self._total else ""
        line = f"emu: {self.title}: {self._what}{count}"
        self._stream.write(f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K")
        self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

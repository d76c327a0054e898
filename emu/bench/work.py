"""What is measured: jobs that several engines do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Sample(NamedTuple):
    """Seconds of the CPU and of the clock that something took once."""

    cpu: float
    wall: float

    def each(self, count: int) -> Sample:
        """The share of one of so many."""
        return Sample(self.cpu / count, self.wall / count)

    def rounded(self) -> Sample:
        """To what a clock can tell; everything that is shown or stored is made of this."""
        return Sample(float(f"{self.cpu:.6g}"), float(f"{self.wall:.6g}"))


class Failed(Exception):
    """An engine could not do its work; the text is one line that says why."""


class Ran(NamedTuple):
    """What a run gave: samples by the names of the job's works, and what has to be the same for all."""

    samples: Mapping[str, Sample]
    output: bytes = b""


@dataclass
class Way:
    """How an engine does a job; `reason` says why it cannot, "" if it can."""

    engine: str
    isa: str
    run: Callable[[], Ran] | None = None
    reason: str = ""


@dataclass
class Work:
    """A row of bars: what was done, and what its time is for ("run", "call", "MiB" ...)."""

    suite: str
    name: str
    per: str = "run"


@dataclass
class Job:
    """Works that are done together, and the ways to do them.

    every: of so many rounds one is used, for jobs that take seconds.
    """

    works: list[Work]
    ways: list[Way] = field(default_factory=list)
    every: int = 1

    @property
    def title(self) -> str:
        return f"{self.works[0].suite}: {self.works[0].name}"

"""The rounds: every job by every way in turn, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from emu.bench.result import Row
from emu.bench.work import Failed, Job, Way

TYPE_CHECKING = False
if TYPE_CHECKING:
    # round, job, way
    Told = Callable[[int, Job, Way], None]


class Measured:
    """Jobs and the samples they have given so far: rows() may be asked at any time, also after Ctrl-C."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = list(jobs)
        self.rounds = 0  # that are complete
        self._rows: dict[int, dict[str, Row]] = {}
        self._output: dict[int, tuple[str, bytes]] = {}
        for job in self.jobs:
            for way in job.ways:
                self._rows[id(way)] = {
                    work.name: Row(work.suite, work.name, work.per, way.engine, way.isa, _line(way.reason))
                    for work in job.works
                }

    def rows(self) -> list[Row]:
        """In the order of the jobs; each suite's works together, and each work's ways."""
        found = [
            self._rows[id(way)][work.name] for job in self.jobs for work in job.works for way in job.ways
        ]
        suites = list(dict.fromkeys(row.suite for row in found))
        return sorted(found, key=lambda row: suites.index(row.suite))

    def steps(self, rounds: int) -> int:
        """How many runs there are in so many rounds, if none fails."""
        return sum(
            sum(1 for way in job.ways if not way.reason) * len(range(0, rounds, job.every))
            for job in self.jobs
        )

    def run(self, rounds: int, told: Told | None = None) -> None:
        """All rounds.  What a run gave is in rows() as soon as it has ended."""
        for turn in range(rounds):
            for job in self.jobs:
                if turn % job.every:
                    continue
                # The order changes, so that none always comes first.
                first = turn // job.every % max(1, len(job.ways))
                for way in job.ways[first:] + job.ways[:first]:
                    if way.reason or way.run is None:
                        continue
                    if told is not None:
                        told(turn, job, way)
                    self._one(job, way)
            self.rounds = turn + 1

    def _one(self, job: Job, way: Way) -> None:
        assert way.run is not None
        try:
            ran = way.run()
        except Failed as error:
            self._fail(job, way, _line(str(error)))
            return
        first, wanted = self._output.setdefault(id(job), (way.engine, ran.output))
        if ran.output != wanted:
            self._fail(job, way, f"its result differs from {first}'s")
            return
        for name, sample in ran.samples.items():
            self._rows[id(way)][name].samples.append(sample.rounded())

    def _fail(self, job: Job, way: Way, reason: str) -> None:
        """This way is not gone any more; what it had given is not compared with the others'."""
        way.reason = reason
        for row in self._rows[id(way)].values():
            row.reason = reason
            row.samples.clear()


def _line(text: str) -> str:
    """A reason as it is printed: whatever somebody has written to us, in one line."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())

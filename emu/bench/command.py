"""`emu bench`: the command line."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from accel.errors import EmuError
from emu.bench.peers import ENGINES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable
    from types import FrameType

    from emu.bench.result import Result
    from emu.bench.work import Job

# By name, in the table's order; emu.bench.suites has what is behind them.
SUITES = ("user", "translate", "syscall", "mmio", "boot", "virtio")
ROUNDS = 5


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the options of `emu bench`."""
    add = parser.add_argument
    add("--suite", action="append", choices=SUITES, help="only this one; repeatable (default: all)")
    add("--engine", action="append", choices=list(ENGINES), help="only this one; repeatable (default: all)")
    add("--rounds", type=int, default=ROUNDS, metavar="N", help=f"turns of each (default: {ROUNDS})")
    add("--quick", action="store_true", help="a tenth of the work, for a first look")
    add("--json", metavar="FILE", help="write the result there, for --compare too; - is standard output")
    add("--csv", metavar="FILE", help="the same as a table of comma-separated values")
    add("--html", metavar="FILE", help="the same as a page with pictures")
    add("-q", "--quiet", action="store_true", help="no progress on standard error")
    add("--list", action="store_true", help="list suites and engines, and end")
    add("--show", metavar="FILE.json", help="show a stored result, make --html of it; run nothing")
    add("--compare", nargs=2, metavar=("A.json", "B.json"), help="compare two results, and run nothing")


def main(args: Namespace) -> int:
    """Runs `emu bench` and returns its exit status."""
    targets = {kind: getattr(args, kind) for kind in ("json", "csv", "html") if getattr(args, kind)}
    if args.compare:
        return _compare(args, targets)
    if args.list:
        return _list()
    if list(targets.values()).count("-") > 1:
        raise EmuError("only one of --json, --csv and --html can be written to standard output")
    if args.show:
        from emu.bench.result import load

        _tell(load(Path(args.show)), targets)
        return 0
    if not 1 <= args.rounds <= 1000:
        raise EmuError(f"--rounds {args.rounds}: give a number from 1 to 1000")
    from emu.bench.result import check_target

    for name in targets.values():
        if name != "-":
            check_target(Path(name))
    # What runs is in groups of its own, and has to be ended by us.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ended)
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        jobs = _jobs(args, Path(folder))
        result = run(jobs, args.rounds, args.quiet)
        result.quick = args.quick
    if not result.complete:
        rounds = f"{result.rounds} complete {'round' if result.rounds == 1 else 'rounds'}"
        print(f"emu bench: interrupted after {rounds}; what is done follows", file=sys.stderr)
    _tell(result, targets)
    if not result.complete:
        raise KeyboardInterrupt  # which ends the process by the signal
    return 0


def _ended(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def run(jobs: list[Job], rounds: int, quiet: bool = False) -> Result:
    """Measures; after Ctrl-C what is done, and `complete` is False."""
    from emu.bench.host import engines, host
    from emu.bench.measure import Measured
    from emu.bench.progress import Progress
    from emu.bench.result import Result

    measured = Measured(jobs)
    result = Result([], host(), engines(), 0, datetime.now(UTC).isoformat(timespec="seconds"))
    result.load = [round(value, 2) for value in os.getloadavg()]
    progress = Progress(rounds, measured.steps(rounds))
    try:
        measured.run(rounds, None if quiet else progress.told)
    except KeyboardInterrupt:
        result.complete = False
    progress.clear()
    result.rounds = measured.rounds
    # What was not begun before Ctrl-C says nothing.
    result.rows = [row for row in measured.rows() if row.samples or row.reason]
    return result


def _jobs(args: Namespace, folder: Path) -> list[Job]:
    from emu.bench.suites import jobs

    if not args.quiet:
        print("emu bench: making the guests", file=sys.stderr)
    found = jobs(args.suite or SUITES, folder, args.quick)
    for job in found:
        job.ways = [way for way in job.ways if not args.engine or way.engine in args.engine]
    found = [job for job in found if job.ways]
    if not found:
        raise EmuError("none of these engines takes part in these suites; see emu bench --list")
    return found


def _tell(result: Result, targets: dict[str, str]) -> None:
    """The files, and the table; the files first, since whoever reads the table may be gone."""
    from emu.bench.comma import to_csv
    from emu.bench.page import to_html
    from emu.bench.result import to_json, write
    from emu.bench.suites import SUITES as MADE
    from emu.bench.table import origin, text
    from emu.cli.colours import colourful

    about = {name: suite.about for name, suite in MADE.items()}
    forms: dict[str, Callable[[], str]] = {
        "json": lambda: to_json(result),
        "csv": lambda: to_csv(result),
        "html": lambda: to_html(result, about),
    }
    for kind, name in targets.items():
        if name != "-":
            write(Path(name), forms[kind]())
    for kind, name in targets.items():
        if name == "-":
            sys.stdout.write(forms[kind]())
    if "-" not in targets.values():
        print(text(result, colourful(sys.stdout), about))
        print(f"\n{origin(result)}")
    sys.stdout.flush()


def _list() -> int:
    from emu.bench.suites import SUITES as MADE

    for name, suite in MADE.items():
        print(f"{name:<12} {suite.about}")
    print()
    for name, about in ENGINES.items():
        print(f"{name:<12} {about}")
    return 0


def _compare(args: Namespace, targets: dict[str, str]) -> int:
    from emu.bench.compare import text
    from emu.bench.result import load
    from emu.cli.colours import colourful

    if targets:
        raise EmuError("--compare writes no files; leave --json, --csv and --html out")
    before, after = (load(Path(name)) for name in args.compare)
    if before.quick != after.quick:
        quick = args.compare[0] if before.quick else args.compare[1]
        raise EmuError(f"{quick} was made with --quick, and the other one not; make both in one way")
    print(text(before, after, colourful(sys.stdout)))
    return 0

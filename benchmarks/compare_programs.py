"""Debian's arm64 userland under emu beside qemu-aarch64 and beside the same packages run natively.

    python benchmarks/compare_programs.py [CASE ...] [--ways WAY ...] [--timeout S] [--record] [--json FILE]

A case is a script of tests/guest/debian; a way is `sysroot` (emu -L), `root` (emu --root), `qemu` or
`native`.  The scripts start children, so qemu needs the kernel's help to run them: it gets a binfmt_misc of
its own, in a user namespace (Linux 6.7), where only this run's processes are concerned, and is entered by
chroot.  Native is the same packages for amd64 in a chroot.  What was printed, the status and the files left
are compared; CPU time is that of the whole run, children included.  --record keeps what native printed as
what the tests expect.  (qemu 7.2 waits for ever in busybox's traceroute; without it, applets print the same.)
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import binfmt  # noqa: E402

from accel.errors import Unavailable  # noqa: E402
from emu.samples.debian import unpacked  # noqa: E402
from tests.guest.debian.programs import CASES, Case, Outcome, Way  # noqa: E402

ENTER = """\
set -e
mount --rbind /proc "$1/proc"
mount --rbind /dev "$1/dev"
root=$1 folder=$2
shift 2
exec unshare --root "$root" --wd "$folder" "$@"
"""


class Chroot(Way):
    """In a chroot: as the host's kernel runs it by itself, or with qemu's help."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inside = True

    def command(self, case: Case, root: Path, folder: Path, words: list[str]) -> list[str]:
        script, enter = ENTER, ["unshare", "--mount"]
        if self.name == "qemu":
            program = f"{binfmt.QEMU[case.architecture]}-static"
            qemu = unpacked("qemu-user-static", "amd64") / "usr/bin" / program
            enter.append("--map-root-user")
            script = binfmt.register(case.architecture, str(qemu)) + ENTER
        return [*enter, "sh", "-c", script, "sh", str(root), "/" + str(folder.relative_to(root)), *words]


WAYS = {"sysroot": Way("-L"), "root": Way("--root"), "qemu": Chroot("qemu"), "native": Chroot("native")}


def verdict(name: str, outcome: Outcome, others: dict[str, Outcome]) -> str:
    """Whom an outcome equals."""
    oracles = [oracle for oracle in ("qemu", "native") if oracle != name and oracle in others]
    same = [oracle for oracle in oracles if outcome.same(others[oracle])]
    if not oracles:
        return f"status {outcome.status}"
    return f"as {' and '.join(same)}" if same else "DIFFERS"


def difference(one: Outcome, other: Outcome) -> str:
    lines = [*difflib.unified_diff(other.output.splitlines(), one.output.splitlines(), lineterm="", n=0)][2:]
    if one.status != other.status:
        lines.append(f"status {one.status}, not {other.status}")
    for name in sorted(one.files.keys() | other.files.keys()):
        if one.files.get(name) != other.files.get(name):
            lines.append(f"{name}: {one.files.get(name)}, not {other.files.get(name)}")
    return "\n".join(lines)


def compare(case: Case, ways: list[str], timeout: float, record: bool) -> list[dict[str, Any]]:
    outcomes: dict[str, Outcome] = {}
    rows = []
    for name in ways:
        outcomes[name] = WAYS[name].run(case, case.sysroot("amd64" if name == "native" else ""), timeout)
    for name, outcome in outcomes.items():
        row = {"case": case.name, "way": name, "verdict": verdict(name, outcome, outcomes)}
        row |= {"status": outcome.status, "cpu_s": round(outcome.seconds, 2)}
        print(f"{case.name:<15}{name:<8}{row['cpu_s']:>8.1f} s  {row['verdict']}", flush=True)
        if row["verdict"] == "DIFFERS":
            oracle = "qemu" if "qemu" in outcomes and name != "qemu" else "native"
            row["difference"] = difference(outcome, outcomes[oracle])
            print("\n".join(f"    {line}" for line in row["difference"].splitlines()[:40]))
        rows.append(row)
    if record and "native" in outcomes:
        case.expected.parent.mkdir(exist_ok=True)
        case.expected.write_bytes(outcomes["native"].text.encode())
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Debian's arm64 programs under emu, qemu and natively.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names of scripts (all)")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--timeout", type=float, default=600, help="seconds for a run (600)")
    parser.add_argument("--record", action="store_true", help="keep what native prints for the tests")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    unknown = set(options.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(
            f"no case {', '.join(sorted(unknown))}; there are {', '.join(case.name for case in CASES)}"
        )
    rows: list[dict[str, Any]] = []
    try:
        for case in CASES:
            if not options.cases or case.name in options.cases:
                rows += compare(case, options.ways, options.timeout, options.record)
    except Unavailable as error:
        print(f"n/a: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted: what is done stands above", file=sys.stderr)
    differing = [row for row in rows if row["verdict"] == "DIFFERS"]
    print(f"{len(rows)} runs, {len(differing)} differ")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

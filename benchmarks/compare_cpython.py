"""CPython's own test suite under emu, beside qemu-user and native.

    python benchmarks/compare_cpython.py [--ways WAY,...] [--again] [--match PATTERN] [MODULE ...]

Debian's python3.11 and libpython3.11-testsuite run the modules (those of MODULES if none is named), in ways:

    native  the amd64 package on this host       kvm     the same, under emu with kvm
    emu     arm64's under emu with -L            root    the same with --root
    armhf   armhf's under emu with -L            qemu    arm64's under qemu-aarch64 with -L
    fast    arm64's under emu's translator

What became of each test is kept in emu's cache and is not run again; a test that hangs, or kills its process,
is told, and the module goes on behind it.  Ctrl-C keeps what is done.  Prints a table, and each test that
ends worse than it does natively.  Asserts nothing.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import uuid
from pathlib import Path
from typing import Any

from accel.errors import Unavailable
from emu.samples.debian import cache, unpacked

# fmt: off
MODULES = [
    "test_signal", "test_threading", "test_subprocess", "test_socket", "test_os", "test_posix", "test_mmap",
    "test_select", "test_selectors", "test_asyncio", "test_multiprocessing_fork", "test_fcntl", "test_pty",
    "test_time", "test_tempfile", "test_shutil", "test_io", "test_json", "test_hashlib", "test_sqlite3",
]
# Debian's architecture of each way.
WAYS = {
    "native": "amd64", "kvm": "amd64", "emu": "arm64", "fast": "arm64", "root": "arm64", "armhf": "armhf",
    "qemu": "arm64",
}
# fmt: on
HOWS = ["pass", "skip", "fail", "error", "timeout", "died"]
PYTHON = "/usr/bin/python3.11"
PACKAGE = "libpython3.11-testsuite"
DRIVER = Path(__file__).resolve().parent / "guest" / "suite.py"
# In the environment of all that a run starts, so that it can be ended with it.
MARK = "EMU_COMPARE"


def command(way: str, root: Path) -> list[str]:
    """What runs python, without its arguments."""
    emu = [sys.executable, "-m", "emu"]
    found = {
        "native": [f"{root}{PYTHON}"],
        "kvm": [*emu, "--accel", "kvm", f"{root}{PYTHON}"],
        "emu": [*emu, "--engine", "unicorn", "-L", str(root), PYTHON],
        "fast": [*emu, "--engine", "translator", "-L", str(root), PYTHON],
        "armhf": [*emu, "-L", str(root), PYTHON],
        "root": [*emu, "--root", str(root), PYTHON],
        "qemu": ["qemu-aarch64", "-L", str(root), f"{root}{PYTHON}"],
    }
    return found[way]


def log_of(way: str, module: str) -> Path:
    return cache() / "cpython" / way / f"{module}.jsonl"


def read(log: Path) -> dict[str, dict[str, Any]]:
    """The ends of tests in a log; of a test that only began nothing is known yet."""
    ends = {}
    if log.exists():
        for line in log.read_text().splitlines():
            said = json.loads(line)
            if said["what"] == "end":
                ends[said["test"]] = said
    return ends


def finished(log: Path) -> bool:
    return log.exists() and '{"what": "finished"}' in log.read_text()


def starts(log: Path) -> int:
    return log.read_text().count('{"what": "start"') if log.exists() else 0


def last_begun(log: Path) -> str:
    """The test that is running; "" between two."""
    test = ""
    if log.exists():
        for line in log.read_text().splitlines():
            said = json.loads(line)
            test = said["test"] if said["what"] == "begin" else ""
    return test


def end_all(mark: str) -> None:
    """Kills every process of a run, wherever it has gone: tests make sessions of their own."""
    for _ in range(5):
        alive = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                    alive.append(int(entry.name))
            except OSError:
                continue
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        if not alive:
            return
        time.sleep(0.2)


def complete(root: Path, module: str) -> None:
    """Debian's package leaves test_sqlite3 out: this host's Python 3.11 has it, made for the same library."""
    inside, mine = root / "usr/lib/python3.11/test", Path(sysconfig.get_path("stdlib")) / "test" / module
    missing = not (inside / module).exists() and not (inside / f"{module}.py").exists()
    if missing and mine.is_dir() and sys.version_info[:2] == (3, 11):
        shutil.copytree(mine, inside / module, ignore=shutil.ignore_patterns("__pycache__"))


def run(way: str, module: str, patterns: list[str], whole: float, each: float) -> None:
    """Runs what is not in the log yet, until it is all there or `whole` seconds have passed."""
    log = log_of(way, module)
    log.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + whole
    root = unpacked(PACKAGE, WAYS[way], closure=True)
    complete(root, module)
    # Confined programs see nothing outside of their root.
    inside = Path("/tmp") / f"emu-cpython-{way}-{module}-{os.getpid()}"
    place = root / inside.relative_to("/") if way == "root" else inside
    while time.monotonic() < end and not finished(log):
        mark, before = uuid.uuid4().hex, starts(log)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        shutil.copy(DRIVER, place)
        told = place / "log"
        if log.exists():
            shutil.copy(log, told)
        environment = {
            "HOME": str(inside),
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "TMPDIR": str(inside),
            MARK: mark,
        }
        words = [*command(way, root), str(inside / DRIVER.name), module, str(inside / "log"), *patterns]
        with open(log.with_suffix(".out"), "ab") as out:
            child = subprocess.Popen(
                words, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
            how, size, since = "", -1, time.monotonic()
            try:
                while child.poll() is None and not how:
                    time.sleep(0.2)
                    now = told.stat().st_size if told.exists() else 0
                    if now != size:
                        size, since = now, time.monotonic()
                    if time.monotonic() - since > each:
                        how = "timeout"
                    elif time.monotonic() > end:
                        how = "stopped"
            finally:
                end_all(mark)
                child.wait()
                if told.exists():
                    shutil.copy(told, log)
        if starts(log) == before:
            last = log.with_suffix(".out").read_text(errors="replace").strip().splitlines()[-1:]
            print(f"{way}: {module} does not start: {' '.join(last)}", file=sys.stderr)
            break
        if not finished(log) and how != "stopped":
            test = last_begun(log) or f"test.{module} (no test)"
            text = f"{each:.0f} s" if how else f"wait status {child.returncode}"
            said = {"what": "end", "test": test, "how": how or "died", "seconds": each, "text": text}
            with open(log, "a") as file:
                file.write(json.dumps(said) + "\n")
            if test.endswith("(no test)"):
                break
    shutil.rmtree(place, ignore_errors=True)


def same(mine: str, theirs: str) -> bool:
    """No worse than native: it may pass what native fails or skips."""
    return mine == theirs or mine == "pass" or (mine == "skip" and theirs != "pass")


def show(ways: list[str], modules: list[str], verbose: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    print(
        f"{'module':<26}{'way':<8}{'tests':>6}"
        + "".join(f"{how:>8}" for how in HOWS)
        + f"{'worse':>7}{'s':>7}"
    )
    for module in modules:
        native = read(log_of("native", module))
        for way in ways:
            log = log_of(way, module)
            ends = read(log)
            if not ends:
                continue
            counts = collections.Counter(said["how"] for said in ends.values())
            worse = [t for t, said in ends.items() if t in native and not same(said["how"], native[t]["how"])]
            worse += [
                t for t, said in ends.items() if t not in native and said["how"] not in ("pass", "skip")
            ]
            took = sum(said["seconds"] for said in ends.values())
            part = "" if finished(log) else f"   not finished; native has {len(native)}"
            print(
                f"{module:<26}{way:<8}{len(ends):>6}"
                + "".join(f"{counts[how] or '-':>8}" for how in HOWS)
                + f"{len(worse) or '-':>7}{took:>7.0f}{part}"
            )
            found.setdefault(module, {})[way] = {
                "tests": len(ends), **counts, "seconds": round(took), "finished": finished(log),
                "worse": {t: {"how": ends[t]["how"], "text": ends[t]["text"]} for t in worse},
            }  # fmt: skip
    for rows in found.values():
        for way, row in rows.items():
            if way in ("native", "qemu") and not verbose:
                continue
            for test, said in row["worse"].items():
                lines = said["text"].strip().splitlines() or [""]
                print(f"{way}: {test}: {said['how']}: {lines[-1][:200]}")
                if verbose:
                    print("    " + "\n    ".join(lines))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description="CPython's own suite under emu, beside qemu-user and native."
    )
    parser.add_argument("--ways", default="native,emu", help=f"of {','.join(WAYS)} (native,emu)")
    parser.add_argument("--again", action="store_true", help="forget what is kept of the named modules")
    parser.add_argument(
        "--worse", action="store_true", help="forget, and run again, what ended worse than native"
    )
    parser.add_argument("--match", action="append", default=[], metavar="PATTERN", help="only these")
    parser.add_argument("--whole", type=float, default=1800, help="seconds for a module (1800)")
    parser.add_argument("--each", type=float, default=240, help="seconds for a test (240)")
    parser.add_argument("--show", action="store_true", help="run nothing, show what is kept")
    parser.add_argument("--verbose", action="store_true", help="whole texts of failures, and qemu's too")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="instead of all")
    options = parser.parse_args()
    # Who runs this in the background has set it to be ignored, and the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ways, modules = options.ways.split(","), options.modules or MODULES
    try:
        for module in modules:
            for way in [] if options.show else ways:
                log = log_of(way, module)
                if options.again:
                    log.unlink(missing_ok=True)
                if options.worse:
                    forget_worse(way, module)
                run(way, module, options.match, options.whole, options.each)
    except KeyboardInterrupt:
        print("interrupted: what is done follows", file=sys.stderr)
    except Unavailable as error:
        print(f"emu: {error}", file=sys.stderr)
        return error.status
    found = show(ways, modules, options.verbose)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")
    return 0


def forget_worse(way: str, module: str) -> None:
    """Leaves in the log what ended as it does natively."""
    log = log_of(way, module)
    if not log.exists():
        return
    native, ends = read(log_of("native", module)), read(log)
    kept = [
        said for test, said in ends.items()
        if (said["how"] in ("pass", "skip") if test not in native else same(said["how"], native[test]["how"]))
    ]  # fmt: skip
    log.write_text("".join(json.dumps(said) + "\n" for said in kept))


if __name__ == "__main__":
    sys.exit(main())

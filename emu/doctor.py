"""`emu doctor`: what this host can do.

Facts are gathered into one plain dictionary, which `--json` prints and the text is made from.  What can be
tried is tried: a sample program is translated and its output compared, and kvm is asked by accel.kvm.probe.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

from accel.errors import EmuError
from emu.cli import version
from emu.cli.colours import colourful
from emu.folders import configuration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

STATUSES = {"1": "this host cannot run programs of other architectures"}
_TYPICAL = b"The quick brown fox jumps over the lazy dog.\n" * 100
_GREEN, _YELLOW, _RED, _BOLD = "32", "33", "31", "1"


def add_arguments(parser: ArgumentParser) -> None:
    """Adds doctor's own options to an argparse parser."""
    parser.add_argument("--json", action="store_true", help="print the facts as one JSON object")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print nothing; the exit status says whether programs run"
    )
    parser.add_argument(
        "--syscalls",
        metavar="ISA",
        nargs="?",
        const="",
        help="print instead what is done with each Linux system call of an ISA (default: of all)",
    )
    parser.add_argument(
        "--kvm-device", metavar="PATH", default="/dev/kvm", help="the device to examine (default: /dev/kvm)"
    )


def main(args: Namespace) -> int:
    """Prints what was found; 0 if emu can run programs on this host, 1 if not (--syscalls: always 0)."""
    if args.syscalls is not None:
        from emu.linux.capabilities import main as capabilities

        return capabilities([args.syscalls] if args.syscalls else [])
    facts = examine(args.kvm_device)
    if args.quiet:
        pass
    elif args.json:
        import json

        print(json.dumps(facts, indent=2))
    else:
        print(text(facts, colourful(sys.stdout)))
    return 0 if facts["ok"] else 1


def examine(kvm_device: str = "/dev/kvm") -> dict[str, Any]:
    """The facts, as values that JSON can hold.

    "ok" says whether programs can be run; everything that cannot be used has a "reason" with the remedy.
    """
    versions = version.facts()
    uname = os.uname()
    native = {"core": _native("accel.native"), "user": _native("emu.native")}
    try:
        tcg = _tcg()
    except OSError as error:  # no folder for the sample, or no process to run it
        reason = f"a sample program cannot be run: {error.strerror}; see df, ulimit -u and TMPDIR"
        tcg = {"usable": False, "runs": {"programs": [], "machines": []}, "reason": reason}
    tcg["unicorn"] = versions["unicorn"]
    tcg["programs"] = "translator" if versions["translator"] else "unicorn"
    return {
        "emu": versions["emu"],
        "python": versions["python"],
        "host": {"machine": uname.machine, "kernel": uname.release, "cpus": len(os.sched_getaffinity(0))},
        "native": native,
        "tcg": tcg,
        "kvm": _kvm(kvm_device),
        "config": _config(),
        "capstone": versions["capstone"],
        "libslirp": versions["libslirp"],
        "ok": tcg["usable"],
    }


def _config() -> dict[str, Any]:
    """The configuration file, and what is wrong in it."""
    from emu.cli import SUBCOMMANDS
    from emu.cli.parser import parser_of
    from emu.config import ConfigError, settings

    file = configuration()
    known = ("run", *SUBCOMMANDS)
    try:
        for section in known if file else ():
            settings(file, section, parser_of(section).optionals(), known)
    except ConfigError as error:
        return {"path": file, "ok": False, "reason": str(error)}
    return {"path": file or None, "ok": True}


def _native(module: str) -> dict[str, Any]:
    """Whether a compiled module can be imported."""
    from importlib import import_module

    try:
        import_module(module)
    except (EmuError, ImportError) as error:
        return {"built": False, "reason": str(error)}
    return {"built": True}


def _kvm(path: str) -> dict[str, Any]:
    """The KVM device at `path`: usable, what was found, or why not."""
    from accel.choice import KVM_RUNS
    from accel.kvm.probe import probe

    usable, *findings = probe(path)
    facts: dict[str, Any] = {"device": path, "usable": usable.ok, "runs": {"programs": [], "machines": []}}
    if not usable.ok:
        return facts | {"reason": f"{usable.cause}; {usable.remedy}"}
    facts["runs"] = {f"{purpose}s": list(archs) for purpose, archs in KVM_RUNS.items()}
    facts["findings"] = {finding.name: finding._asdict() for finding in findings}
    return facts


def _tcg() -> dict[str, Any]:
    """Translation, tried on a sample program whose output Python can check."""
    from accel.tcg.unicorn import ISAS
    from emu.samples.checksum import program

    facts: dict[str, Any] = {"usable": False, "runs": {"programs": [], "machines": []}}
    wanted = f"aarch64 {zlib.crc32(_TYPICAL):08x}"
    with tempfile.TemporaryDirectory(prefix="emu-doctor-") as folder:
        path = Path(folder) / "checksum"
        path.write_bytes(program())
        path.chmod(0o755)
        start = time.perf_counter()
        try:
            run = subprocess.run(
                [sys.executable, "-m", "emu", "--no-config", "--accel", "tcg", str(path)],
                input=_TYPICAL,
                capture_output=True,
                timeout=60,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return facts | {"reason": "a sample program for arm64 did not end within 60 s"}
        took = time.perf_counter() - start
    said = run.stdout.decode(errors="replace").strip()
    if run.returncode == 0 and said == wanted:
        isas = sorted(ISAS)
        sample = {"printed": said, "seconds": round(took, 3)}
        return {"usable": True, "runs": {"programs": isas, "machines": isas}, "sample": sample}
    complaint = run.stderr.decode(errors="replace").strip().splitlines()
    reason = complaint[-1] if complaint else f"it printed {said!r}, not {wanted!r}"
    return facts | {"reason": f"a sample program for arm64 failed ({run.returncode}): {reason}"}


def text(facts: dict[str, Any], colour: bool = False) -> str:
    """The facts for a person; `colour` allows ANSI sequences."""

    def paint(code: str, word: str) -> str:
        return f"\x1b[{code}m{word}\x1b[0m" if colour else word

    def verdict(usable: bool) -> str:
        return paint(_GREEN, "usable") if usable else paint(_RED, "not usable")

    host, tcg, kvm = facts["host"], facts["tcg"], facts["kvm"]
    lines: list[tuple[str, str]] = [
        ("emu", f"{facts['emu']}, Python {facts['python']}"),
        ("host", f"{host['machine']}, Linux {host['kernel']}, {host['cpus']} CPUs"),
    ]
    for name, built in facts["native"].items():
        state = paint(_GREEN, "built") if built["built"] else f"{paint(_RED, 'not built')}: {built['reason']}"
        lines.append((f"native {name}", state))
    engine = f"Unicorn {tcg['unicorn'] or 'is not installed'}"
    if tcg["programs"] == "translator":
        engine = f"the translator for arm64 programs, {engine}"
    lines.append(("tcg", f"{verdict(tcg['usable'])}: {engine}"))
    if tcg["usable"]:
        sample = tcg["sample"]
        lines.append(("", f"a sample arm64 program ran in {sample['seconds'] * 1000:.0f} ms"))
    else:
        lines.append(("", tcg["reason"]))
    if kvm["usable"]:
        found = kvm["findings"]
        lines.append(("kvm", f"{verdict(True)}: {kvm['device']}, {_summary(found)}"))
        # One cause may have made several findings what they are.
        odd = dict.fromkeys((each["cause"], each["remedy"]) for each in found.values() if not each["ok"])
        lines += [("", paint(_YELLOW, f"{cause}; {remedy}")) for cause, remedy in odd]
    else:
        lines.append(("kvm", f"{verdict(False)}: {kvm['reason']}"))
    if facts["config"]["path"]:
        config = facts["config"]
        lines.append(("config", config["path"] if config["ok"] else paint(_RED, config["reason"])))
    lines.append(("capstone", facts["capstone"] or "not installed: no disassembly in traces"))
    slirp = facts["libslirp"] or "not installed: no user networking; apt-get install libslirp0"
    lines.append(("libslirp", slirp))
    table = [("", "Linux programs", "whole machines")]
    for name in ("tcg", "kvm"):
        programs, machines = (" ".join(facts[name]["runs"][kind]) or "-" for kind in ("programs", "machines"))
        table.append((name, programs, machines))
    width = max(len(row[1]) for row in table)
    return "\n".join(
        [f"{paint(_BOLD, name) + ' ' * (12 - len(name))} {value}" for name, value in lines]
        + ["", *(f"{a:<12} {b:<{width}}  {c}".rstrip() for a, b, c in table)]
    )


def _summary(found: dict[str, Any]) -> str:
    """The numbers among kvm's findings, as far as they could be found out."""
    words = {
        "api": "API {}",
        "module": "{}",
        "cpl0_ns": "{:.0f} ns an instruction at CPL 0",
        "exit_us": "{:.1f} us an exit",
        "syscall_cpl": "SYSCALL arrives at CPL {}",
        "max_vcpus": "{} vCPUs at most",
    }
    values = ((form, found[name]["value"]) for name, form in words.items() if name in found)
    return ", ".join(form.format(value) for form, value in values if value is not None)

"""Exit statuses are what help, manual page and documentation say; examples are understood."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emu import cli
from emu.cli import program
from emu.cli.man import page
from emu.cli.parser import parser_of
from emu.cli.status import COMMON, statuses_of
from emu.cli.usage import ENVIRONMENT
from emu.folders import TABLE
from tests.linux.programs import build

ROOT = Path(cli.__file__).parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text()
EMU = [sys.executable, "-m", "emu"]


def patched(patch, *words):
    """emu with these words, in which something is another."""
    return [
        sys.executable,
        "-c",
        f"import sys\n{patch}\nfrom emu.cli import main\nsys.exit(main(sys.argv[1:]))",
        *words,
    ]


def boots(*options):
    return [*EMU, "boot", "--accel", "tcg", "--serial", "null", *options]


# By status and who has it: what ends so.
CASES = {
    ("0", ""): [*EMU, "images"],
    ("2", ""): [*EMU, "boot"],
    ("70", ""): patched("import emu.doctor\nemu.doctor.examine = lambda *_: 1 // 0", "doctor"),
    ("128+N", ""): boots("--kernel", "spins", "--qmp", "unix:ready,server=on,wait=off"),
    ("N", "PROGRAM"): [*EMU, "--accel", "tcg", "./script"],
    ("126", "PROGRAM"): [*EMU, "./text"],
    ("127", "PROGRAM"): [*EMU, "./missing"],
    ("0", "binfmt"): [*EMU, "binfmt", "print"],
    ("0", "diff"): [*EMU, "diff", "--count", "1000", "root/born"],
    ("1", "diff"): patched(
        "from emu.diff import command\ncommand.compare = lambda *_, **__: None\ncommand.describe = str",
        "diff",
        "root/born",
    ),
    ("N", "shell"): [*EMU, "shell", "root", "/born"],
    ("126", "shell"): [*EMU, "shell", "root", "/text"],
    ("127", "shell"): [*EMU, "shell", "root", "/missing"],
    ("N", "trace"): [*EMU, "trace", "--limit", "1", "-o", "trace", "root/born"],
    ("126", "trace"): [*EMU, "trace", "./text"],
    ("127", "trace"): [*EMU, "trace", "./missing"],
    ("1", "boot"): boots("--machine", "microvm", "--no-reboot", "--firmware", "faults"),
    ("124", "boot"): boots("--kernel", "spins", "--timeout", "0"),
    ("126", "boot"): boots("--kernel", "cut"),
    ("N", "boot"): boots("--machine", "microvm", "--firmware", "tells"),
    ("1", "images"): [*EMU, "images", "remove", "debian-arm64"],
    ("1", "doctor"): patched("import tempfile\ntempfile.tempdir = '/nonexistent'", "doctor"),
    ("1", "demo"): patched(
        "from emu.cli import demo\ndemo.guests = lambda: False\ndemo.program_of_the_samples = lambda: True",
        "demo",
        "--offline",
    ),
    ("1", "man"): patched(
        "from emu.cli import man\nman.shutil.which = lambda name: 'false'\nsys.stdout.isatty = lambda: True",
        "man",
    ),
}
ROWS = [(status, name) for status, _, names in statuses_of() for name in names or [""]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the command lines name, and a home without anything."""
    folder = tmp_path_factory.mktemp("status")
    (folder / "text").write_text("no program\n")
    (folder / "text").chmod(0o755)
    (folder / "root").mkdir()
    shutil.copy(folder / "text", folder / "root")
    shutil.copy(build("born", "aarch64"), folder / "root" / "born")
    (folder / "script").write_text("#!/bin/sh\nexit 5\n")
    (folder / "script").chmod(0o755)
    (folder / "spins").write_bytes((0x1400_0000).to_bytes(4, "little"))
    (folder / "cut").write_bytes(b"\x7fELF")
    # From the reset vector: lidt of nothing, int3: a triple fault; mov al, 3; out f4h, al; hlt.
    for name, code in (("faults", "0f 01 1e 00 00 cc"), ("tells", "b0 03 e6 f4 f4")):
        (folder / name).write_bytes(bytes(0xFFF0) + bytes.fromhex(code).ljust(16, b"\x90"))
    return folder


def test_every_status_that_is_told_is_tried():
    assert set(ROWS) == set(CASES)


@pytest.mark.parametrize(("status", "name"), CASES)
def test_a_command_ends_with_the_status_that_is_told(status, name, folder):
    environ = {n: v for n, v in os.environ.items() if not n.startswith("XDG_")}
    environ |= {"HOME": str(folder), "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    process = subprocess.Popen(
        CASES[status, name],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if status == "128+N":
        end = time.monotonic() + 60
        while not (folder / "ready").exists() and time.monotonic() < end:
            time.sleep(0.02)
        process.terminate()
    told = process.communicate(timeout=120)
    wanted = {"128+N": 128 + signal.SIGTERM, "N": {"PROGRAM": 5, "boot": 7}.get(name, 3)}
    assert process.returncode == (wanted[status] if status in wanted else int(status)), told


def test_help_and_the_documentation_have_them():
    for name in ("run", *cli.SUBCOMMANDS):
        told = parser_of(name).format_help().partition("exit status:\n")[2]
        assert all(f"\n  {status:<8} " in f"\n{told}" for status in COMMON)
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    told = [(status, meaning, tuple(re.findall(r"`emu (\w+)`", names))) for status, meaning, names in rows]
    assert [row for row in statuses_of() if row not in told] == []


def test_the_documentation_has_the_variables_and_the_folders():
    told = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
    named = {name for name, _ in ENVIRONMENT}
    assert named <= set(told)
    assert {f"${variable}/emu" for variable, _, _ in TABLE.values()} <= set(told)
    asked = set()
    for path in (ROOT / "accel", ROOT / "emu"):
        for source in path.rglob("*.[pch]*"):
            if source.suffix in (".py", ".c", ".h"):
                asked |= set(
                    re.findall(r"""(?:environ[\w.]*[\[(]|getenv\()\s*["'](EMU_\w+)""", source.read_text())
                )
    assert {"EMU_CONFIG", "EMU_ENGINE", "EMU_TRACE_STEPS"} <= asked
    assert [name for name in asked if name not in PAGE] == []


def test_notes_are_told_or_not_and_what_was_chosen(folder):
    def told(*options):
        command = [
            *EMU,
            "boot",
            "--arch",
            "aarch64",
            "--accel",
            "kvm:tcg",
            "--serial",
            "null",
            "--timeout",
            "0",
        ]
        command += ["--kernel", folder / "spins", "--no-top", *options]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (run.returncode, run.stdout) == (124, "")
        return run.stderr.splitlines()

    (note,) = told()
    assert note.startswith("emu: running under tcg: ")
    assert told("--quiet") == []
    chosen = "emu: virt (aarch64) under tcg, 1 CPU, 128 MiB of RAM"
    assert told("--verbose") == [chosen, note]
    assert told("-q", "-v") == [chosen]
    quiet = subprocess.run([*EMU, "doctor", "--quiet"], capture_output=True, timeout=60, check=False)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, b"", b"")


EXAMPLES = [*program.EXAMPLES, *(each for _, _, examples in cli.SUBCOMMANDS.values() for each in examples)]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_command_line_that_is_understood(example, monkeypatch):
    words = shlex.split(re.split(r" [|>&]", example)[0])
    assert words[0] == "emu"
    if words[1] in cli.SUBCOMMANDS:
        parser_of(words[1]).parse_args(words[2:])
    else:
        asked = []
        monkeypatch.setattr(program, "run", lambda words, said: asked.append(words) or 0)
        assert program.main(words[1:]) == 0
        assert asked[0][0].startswith(("./", "/"))


@pytest.mark.parametrize(
    "renderer", [["groff", "-man", "-ww", "-Tutf8", "-z"], ["man", "--warnings=all", "-l"]]
)
def test_the_manual_page_is_set_without_a_warning(renderer, tmp_path):
    if shutil.which(renderer[0]) is None or shutil.which("groff") is None:
        pytest.skip(f"{renderer[0]} is not installed, whose opinion this is (apt-get install groff man-db)")
    (tmp_path / "emu.1").write_text(page())
    done = subprocess.run(
        [*renderer, tmp_path / "emu.1"], env={**os.environ, "MANWIDTH": "80"}, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    if renderer[0] == "man":
        said = re.sub(r".\x08", "", done.stdout.decode())
        for name in cli.SUBCOMMANDS:
            assert f"\n   emu {name}\n" in said
        assert "--no-config" in said


def test_emu_man_prints_it():
    run = subprocess.run([*EMU, "man"], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == page()

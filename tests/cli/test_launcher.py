"""The installed command: it runs arm64 programs without Python, to which it leaves everything else."""

import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emu.cli import SUBCOMMANDS
from emu.samples.checksum import program
from tests.linux.programs import build

ROOT = Path(__file__).parent.parent.parent
EMU = Path(sys.executable).parent / "emu"
PYTHON = [sys.executable, "-m", "emu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `born`, an arm64 program that shows what it was given, and what cannot be run so."""
    if not EMU.exists() or EMU.read_bytes()[:4] != b"\x7fELF":
        pytest.skip(f"{EMU} is not the launcher: it is built by pip install on x86-64")
    folder = tmp_path_factory.mktemp("launcher")
    shutil.copy(build("born", "aarch64"), folder / "born")
    (folder / "script").write_text(f"#!{folder}/born word\n")
    (folder / "sh-script").write_text("#!/bin/sh\nexit 5\n")
    (folder / "text").write_text("no program\n")
    (folder / "plain").write_bytes(program())
    for name in ("script", "sh-script", "text"):
        (folder / name).chmod(0o755)
    for name in SUBCOMMANDS:
        (folder / name).symlink_to("born")
    return folder


def run(folder: Path, command: list[str], *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": f"/nowhere::{folder}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "EMU_ENGINE": "translator",
    }
    return subprocess.run(
        [*command, *(word.format(folder=folder) for word in words)],
        cwd=folder,
        env={**environ, "A": "a", "EMPTY": "", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


# Where Python has no library it ends with a message of its own, and status 1.
BROKEN = {"PYTHONHOME": "/nonexistent"}

OURS = [
    "./born",
    "{folder}/born",
    "./born --accel kvm -L -- --help",
    "-- ./born",
    "--accel auto ./born",
    "--accel=tcg -- born",
    "--engine translator ./born",
    "--engine= ./born",
    "--engine=unicorn --engine=translator ./born",
    "-E B=b=c -E A -EC= -E B=d ./born x",
    "-E A=1 -E PATH={folder} -E EMPTY born",
    "-E A -E A=2 -E NONE ./born",
    "-0 name ./born x",
    "-0name -0other ./born",
    "-L {folder} /born",
    "-L/ -L{folder} -- /born",
    "--sysroot={folder} born",
    "--root {folder} /born",
    "--root={folder} born x y",
    "./script x",
    "-0 name script x",
    "-- boot x",
    "--accel auto doctor",
    "-E A demo",
    "./boot",
]

PYTHONS = [
    "",
    "--",
    "--help",
    "-h",
    "--version",
    "-V ./born",
    "--accel kvm:tcg ./born",
    "--accel kvm ./born",
    "--accel= ./born",
    "--accel",
    "--accelerate ./born",
    "--accel tcg",
    "--strace -o /dev/null ./born",
    "--stats -o /dev/null ./born",
    "-o x ./born",
    "--engine none ./born",
    "--engine unicorn ./born",
    "--dump-code /dev/null ./born",
    "--root {folder} -L {folder} ./born",
    "-L missing ./born",
    "-L born ./born",
    "--root missing /born",
    "-E =x ./born",
    "-E",
    "-0",
    "-Z ./born",
    "- x",
    "./missing",
    "missing",
    "./plain",
    "./text",
    "{folder}",
    "--root {folder} ./script",
    "boot --help",
    "doctor --help",
    "demo --unknown",
]


@pytest.mark.parametrize("line", OURS)
def test_an_arm64_program_needs_no_python_and_is_given_what_python_would_give_it(
    folder: Path, line: str
) -> None:
    words = line.split()
    ours, python = run(folder, [str(EMU)], *words, **BROKEN), run(folder, PYTHON, *words)
    given = ours.stdout.replace("variable PYTHONHOME=/nonexistent\n", "")
    assert (given, ours.stderr, ours.returncode) == (python.stdout, "", 3)
    assert python.stdout.startswith("argument ")


def test_a_map_for_perf_needs_no_python(folder: Path) -> None:
    command = [EMU, "--engine", "translator", "--perf-map", folder / "born"]
    process = subprocess.Popen(command, env=BROKEN, stdout=subprocess.PIPE)
    process.communicate(timeout=60)
    written = Path(f"/tmp/perf-{process.pid}.map")
    assert written.stat().st_size > 0
    written.unlink()
    assert process.returncode == 3


@pytest.mark.parametrize("line", [*PYTHONS, "an empty word", "a word that is too long"])
def test_everything_else_is_python_s(folder: Path, line: str) -> None:
    words = {"an empty word": [""], "a word that is too long": ["x" * 5000]}.get(line, line.split())
    ours, python = run(folder, [str(EMU)], *words), run(folder, PYTHON, *words)
    assert (ours.stdout, ours.stderr, ours.returncode) == (python.stdout, python.stderr, python.returncode)
    broken = run(folder, [str(EMU)], *words, **BROKEN)
    assert broken.returncode == 1
    assert "Python" in broken.stderr


@pytest.mark.parametrize("isa", ["arm", "riscv64", "x86_64"])
def test_a_program_of_another_isa_is_python_s(folder: Path, isa: str) -> None:
    path = str(build("born", isa))
    assert run(folder, [str(EMU)], "--accel", "tcg", path).returncode == 3
    assert run(folder, [str(EMU)], "--accel", "tcg", path, **BROKEN).returncode == 1


def test_another_engine_of_the_environment_is_python_s(folder: Path) -> None:
    assert run(folder, [str(EMU)], "./born", EMU_ENGINE="unicorn").returncode == 3
    assert run(folder, [str(EMU)], "./born", EMU_ENGINE="unicorn", **BROKEN).returncode == 1


def test_the_working_directory_s_modules_are_not_ours(folder: Path, tmp_path: Path) -> None:
    for name in ("emu", "isa", "accel"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit(9)\n")
    done = run(tmp_path, [str(EMU)], "--version")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_is_born_as_natively(folder: Path) -> None:
    """Into a process that ignores SIGPIPE and SIGUSR1, blocks SIGUSR2 and has a descriptor more."""
    if platform.machine() != "x86_64":
        pytest.skip("the oracle is the same program built for x86-64")

    def parent() -> None:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        os.dup2(0, 9)
        os.umask(0o27)

    def born(*command: str) -> list[str]:
        done = subprocess.run(
            [*command, "x"],
            cwd=folder,
            env={"A": "1", "EMU_ENGINE": "translator", **BROKEN},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            restore_signals=False,
            preexec_fn=parent,
        )
        assert done.returncode == 3
        return done.stdout.splitlines()

    (folder / "native").mkdir(exist_ok=True)
    shutil.copy(build("born", "x86_64"), folder / "native" / "born")
    natively = born(str(folder / "native" / "born"))
    assert f"signal {int(signal.SIGPIPE)} is ignored: 1" in natively
    assert born(str(EMU), "-0", str(folder / "native" / "born"), "./born") == natively


def test_a_missing_interpreter_is_told(folder: Path, tmp_path: Path) -> None:
    shutil.copy(EMU, tmp_path / "emu")
    done = run(folder, [str(tmp_path / "emu")], "--version", PATH=str(tmp_path))
    assert done.returncode == 127
    assert done.stderr.startswith("emu: python3.")
    assert done.stderr.endswith("; install emu again\n")

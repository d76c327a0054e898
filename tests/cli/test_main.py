"""The command line as a shell meets it."""

import json
import os
import platform
import signal
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from accel.choice import kvm_obstacle
from accel.errors import BadImage
from emu import __version__, cli

EMU = [sys.executable, "-m", "emu"]


def emu(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EMU, *words], capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the program path was asked to run, instead of running it."""
    body = types.ModuleType("emu.linux.run")
    calls: list[tuple[Any, ...]] = []

    def run_program(program: str, argv: list[str], **options: Any) -> int:
        calls.append((program, argv, options))
        return 7

    monkeypatch.setitem(sys.modules, body.__name__, body)
    monkeypatch.setattr(body, "run_program", run_program, raising=False)
    return calls


def test_version() -> None:
    run = emu("--version")
    assert (run.returncode, run.stderr) == (0, "")
    first, *others = run.stdout.splitlines()
    assert first == f"emu {__version__}"
    found = dict(line.split(maxsplit=1) for line in others)
    assert found["unicorn"] == metadata.version("unicorn")
    assert found["capstone"] == metadata.version("capstone")
    assert found["cffi"] == metadata.version("cffi")
    assert found["python"] == platform.python_version()
    assert found["kvm"].startswith("not usable: " if kvm_obstacle() else "usable")
    facts = json.loads(emu("--version", "--json").stdout)
    assert facts["emu"] == __version__
    assert [name for name in facts if name != "emu"] == list(found)
    assert facts["kvm"] == kvm_obstacle()


def test_help_has_an_example_of_every_subcommand() -> None:
    run = emu("--help")
    assert run.returncode == 0
    assert all(f"\n  {name} " in run.stdout and f"\n  emu {name}" in run.stdout for name in cli.SUBCOMMANDS)


@pytest.mark.parametrize("name", cli.SUBCOMMANDS)
def test_every_subcommand_s_help_has_an_example(name: str) -> None:
    run = emu(name, "--help")
    assert run.returncode == 0
    assert f"examples:\n  emu {name}" in run.stdout


def test_everything_after_the_program_belongs_to_it(runs: list[tuple[Any, ...]]) -> None:
    assert cli.main(["--accel", "tcg", "prog", "--accel", "kvm", "-L", "--", "--help"]) == 7
    plain = {"accel": "tcg", "environ": None}
    assert runs == [("prog", ["prog", "--accel", "kvm", "-L", "--", "--help"], plain)]


@pytest.mark.parametrize(
    "words",
    [
        ["--accel=kvm:tcg", "--sysroot=/s", "-0", "name", "p"],
        ["--accel", "kvm:tcg", "--sysroot", "/s", "-0name", "p"],
        ["-L", "/s", "--accel=kvm:tcg", "-0name", "--", "p"],
        ["-L/s", "--accel=kvm:tcg", "-0", "name", "--", "p"],
    ],
)
def test_an_option_s_value_is_joined_or_the_next_word(runs: list[tuple[Any, ...]], words: list[str]) -> None:
    assert cli.main(words) == 7
    named = {"sysroot": "/s", "accel": "kvm:tcg", "environ": None, "argv0": "name"}
    assert runs == [("p", ["p"], named)]


def test_variables_are_set_and_removed_in_the_guest_alone(
    runs: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GONE", "1")
    monkeypatch.setenv("KEPT", "1")
    assert cli.main(["-E", "A=b=c", "-E", "GONE", "-EEMPTY=", "p"]) == 7
    environ = runs[0][2]["environ"]
    assert (environ["A"], environ["EMPTY"], environ["KEPT"]) == ("b=c", "", "1")
    assert "GONE" not in environ
    assert "A" not in os.environ
    assert "GONE" in os.environ


@pytest.mark.parametrize("name", cli.SUBCOMMANDS)
def test_a_program_called_like_a_subcommand_can_be_run(runs: list[tuple[Any, ...]], name: str) -> None:
    assert cli.main(["--", name, "x"]) == 7
    assert cli.main([f"./{name}"]) == 7
    assert [(program, argv) for program, argv, _ in runs] == [
        (name, [name, "x"]),
        (f"./{name}", [f"./{name}"]),
    ]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ([], "which program shall be run?"),
        (["--"], "which program shall be run?"),
        (["--accel", "tcg"], "which program shall be run?"),
        (["--accel"], "--accel needs a value"),
        (["-E"], "-E needs a value"),
        (["-E", "=x", "p"], "-E =x names no variable"),
        (["--acel", "tcg", "p"], "there is no option --acel (did you mean --accel?); emu --help tells more"),
        (["--strace=x", "p"], "--strace takes no value"),
        (["-x", "p"], "there is no option -x"),
    ],
)
def test_a_wrong_use_is_told_in_one_line(words: list[str], cause: str) -> None:
    run = emu(*words)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith(f"emu: {cause}")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("boot --cpus two", "--cpus: 'two': a whole number is expected; emu boot --help tells more"),
        ("boot --timeout", "--timeout: expected one argument; emu boot --help tells more"),
        ("boot --timeout=-1", "--timeout: '-1': a value as SECONDS is expected; emu boot --help tells more"),
        ("top --delay x", "-d/--delay: 'x': a value as SECONDS is expected; emu top --help tells more"),
        ("doctor word", "there is a word too many, 'word'; emu doctor --help tells more"),
        (
            "images list --config x",
            "--config stands before the words list or fetch or remove, or belongs to another",
        ),
        ("images fetch", "the following arguments are required: IMAGE; emu images fetch --help tells more"),
    ],
)
def test_a_subcommand_s_wrong_use_is_told_in_one_line(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(line.split())
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"emu: {told}")
    assert error.count("\n") == 1


def test_an_error_is_one_line_and_its_status(
    runs: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **__: Any) -> int:
        raise BadImage("x.elf: two\nlines; remedy")

    monkeypatch.setattr(sys.modules["emu.linux.run"], "run_program", fails)
    assert cli.main(["p"]) == 126
    assert capsys.readouterr().err == "emu: x.elf: two lines; remedy\n"
    monkeypatch.setenv("EMU_TRACEBACK", "1")
    assert cli.main(["p"]) == 126
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith("\nemu: x.elf: two lines; remedy\n")


def script(body: str) -> list[str]:
    """A process that runs the command line with emu.linux.run replaced by `body`."""
    return [
        sys.executable,
        "-c",
        "import sys, types\n"
        "module = sys.modules['emu.linux.run'] = types.ModuleType('emu.linux.run')\n"
        f"def run_program(*_, **__):\n    {body}\n"
        "module.run_program = run_program\n"
        "from emu.cli import main\nsys.exit(main(['p']))",
    ]


def test_an_interrupt_ends_the_process_by_sigint_without_a_word() -> None:
    run = subprocess.run(script("raise KeyboardInterrupt"), capture_output=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (-signal.SIGINT, b"")


def test_a_reader_who_has_gone_ends_the_process_by_sigpipe_without_a_word() -> None:
    """Both what is written at once and what is still in the buffer at the end."""
    for body in ("[print('x' * 9999) for _ in range(99)]", "print('x')"):
        end, start = os.pipe()
        os.close(end)
        process = subprocess.run(script(body), stdout=start, stderr=subprocess.PIPE, timeout=60, check=False)
        os.close(start)
        assert (process.returncode, process.stderr) == (-signal.SIGPIPE, b"")


def test_a_missing_file_that_nobody_explained_is_still_one_line(tmp_path: Path) -> None:
    run = subprocess.run(
        script(f"open({str(tmp_path / 'none')!r})"), capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert run.stderr == f"emu: {tmp_path}/none: No such file or directory\n"


def test_standard_output_may_be_closed() -> None:
    run = subprocess.run(
        ["sh", "-c", '"$0" "$@" >&-', *script("return 5")], stderr=subprocess.PIPE, check=False
    )
    assert (run.returncode, run.stderr) == (5, b"")

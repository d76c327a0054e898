"""A start loads what it runs and no more."""

import os
import subprocess
import sys
from pathlib import Path

from emu.samples.checksum import program

# Costs milliseconds each, and no program's start needs them.
HEAVY = {
    "argparse", "asyncio", "capstone", "dataclasses", "enum", "inspect", "json", "pkg_resources", "platform",
    "re", "subprocess", "typing", "unicorn", "unittest", "urllib", "importlib.metadata",
}  # fmt: skip


# Of a user without a configuration file.
PLAIN = {name: value for name, value in os.environ.items() if name != "EMU_CONFIG"}
PLAIN["XDG_CONFIG_HOME"] = "/nonexistent"


def loaded_by(script: str, *words: str) -> set[str]:
    """The modules in memory after `script`, beyond those of a bare interpreter."""
    report = "\nimport sys; print(*sorted(sys.modules), sep='\\n')"

    def names(text: str) -> set[str]:
        run = subprocess.run(
            [sys.executable, "-c", text + report, *words],
            capture_output=True,
            text=True,
            env=PLAIN,
            check=True,
            timeout=60,
        )
        return set(run.stdout.split())

    return names(script) - names("")


def test_help_loads_nothing_but_the_command_line() -> None:
    script = "from emu.cli import main; assert main(['--help']) == 0"
    assert ours(loaded_by(script)) == {
        "emu", "emu.cli", "emu.cli.program", "emu.cli.status", "emu.cli.usage", "emu.folders",
        "accel", "accel.errors",
    }  # fmt: skip


def test_importing_emu_loads_no_machine() -> None:
    assert loaded_by("import emu") == {"emu"}


def ours(modules: set[str]) -> set[str]:
    return {
        name
        for name in modules
        if name.split(".")[0] in ("isa", "accel", "emu") and not name.endswith(".lib")
    }


def test_a_foreign_program_s_start_loads_what_runs_it(tmp_path: Path) -> None:
    """From the command line to where the runtime in C has the program loaded."""
    path = tmp_path / "program"
    path.write_bytes(program())
    path.chmod(0o755)
    script = (
        "import emu.cli, sys\nfrom emu.linux.process import Process\n"
        "Process.become = lambda self: sys.exit()\n"
        "try: emu.cli.main(sys.argv[1:])\n"
        "except SystemExit: pass"
    )
    loaded = loaded_by(script, "-E", "A=b", str(path))
    assert loaded & HEAVY == set()
    assert ours(loaded) == {
        "emu", "emu.cli", "emu.cli.program", "emu.folders", "emu.native", "emu._native",
        "emu.linux", "emu.linux.run", "emu.linux.process",
        "accel", "accel.errors", "accel.choice", "accel.native", "accel._core",
        "accel.tcg", "accel.tcg.user", "accel.tcg.library",
        "isa", "isa.arch",
    }  # fmt: skip


def test_the_choice_of_an_accelerator_loads_nothing_heavy() -> None:
    script = "from accel.choice import choose; choose('auto', 'x86_64', 'program')"
    assert loaded_by(script) & HEAVY == set()


def test_plain_words_mean_to_emu_boot_what_they_mean_to_argparse():
    from argparse import ArgumentParser

    from emu.boot import add_arguments
    from emu.cli.plain import Plain

    parser, plain = ArgumentParser(), Plain()
    add_arguments(parser)
    add_arguments(plain)
    for words in (
        "",
        "busybox-arm64",
        "-M virt --kernel k image --cpus 3 -m 64 --timeout 1.5 --snapshot",
        "--qmp a --qmp b --serial c --drive d --no-reboot --stats --no-top --gdb :1",
    ):
        said = plain.parse(words.split())
        assert said is not None
        assert vars(said) == vars(parser.parse_args(words.split()))
    for words in (
        "--help",
        "--cpus x",
        "--cpus",
        "--kernel=k",
        "--timeout -1",
        "a b",
        "--ker k",
        "--",
        "-m64",
    ):
        assert plain.parse(words.split()) is None


def test_a_machine_starts_without_modules_that_take_long_to_load(tmp_path):
    (tmp_path / "kernel").write_bytes((0x1400_0000).to_bytes(4, "little"))
    words = ["-X", "importtime", "-m", "emu", "boot", "--arch", "aarch64", "--accel", "tcg"]
    words += [
        "--serial",
        "null",
        "--no-top",
        "--timeout",
        "0",
        "--kernel",
        tmp_path / "kernel",
        "--qmp",
        f"unix:{tmp_path / 'qmp'},server=on,wait=off",
    ]
    run = subprocess.run(
        [sys.executable, *words], env=PLAIN, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 124, run.stderr
    loaded = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if "import time:" in line}
    assert "emu.monitor.server" in loaded
    slow = {"argparse", "inspect", "pathlib", "shutil", "subprocess", "tempfile", "json", "unicorn"}
    assert not loaded & slow

"""The configuration file: as if it stood on the command line; what is wrong in it is told by line and key."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from emu import cli, doctor
from emu.cli.parser import parser_of
from emu.config import settings
from emu.samples.checksum import program
from tests.cli.pages import blocks
from tests.linux.programs import build

EMU = [sys.executable, "-m", "emu"]
LAUNCHER = Path(sys.executable).parent / "emu"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(text): a user whose configuration file has it; returns its path."""
    monkeypatch.delenv("EMU_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    path = tmp_path / ".config" / "emu" / "config.toml"
    path.parent.mkdir(parents=True)

    def write(text):
        path.write_text(text)
        return path

    return write


def said(section, *words):
    return parser_of(section).parse_args(list(words))


BOOT = """
[boot]
machine = "virt"
cpus = 2
memory = 512
drive = ["one", "two"]
net = "none"
stats = true
timeout = 1.5
firmware = "~/firmware.bin"
"""


def test_a_section_is_as_if_it_stood_on_the_command_line(write, tmp_path):
    write(BOOT)
    given = said("boot")
    line = "--machine virt --cpus 2 --memory 512 --drive one --drive two --net none --stats --timeout 1.5"
    wanted = said("boot", "--no-config", *line.split(), "--firmware", f"{tmp_path}/firmware.bin")
    found, wished = vars(given), vars(wanted)
    names = set(tomllib.loads(BOOT)["boot"])
    assert {name: found[name] for name in names} == {name: wished[name] for name in names}
    assert set(given.configured) == names
    assert wanted.configured == []


def test_the_command_line_replaces_what_the_file_says(write):
    write(BOOT)
    given = said("boot", "--cpus", "1", "--drive", "mine", "-m", "1G")
    assert (given.cpus, given.drive, given.memory, given.machine) == (1, ["mine"], "1G", "virt")


def test_other_sections_are_other_subcommands(write):
    write("[top]\ndelay = 3\n[images]\nchanges = true\njson = true\n")
    assert said("boot").cpus == 1
    assert said("top").delay == 3.0
    assert said("images", "remove", "x").changes is True
    assert said("images").json is True
    assert said("images", "list").json is True


def test_the_file_is_where_the_command_line_or_the_environment_says(write, tmp_path, monkeypatch):
    write("[boot]\ncpus = 2\n")
    other = tmp_path / "other.toml"
    other.write_text("[boot]\ncpus = 3\n")
    assert said("boot").cpus == 2
    assert said("boot", "--config", str(other)).cpus == 3
    monkeypatch.setenv("EMU_CONFIG", str(other))
    assert said("boot").cpus == 3
    assert said("boot", "--no-config").cpus == 1
    monkeypatch.setenv("EMU_CONFIG", "/dev/null")
    assert said("boot").cpus == 1
    monkeypatch.delenv("EMU_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    assert said("boot").cpus == 1


WRONG = {
    "[boot]\nkernal = 'x'\n": "2: [boot] kernal: there is no such option (did you mean kernel?)",
    "\n\n[boot]\ncpus = 'two'\n": "4: [boot] cpus: 'two': a whole number is expected",
    "[boot]\ntimeout = -1\n": "2: [boot] timeout: -1: a value as SECONDS is expected",
    "[boot]\nkernel = true\n": "2: [boot] kernel: true: a text is expected",
    "[boot]\nkernel = ['x']\n": "2: [boot] kernel: a list: a text is expected",
    "[boot]\nkernel = 2026-11-29\n": "2: [boot] kernel: 2026-11-29: a text is expected",
    "[boot]\nstats = 'yes'\n": "2: [boot] stats: 'yes': true or false is expected",
    "[boot]\ndrive = [['x']]\n": "2: [boot] drive: a list: a text is expected",
    "[boot]\n[boot.cpus]\nx = 1\n": "[boot] cpus: a table: a whole number is expected",
    "[boot]\nimage = 'x'\n": "2: [boot] image: there is no such option",
    "[boot]\nconfig = 'x'\n": "2: [boot] config: there is no such option",
    "[boot]\nm = '1G'\n": "2: [boot] m: there is no such option",
    "[boot]\nkernel = 'x\n": '2:12: kernel: Expected "\'"',
    '[boot]\nkernel = "x\ncpus = 1\n': "2:12: kernel: Illegal character",
    "[boot]\ncpus = 1\ncpus = 2\n": "3:9: cpus: Cannot overwrite a value",
    "# fine\n[bot]\ncpus = 1\n": "2: no section is called [bot] (did you mean boot?)",
    "cpus = 1\n": "1: cpus stands in no section; write it below [run] or [boot]",
    "[run]\nacel = 'kvm'\n[boot": "3:6: Expected ']' at the end of a table declaration",
    "a = " + "[" * 5000: "it is nested too deeply",
}


@pytest.mark.parametrize(("text", "told"), WRONG.items(), ids=lambda value: value[:40])
def test_what_is_wrong_in_it_is_told_with_line_and_key(write, text, told, capsys):
    path = write(text)
    assert cli.main(["boot"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"emu: {path}:{told}" if told[0].isdigit() else f"emu: {path}:")
    assert told in error
    assert error.count("\n") == 1


def test_a_file_that_is_no_text_or_cannot_be_read_is_told(write, capsys, tmp_path):
    path = write("")
    path.write_bytes(b"[boot]\n# \xff\n")
    assert cli.main(["boot"]) == 2
    assert capsys.readouterr().err.startswith(f"emu: {path}:2: this is no UTF-8")
    for name, cause in (
        (tmp_path / "missing", "No such file or directory"),
        (tmp_path, "Is a directory"),
        ("/dev/zero", "a file of more than 1 MiB has no settings"),
    ):
        assert cli.main(["boot", "--config", str(name)]) == 2
        assert capsys.readouterr().err.startswith(f"emu: {name}: {cause}")


def test_an_image_has_precedence_over_the_file_and_not_over_the_command_line(write, capsys, monkeypatch):
    write('[boot]\nmachine = "pc"\nkernel = "/nowhere"\nmemory = "300M"\n')
    from emu.images import start

    asked = []
    monkeypatch.setattr("emu.images.start.prepare", lambda options, opened: asked.append(options))
    monkeypatch.setattr("emu.boot.run_boot", lambda options, signals: 0)
    assert start.prepare is not None
    assert cli.main(["boot", "debian-arm64"]) == 0
    assert (asked[0].machine, asked[0].kernel, asked[0].memory) == (None, None, "300M")
    assert cli.main(["boot", "debian-arm64", "--machine", "virt"]) == 0
    assert asked[1].machine == "virt"


def test_emu_doctor_looks_at_every_section(write):
    path = write("[boot]\ncpus = 1\n")
    assert doctor._config() == {"path": str(path), "ok": True}
    write("[boot]\ncpus = 'two'\n[doctor]\n")
    found = doctor._config()
    assert found["reason"].startswith(f"{path}:2: [boot] cpus: ")
    path.unlink()
    assert doctor._config() == {"path": None, "ok": True}


# -- programs ------------------------------------------------------------------------


def born(command, folder, *words, **environ):
    """What `born`, an arm64 program that shows what it was given, prints."""
    variables = {
        "HOME": os.environ["HOME"],
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(Path(cli.__file__).parents[2]),
    }
    return subprocess.run(
        [*command, *words],
        cwd=folder,
        env=variables | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path):
    shutil.copy(build("born", "aarch64"), tmp_path / "born")
    return tmp_path


@pytest.mark.parametrize("command", [EMU, [str(LAUNCHER)]], ids=["python", "launcher"])
def test_programs_have_a_section(write, folder, command):
    if command != EMU and not LAUNCHER.exists():
        pytest.skip(f"{LAUNCHER} is not there: it is built by pip install")
    write('[run]\nenv = ["A=file"]\nargv0 = "named"\n')
    done = born(command, folder, "./born")
    assert done.returncode == 3, done.stderr
    assert "argument named\n" in done.stdout or "argument 0=named" in done.stdout or "named" in done.stdout
    assert "variable A=file\n" in done.stdout
    done = born(command, folder, "-E", "A=line", "./born")
    assert "variable A=line\n" in done.stdout
    done = born(command, folder, "--no-config", "./born")
    assert "variable A=" not in done.stdout
    other = folder / "other.toml"
    other.write_text('["\\u0072un"]\nenv = ["A=other"]\n')
    for words, environ in ((("--config", str(other)), {}), ((), {"EMU_CONFIG": str(other)})):
        assert "variable A=other\n" in born(command, folder, *words, "./born", **environ).stdout
    write('[run]\nargv = "named"\n')
    done = born(command, folder, "./born")
    assert (done.returncode, done.stdout) == (2, "")
    assert "2: [run] argv: there is no such option (did you mean argv0?)" in done.stderr
    write('[run]\nsysroot = "/nowhere"\n')
    assert born(command, folder, "--root", str(folder), "/born").returncode == 3
    assert born(command, folder, "--config", "/nowhere/at/all", "./born").returncode == 2
    assert born(command, folder, "./born", EMU_CONFIG="/nowhere/at/all").returncode == 2


def test_the_launcher_asks_python_only_where_a_file_speaks_of_programs(write, folder):
    if not LAUNCHER.exists() or LAUNCHER.read_bytes()[:4] != b"\x7fELF":
        pytest.skip(f"{LAUNCHER} is not the launcher: it is built by pip install on x86-64")
    broken = {"PYTHONHOME": "/nonexistent"}
    (folder / "plain").write_bytes(program())

    def ours(*words, **environ):
        return born([str(LAUNCHER)], folder, *words, "./born", **broken, **environ).returncode == 3

    assert ours()
    write("[boot]\ncpus = 2\n")
    assert ours()
    assert ours(EMU_CONFIG="/dev/null")
    assert ours(EMU_CONFIG="")
    path = write("[run]\n")
    assert not ours()
    assert ours("--no-config")
    assert not ours("--config", "/dev/null")
    pipe = f"EMU_CONFIG=/dev/fd/3 exec '{LAUNCHER}' ./born 3<<END\n[run]\nenv = ['A=pipe']\nEND\n"
    assert "variable A=pipe\n" in born(["sh", "-c", pipe], folder).stdout
    assert ours(XDG_CONFIG_HOME="/nowhere")
    assert not ours(XDG_CONFIG_HOME=str(path.parents[1]), HOME="/nowhere")
    assert ours(XDG_CONFIG_HOME="relative", HOME="/nowhere")


def test_the_documentation_s_example_is_one(write):
    (example,) = blocks("docs/cli.md", "toml")
    write(example)
    found = tomllib.loads(example)
    for section in found:
        if section != "run":
            assert {name.replace("_", "-") for name in said(section).configured} == set(found[section])
    assert settings(str(write(example)), "run", parser_of("run").optionals(), tuple(found))["sysroot"]

"""Completion, as the shells do it: the words they offer are those that the parsers take."""

import re
import shutil
import subprocess
import sys

import pytest

from accel.choice import ACCELERATORS
from emu import cli
from emu.board import BOARDS
from emu.cli.commands import programs, subcommands
from emu.images.catalog import CATALOG
from emu.system.options import DONE, OPTIONS
from tests.emu.terminal import Terminal

SHELLS = ("bash", "zsh", "fish")
IMAGES = {image.name for image in CATALOG}
EVERY = {each.path: each for each in (programs(), *(each for one in subcommands() for each in one.all()))}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The scripts' paths, by the name of the shell."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        command = [sys.executable, "-m", "emu", "completion", shell]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        (folder / shell).write_text(done.stdout)
    return folder


def needed(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed, whose completion this is")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_to_its_shell(shell, scripts):
    needed(shell)
    done = subprocess.run(
        [shell, "-n", scripts / shell], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def offered_by_bash(scripts, lines):
    """What bash offers for the last word of each line, asked in one process."""
    script = """
        source "$0"
        for line in "$@"; do
            read -ra COMP_WORDS <<<"${line}x"
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            COMP_WORDS[COMP_CWORD]=${COMP_WORDS[COMP_CWORD]%x}
            COMPREPLY=()
            _emu
            echo "${COMPREPLY[*]}"
        done"""
    command = ["bash", "-c", script, scripts / "bash", *lines]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return [set(line.split()) for line in done.stdout.splitlines()]


def offered_by_fish(scripts, lines):
    script = "source $argv[1]; for line in $argv[2..]; complete -C $line | string split -f1 \\t; echo ==; end"
    command = ["fish", "-N", "-c", script, scripts / "fish", *lines]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return [set(part.split()) for part in done.stdout.split("==\n")[:-1]]


WANTED = {
    "emu bo": {"boot"},
    "emu --acc": {"--accel"},
    "emu --accel ": set(ACCELERATORS),
    "emu boot --accel t": {"tcg"},
    "emu boot --machine ": {name for name, _ in BOARDS if name != "none"},
    "emu boot -M mic": {"microvm"},
    "emu boot d": {name for name in IMAGES if name.startswith("d")},
    "emu boot --no-re": {"--no-reboot"},
    "emu images remove ": IMAGES,
    "emu images fetch busybox-a": {name for name in IMAGES if name.startswith("busybox-a")},
    "emu images rem": {"remove"},
    "emu images remove --cha": {"--changes"},
    "emu completion ": set(SHELLS),
    "emu --engine u": {"unicorn"},
    "emu -E A=1 bo": set(),
    "emu ./program --acc": set(),
    "emu -L /nowhere ./program boot --acc": set(),
}


@pytest.mark.parametrize(("shell", "offered"), [("bash", offered_by_bash), ("fish", offered_by_fish)])
def test_what_is_offered_is_what_the_parsers_take(shell, offered, scripts):
    needed(shell)
    found = dict(zip(WANTED, offered(scripts, list(WANTED)), strict=True))
    if shell == "fish":  # offers what a program's own words may be: files
        found = {line: words for line, words in found.items() if WANTED[line]}
    assert found == {line: WANTED[line] for line in found}


def test_bash_offers_every_option_and_subcommand_there_is(scripts):
    needed("bash")
    lines = {" ".join(("emu", *path, "-")): each for path, each in EVERY.items()}
    found = offered_by_bash(scripts, list(lines))
    for (line, command), words in zip(lines.items(), found, strict=True):
        assert words == {name for option in command.options for name in option.names}, line
    (first,) = offered_by_bash(scripts, ["emu "])
    assert first == set(cli.SUBCOMMANDS)


def test_emu_system_s_options_are_offered(scripts):
    needed("bash")
    script = 'source "$0"; complete -p emu-system-aarch64'
    done = subprocess.run(
        ["bash", "-c", script, scripts / "bash"], capture_output=True, text=True, check=True
    )
    words = set(re.findall(r"(?<=[ '])-[\w-]+(?=[ '])", done.stdout))
    assert {f"-{name}" for option in OPTIONS if option.becomes == DONE for name in option.names} <= words


def test_bash_completes_what_stands_behind_an_equals_sign(scripts):
    needed("bash")
    (found,) = offered_by_bash(scripts, ["emu boot --machine = pc"])
    assert found == {"pc"}


def test_zsh_completes_as_it_is_typed(scripts, tmp_path):
    needed("zsh")
    terminal = Terminal(program="zsh", command=("-f", "-i"), env={"PATH": "/usr/bin:/bin", "TERM": "dumb"})
    try:
        terminal.type(f"autoload -U compinit; compinit -u -D; source {scripts}/zsh; echo rea''dy\n".encode())
        terminal.wait_for(b"ready\r\n")
        for typed, whole in (
            ("emu boot --mach", "ine="),
            ("emu boot -M mic", "rovm "),
            ("emu images remove debian", "-arm64 "),
            ("emu images remove --ch", "anges "),
            ("emu --engine tra", "nslator "),
        ):
            terminal.type(typed.encode() + b"\t")
            terminal.wait_for(typed.encode() + whole.encode())
            terminal.type(b"\x15")
    finally:
        terminal.close()


def test_a_shell_that_is_not_known_is_told(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["completion", "zhs"])
    assert end.value.code == 2
    assert "'zhs' is none of bash, zsh, fish (did you mean zsh?)" in capsys.readouterr().err

"""`emu [OPTIONS] PROGRAM [ARGS ...]`: the options, and what they are scanned with.

The table is all that is known of them: help, manual page, completion and configuration file are made of it.
It is scanned by hand, for programs are started thousands of times.
"""

from __future__ import annotations

import sys

from accel.errors import EmuError, nearest
from emu.folders import configuration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

# Names, what its value is called ("" for a switch), what it does: those that subcommands have, too, and all.
SETTINGS = (
    (("--config",), "FILE", "take settings from FILE instead of ~/.config/emu/config.toml"),
    (("--no-config",), "", "take settings from no file"),
)
OPTIONS = (
    (
        ("--accel",),
        "SPEC",
        "what executes the guest: kvm, tcg (translation), kvm:tcg (the first that can), auto (the default:"
        " kvm where guest and host agree and it works, else tcg)",
    ),
    (("--engine",), "NAME", "what translates: translator (arm64 programs) or unicorn"),
    (("-L", "--sysroot"), "DIR", "look for the guest's files, its libraries above all, in DIR first"),
    (("--root",), "DIR", "let the guest see DIR as /, and no file outside it"),
    (("-E", "--env"), "VAR=VAL", "set a variable in the guest's environment; -E VAR removes it"),
    (("-0", "--argv0"), "ARGV0", "the program's argv[0], if it is not PROGRAM"),
    (("--strace",), "", "print the system calls, signals and ends of PROGRAM and its children on stderr"),
    (("--stats",), "", "print counts and times by system call when all of them have ended"),
    (("-o", "--output"), "FILE", "print that into FILE"),
    (
        ("-g", "--gdb"),
        "END",
        "wait for a debugger at END: a port, tcp::PORT or unix:PATH; END,wait=off: do not wait",
    ),
    (("--dump-code",), "FILE", "append translated code to FILE, guest code beside it (translator)"),
    (("--perf-map",), "", "write /tmp/perf-PID.map, for Linux's perf (translator)"),
    *SETTINGS,
)
# May come again; each counts.
REPEATED = ("--env",)
DESCRIPTION = (
    "Runs a Linux program of another architecture (arm64, armhf, riscv64, x86-64).  Everything after\n"
    "PROGRAM is the program's own; it sees this process's files, environment and terminal, and its exit\n"
    "status is emu's."
)
EXAMPLES = (
    "emu ./busybox-arm64 sh -c 'uname -m'",
    "emu -L /srv/arm64-root /usr/bin/python3 -c 'print(6 * 7)'",
    "emu -E LANG=C -0 sh ./busybox-arm64 -c 'echo $LANG'",
    "emu --strace ./busybox-arm64 ls /",
)
STATUSES = {
    "N": "the program's own exit status; a signal that kills it kills emu, too",
    "126": "the program cannot be executed",
    "127": "there is no such program",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declares them to who reads declarations of argparse's."""
    declare(parser, OPTIONS)
    parser.add_argument("program", metavar="PROGRAM", help="a file, or a name that is looked for in PATH")
    parser.add_argument("args", metavar="ARGS", nargs="...", help="the program's own words")


def declare(parser: ArgumentParser, options: tuple[tuple[tuple[str, ...], str, str], ...]) -> None:
    """Declares some of them."""
    for names, value, text in options:
        if value:
            action = "append" if names[-1] in REPEATED else "store"
            parser.add_argument(*names, metavar=value, action=action, help=text)
        else:
            parser.add_argument(*names, action="store_true", help=text)


def main(words: list[str]) -> int:
    """Does what the words say; returns the exit status, if the program cannot be run at all."""
    known = {name: (names[-1], value) for names, value, _ in OPTIONS for name in names}
    said: dict[str, Any] = {}
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            at += 1
            break
        if word == "-" or not word.startswith("-"):
            break
        at += 1
        if word in ("-h", "--help"):
            from emu.cli.usage import usage

            sys.stdout.write(usage())
            return 0
        if word in ("-V", "--version"):
            return version("--json" in words[at : at + 1])
        # --name=value, --name value, -Xvalue, -X value.
        if word.startswith("--"):
            name, joined, value = word.partition("=")
        else:
            name, joined, value = word[:2], word[2:], word[2:]
        option, takes = known.get(name, ("", ""))
        if not option:
            return misuse(f"there is no option {name}{nearest(name, (*known, '--help', '--version'))}")
        if not takes:
            if joined:
                return misuse(f"{name} takes no value")
            said[option] = True
            continue
        if not joined:
            if at == len(words):
                return misuse(f"{name} needs a value")
            value = words[at]
            at += 1
        if option in REPEATED:
            said.setdefault(option, []).append(value)
        else:
            said[option] = value
    if at == len(words):
        return misuse("which program shall be run?")
    named = {name[2:].replace("-", "_"): value for name, value in said.items()}
    file = named.pop("config", "") or configuration()
    if named.pop("no_config", False) or not file:
        return run(words[at:], named)
    return run(words[at:], configured(file, named))


def configured(file: str, said: dict[str, Any]) -> dict[str, Any]:
    """The options, and what a configuration file says where they say nothing.  Raises ConfigError."""
    from emu.cli import SUBCOMMANDS
    from emu.cli.parser import parser_of
    from emu.config import settings

    found = settings(file, "run", parser_of("run").optionals(), ("run", *SUBCOMMANDS))
    # What goes with another option goes with it.
    if "root" in said or "sysroot" in said:
        found.pop("root", None)
        found.pop("sysroot", None)
    options = {name: value for name, value in found.items() if value is not None} | said
    if not (options.get("strace") or options.get("stats") or "output" in said):
        options.pop("output", None)
    return options


def version(as_json: bool) -> int:
    """Prints which emu this is, and what it stands on."""
    from emu.cli.version import facts, text

    if as_json:
        import json

        sys.stdout.write(f"{json.dumps(facts(), indent=2)}\n")
    else:
        sys.stdout.write(text())
    return 0


def run(words: list[str], said: dict[str, Any]) -> int:
    """Runs the program of these words; said: the options that were given, by their names."""
    changes = said.pop("env", ())
    if "output" in said and not said.get("strace") and not said.get("stats"):
        return misuse("-o FILE is for what --strace or --stats print")
    environ = None
    if changes:
        from emu.linux.process import own_environ

        environ = dict(own_environ())
        for change in changes:
            name, sets, value = change.partition("=")
            if not name:
                return misuse(f"-E {change} names no variable; write -E VAR=VAL")
            if sets:
                environ[name] = value
            else:
                environ.pop(name, None)

    from emu.linux.run import run_program

    try:
        return run_program(words[0], words, environ=environ, **said)
    except EmuError as error:
        if error.status == 127 and "/" not in words[0]:
            error.args = (f"{error}{subcommand(words[0])}",)
        raise


def subcommand(word: str) -> str:
    """For the message about a program that is not there: the subcommand that may have been meant."""
    from emu.cli import SUBCOMMANDS

    if word in SUBCOMMANDS:
        return f"; the subcommand comes first: emu {word} [OPTIONS ...]"
    return nearest(word, (*SUBCOMMANDS, "--help", "--version")).replace("mean ", "mean emu ")


def misuse(cause: str) -> int:
    """Tells a wrong use of the command line; returns its exit status."""
    sys.stderr.write(f"emu: {cause}{'' if cause.endswith('?') else ';'} emu --help tells more\n")
    return 2

"""`emu man`: the manual page emu(1), of the tables that the parsers are made of, in man(7)'s macros."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator

from emu import __version__
from emu.cli import SUBCOMMANDS
from emu.cli import program as run
from emu.cli.commands import Command, Option, programs, subcommands
from emu.cli.status import statuses_of
from emu.cli.usage import ALWAYS, ENVIRONMENT
from emu.folders import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

STATUSES = {"1": "man(1) could not show it"}
CONFIGURATION = """\
Settings are read from config.toml (see FILES), or from what EMU_CONFIG or --config name.  A section is called
like a subcommand, and [run] is for emu PROGRAM; keys are long options without their dashes, and what stands
on the command line replaces them.  Switches are true or false, options that may come again are lists, and ~/
is the user's home."""
EXAMPLE = """\
[run]
sysroot = "~/arm64-root"

[boot]
memory = "1G"
net = ["user,hostfwd=tcp:127.0.0.1:2222-:22"]"""
BUGS = """\
A mistake of emu's own is told in one line, which names a file to attach to a report: it has the command line,
the versions, where it happened, and what emu doctor says of the host.  Where a machine's process ends by a
signal as SIGSEGV, attach what it has printed.  EMU_TRACEBACK=1 shows where any error was raised."""


def add_arguments(parser: ArgumentParser) -> None:
    """There are none."""


def main(args: Namespace) -> int:
    """Shows the page, or prints it; returns the exit status."""
    man = shutil.which("man")
    if man is None or not sys.stdout.isatty():
        sys.stdout.write(page())
        return 0
    return 1 if subprocess.run([man, "-l", "-"], input=page().encode(), check=False).returncode else 0


def page() -> str:
    """Its source."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield f'.TH EMU 1 "" "emu {__version__}" "User Commands"'
    yield from (".SH NAME", r"emu \- run programs and machines of other architectures")
    yield from (
        ".SH SYNOPSIS",
        ".B emu",
        r"[\fIOPTIONS\fR ...] \fIPROGRAM\fR [\fIARGS\fR ...]",
        ".br",
        ".B emu",
    )
    yield r"\fISUBCOMMAND\fR [\fIOPTIONS\fR ...]"
    yield from (".SH DESCRIPTION", _text(run.DESCRIPTION), ".SH OPTIONS")
    for option in programs().options:
        if option.names[0] not in ("-h",):
            yield from _option(option)
    yield from (r".TP", r"\fB\-\-\fR", "What follows is PROGRAM, even if it is called like a subcommand.")
    for name, text in ALWAYS:
        yield from (".TP", rf"\fB{_text(name)}\fR", _text(text))
    yield ".SH SUBCOMMANDS"
    for command in subcommands():
        yield from _command(command)
    yield ".SH EXAMPLES"
    yield from _shown(run.EXAMPLES)
    yield ".SH EXIT STATUS"
    for status, meaning, commands in statuses_of():
        of = f" (emu {', '.join(commands)})" if commands else ""
        yield from (".TP", rf"\fB{status}\fR", _text(meaning + of))
    yield from (".SH CONFIGURATION", _text(CONFIGURATION), *_shown(EXAMPLE.splitlines()))
    yield ".SH ENVIRONMENT"
    for name, text in ENVIRONMENT:
        yield from (".TP", rf"\fB{name}\fR", _text(text))
    yield ".SH FILES"
    for variable, usual, text in TABLE.values():
        place = usual if "emu" in usual else f"{usual}/emu"
        yield from (".TP", rf"\fI${variable}/emu\fR, \fI{_text(place)}\fR", _text(text))
    yield from (".SH BUGS", _text(BUGS), ".SH SEE ALSO", r"\fBqemu\fR(1), \fBstrace\fR(1), \fBgdb\fR(1)")


def _command(command: Command) -> Iterator[str]:
    yield f".SS {_text(' '.join(('emu', *command.path)))}"
    if len(command.path) == 1:
        _, text, examples = SUBCOMMANDS[command.path[0]]
        yield _text(text)
    else:
        yield _text(command.about)
        examples = ()
    for word in command.words:
        if word.text:
            yield from (".TP", rf"\fI{_text(word.value)}\fR", _text(word.text))
    for option in command.options:
        if option.names[0] not in ("-h", "--config", "--no-config"):
            yield from _option(option)
    if examples:
        yield ".PP"
        yield from _shown(examples)
    for action in command.actions:
        yield from _command(action)


def _option(option: Option) -> Iterator[str]:
    names = ", ".join(rf"\fB{_text(name)}\fR" for name in option.names)
    yield from (
        ".TP",
        f"{names} \\fI{_text(option.value)}\\fR" if option.value else names,
        _text(option.text),
    )


def _shown(lines: Iterable[str]) -> Iterator[str]:
    """Lines as they are."""
    yield from (".RS", ".nf", *(_text(line) for line in lines), ".fi", ".RE")


def _text(text: str) -> str:
    """A text in which roff finds nothing to obey."""
    lines = []
    for line in text.replace("\\", r"\e").replace("-", r"\-").replace("~", r"\(ti").splitlines():
        lines.append(rf"\&{line}" if line.startswith((".", "'")) else line)
    return "\n".join(lines)

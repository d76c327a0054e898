"""What `emu --help` says, of the tables that the words are parsed by."""

from __future__ import annotations

from textwrap import wrap

from emu.cli import SUBCOMMANDS
from emu.cli import program as programs
from emu.cli.status import statuses

WIDTH, COLUMN = 100, 22
# What is done at once, and no other option of a program's.
ALWAYS = (
    ("-h, --help", "this text; emu SUBCOMMAND --help tells more of one"),
    ("--version", "the version, and what of others emu uses; with --json as JSON"),
)
ENVIRONMENT = (
    ("EMU_CONFIG", "the file with settings, as --config"),
    ("EMU_ENGINE", "what translates, where --engine does not say"),
    ("EMU_TRACEBACK", "1: show where an error was raised"),
    ("NO_COLOR", "anything: no colours; there are none but on a terminal"),
)


def usage() -> str:
    """The text."""
    lines = [
        "usage: emu [OPTIONS ...] PROGRAM [ARGS ...]",
        "       emu SUBCOMMAND [OPTIONS ...]",
        "",
        programs.DESCRIPTION,
        "",
        "options:",
    ]
    for names, value, text in programs.OPTIONS:
        lines += row(" ".join((", ".join(names), value)).strip(), text)
    lines += row("--", "what follows is PROGRAM, even if it is called like a subcommand")
    for name, text in ALWAYS:
        lines += row(name, text)
    lines += ["", "subcommands:"]
    for name, (_, text, _) in SUBCOMMANDS.items():
        lines += row(name, first_sentence(text))
    lines += ["", "examples:", *(f"  {example}" for example in programs.EXAMPLES)]
    lines += [f"  {examples[0]}" for _, _, examples in SUBCOMMANDS.values() if examples]
    lines += ["", "environment:"]
    for name, text in ENVIRONMENT:
        lines += row(name, text)
    lines += ["", "exit status:"]
    for status, text in statuses(programs).items():
        lines += row(status, text)
    return "\n".join(lines) + "\n"


def first_sentence(text: str) -> str:
    """What a description begins with."""
    return " ".join(text.split()).split(". ")[0].partition(": ")[0].rstrip(".")


def row(name: str, text: str) -> list[str]:
    """A line or more: what it is, and what that means."""
    lines = wrap(text, WIDTH - COLUMN)
    head = f"  {name:<{COLUMN - 2}}"
    if len(head) > COLUMN or head[-1] != " ":
        lines.insert(0, "")
    return [(head + lines[0]).rstrip(), *(" " * COLUMN + line for line in lines[1:])]

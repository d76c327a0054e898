"""All command lines there are, as the parsers know them: completion and manual page are made of it."""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from emu.cli import SUBCOMMANDS
from emu.cli.parser import Parser, parser_of

# What a value is, where it is no word of a list.
FILE, FOLDER, ANY = "file", "folder", "any"


class Option(NamedTuple):
    """names: those it is asked for by; value: what its value is called, "" for a switch.

    words: what the value may be, where that is known; else kind says.
    """

    names: tuple[str, ...]
    value: str
    words: tuple[str, ...]
    kind: str
    text: str


class Word(NamedTuple):
    """A word that is no option; several: whether others of the kind may follow."""

    value: str
    words: tuple[str, ...]
    kind: str
    text: str
    several: bool


class Command(NamedTuple):
    """path: the words that it is asked for by, () for `emu PROGRAM`; about: a line for lists of commands."""

    path: tuple[str, ...]
    about: str
    options: list[Option]
    words: list[Word]
    actions: list[Command]
    body: Any  # the module that has it

    def all(self) -> Iterator[Command]:
        """It, and the actions below it."""
        yield self
        for action in self.actions:
            yield from action.all()


def programs() -> Command:
    """`emu PROGRAM`."""
    return _command((), "", parser_of("run"))


def subcommands() -> list[Command]:
    """Those of SUBCOMMANDS, in their order."""
    from emu.cli.usage import first_sentence

    return [
        _command((name,), first_sentence(text), parser_of(name)) for name, (_, text, _) in SUBCOMMANDS.items()
    ]


def _command(path: tuple[str, ...], about: str, parser: Parser) -> Command:
    options, words, actions = [], [], []
    for action in parser._actions:
        text = "" if action.help is None else parser._get_formatter()._expand_help(action)
        value = _value(action)
        if action.option_strings:
            options.append(
                Option(tuple(action.option_strings), value, *_may_be(action), " ".join(text.split()))
            )
        elif parsers := _parsers(action):
            told = {choice.dest: choice.help or "" for choice in action._get_subactions()}  # type: ignore[attr-defined]
            actions += [_command((*path, name), told.get(name, ""), each) for name, each in parsers.items()]
        else:
            several = action.nargs in ("*", "+", "...", "A...")
            words.append(Word(value, *_may_be(action), " ".join(text.split()), several))
    return Command(path, about, options, words, actions, parser.body)


def _parsers(action: Action) -> dict[str, Parser]:
    return action.choices if action.nargs == "A..." and isinstance(action.choices, dict) else {}


def _value(action: Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar is None and action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.metavar or action.dest.upper().replace("_", "-")


def _may_be(action: Action) -> tuple[tuple[str, ...], str]:
    """The words that a value may be, and of what kind it is otherwise."""
    if action.choices is not None:
        return tuple(map(str, action.choices)), ANY
    name = _value(action)
    if name and action.type is None and (known := VALUES.get(action.dest) or VALUES.get(name)) is not None:
        return tuple(known()), ANY
    if action.nargs == "...":
        return (), FILE
    if name.startswith(("FILE", "PATH", "PROGRAM")):
        return (), FILE
    return (), FOLDER if name.startswith("DIR") else ANY


# -- what values may be, by the option's or its value's name: asked of the tables that judge them ----------


def _accelerators() -> tuple[str, ...]:
    from accel.choice import ACCELERATORS

    return ACCELERATORS


def _engines() -> tuple[str, ...]:
    from accel.tcg.user import ENGINES

    return ENGINES


def _boards() -> tuple[str, ...]:
    from emu.board import BOARDS

    return tuple(dict.fromkeys(name for name, _ in BOARDS if name != "none"))


def _archs() -> tuple[str, ...]:
    from isa.arch import names

    return names()


def _cpus() -> tuple[str, ...]:
    from emu.system.types import ARM_CPUS, cpus

    return tuple(dict.fromkeys((*cpus("x86_64"), *ARM_CPUS)))


def _images() -> tuple[str, ...]:
    from emu.images.catalog import CATALOG

    return tuple(image.name for image in CATALOG)


VALUES: dict[str, Callable[[], Any]] = {
    "accel": _accelerators,
    "engine": _engines,
    "machine": _boards,
    "arch": _archs,
    "syscalls": _archs,
    "cpu": _cpus,
    "IMAGE": _images,
}

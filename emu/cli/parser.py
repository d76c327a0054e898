"""argparse as emu's subcommands have it: a mistake is one line, with what may have been meant."""

from __future__ import annotations

import os
import sys
from argparse import (
    SUPPRESS,
    Action,
    ArgumentError,
    ArgumentParser,
    ArgumentTypeError,
    RawDescriptionHelpFormatter,
)
from typing import Any, NoReturn

from accel.errors import nearest
from emu.folders import configuration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Formatter(RawDescriptionHelpFormatter):
    """As wide as the terminal.  One is made for every declared option, and argparse's loads shutil."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns() - 2)


def columns() -> int:
    """Of the terminal; 80 where there is none."""
    said = os.environ.get("COLUMNS", "")
    if said.isascii() and said.isdigit() and int(said) > 0:
        return int(said)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class Parser(ArgumentParser):
    """Of one subcommand, or of one of its actions.

    section: of the configuration file, "" for none; body: the module whose command it is.
    """

    def __init__(self, section: str = "", **given: Any) -> None:
        given.setdefault("formatter_class", Formatter)
        super().__init__(**given)
        self.section = section
        self.body: Any = None

    def error(self, message: str) -> NoReturn:
        text = " ".join(message.split()).removeprefix("argument ")
        sys.stderr.write(f"emu: {text}; {self.prog} --help tells more\n")
        raise SystemExit(2)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """What the words say, and where they say nothing the configuration file, else the options' defaults.

        configured: what of it is the file's, by name.
        """
        defaults: dict[str, Any] = {}
        for action in self.optionals():
            if action.default != SUPPRESS:
                if defaults.get(action.dest) is None:
                    given = action.default
                    defaults[action.dest] = (
                        self._get_value(action, given) if isinstance(given, str) else given
                    )
                action.default = None
        said, others = self.parse_known_args(args, namespace)
        if others:
            self.error(self.unknown(others[0]))
        found = self.settings(said)
        said.configured = []
        for name, default in defaults.items():
            if getattr(said, name, "") is None:
                setattr(said, name, default)
                if found.get(name) is not None:
                    setattr(said, name, found[name])
                    said.configured.append(name)
        return said

    def settings(self, said: Any) -> dict[str, Any]:
        """What the configuration file says.  Raises ConfigError."""
        file = "" if not self.section or said.no_config else said.config or configuration()
        if not file:
            return {}
        from emu.cli import SUBCOMMANDS
        from emu.config import settings

        return settings(file, self.section, self.optionals(), ("run", *SUBCOMMANDS))

    def optionals(self) -> list[Action]:
        """The options, those of its actions, too."""
        found = [action for action in self._actions if action.option_strings]
        for parser in self.parsers().values():
            found += parser.optionals()
        return found

    def unknown(self, word: str) -> str:
        """What is wrong with a word that nobody took."""
        if not word.startswith("-") or word == "-":
            return f"there is a word too many, {word!r}"
        name = word.partition("=")[0]
        names = [each for action in self.optionals() for each in action.option_strings]
        if name in names:
            return f"{name} stands before the words {' or '.join(self.parsers())}, or belongs to another"
        return f"there is no option {name}{nearest(name, names)}"

    def parsers(self) -> dict[str, Parser]:
        """The parsers of its actions, by name."""
        found: dict[str, Parser] = {}
        for action in self._actions:
            if action.nargs == "A..." and isinstance(action.choices, dict):
                found |= action.choices
        return found

    def _get_value(self, action: Action, arg_string: str) -> Any:
        """A value that its type may refuse; argparse calls it so, and would name a function of ours."""
        try:
            return super()._get_value(action, arg_string)
        except ArgumentError as error:
            if isinstance(error.__context__, ArgumentTypeError):
                raise
            raise ArgumentError(action, f"{arg_string!r}: {expected(action)} is expected") from None

    def _check_value(self, action: Action, value: Any) -> None:
        """A value that is none of those there are; argparse calls it so."""
        choices = action.choices
        if choices is not None and value not in choices:
            what = f"{action.option_strings[-1]}: " if action.option_strings else ""
            meant = nearest(str(value), map(str, choices))
            self.error(f"{what}{value!r} is none of {', '.join(map(str, choices))}{meant}")


# What is said of a text that a type refuses.
EXPECTED = {str: "a text", int: "a whole number", float: "a number"}


def expected(action: Action) -> str:
    """What a value must be, for a message."""
    return EXPECTED.get(action.type or str, f"a value as {action.metavar}")  # type: ignore[arg-type]


def parser_of(name: str) -> Parser:
    """The parser of a subcommand, or of `emu PROGRAM`, whose name is run."""
    from importlib import import_module

    from emu.cli import SUBCOMMANDS, program
    from emu.cli.status import statuses

    rows = {"run": (program.__name__, program.DESCRIPTION, program.EXAMPLES), **SUBCOMMANDS}
    path, text, examples = rows[name]
    body: Any = import_module(path)
    ends = [f"  {status:<8} {meaning}" for status, meaning in statuses(body).items()]
    epilog = "\n".join(("examples:", *(f"  {each}" for each in examples), "", "exit status:", *ends))
    parser = Parser(
        section=name, prog=f"emu {name}" if name != "run" else "emu", description=text, epilog=epilog
    )
    parser.body = body
    body.add_arguments(parser)
    if name != "run":  # whose own they are
        program.declare(parser, program.SETTINGS)
    return parser

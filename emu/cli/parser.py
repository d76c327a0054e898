"""argparse as emu's subcommands have it: a mistake is one line, with what may have been meant."""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser, RawDescriptionHelpFormatter
from typing import Any, NoReturn

from accel.errors import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Parser(ArgumentParser):
    """Of one subcommand, or of one of its actions."""

    def __init__(self, **given: Any) -> None:
        given.setdefault("formatter_class", RawDescriptionHelpFormatter)
        super().__init__(**given)

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"emu: {' '.join(message.split())}; {self.prog} --help tells more\n")
        raise SystemExit(2)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        said, others = self.parse_known_args(args, namespace)
        if others:
            self.error(self.unknown(others[0]))
        return said

    def unknown(self, word: str) -> str:
        """What is wrong with a word that nobody took."""
        if not word.startswith("-") or word == "-":
            return f"there is a word too many, {word!r}"
        name = word.partition("=")[0]
        return f"there is no option {name}{nearest(name, self.options())}"

    def options(self) -> list[str]:
        """The options' names, those of its actions, too."""
        names = [name for action in self._actions for name in action.option_strings]
        for parser in self.parsers().values():
            names += parser.options()
        return names

    def parsers(self) -> dict[str, Parser]:
        """The parsers of its actions, by name."""
        found: dict[str, Parser] = {}
        for action in self._actions:
            if action.nargs == "A..." and isinstance(action.choices, dict):
                found |= action.choices
        return found

    def _check_value(self, action: Action, value: Any) -> None:
        """A value that is none of those there are; argparse calls it so."""
        choices = action.choices
        if choices is not None and value not in choices:
            what = f"{action.option_strings[-1]}: " if action.option_strings else ""
            meant = nearest(str(value), map(str, choices))
            self.error(f"{what}{value!r} is none of {', '.join(map(str, choices))}{meant}")


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
    parser = Parser(prog=f"emu {name}" if name != "run" else "emu", description=text, epilog=epilog)
    body.add_arguments(parser)
    return parser

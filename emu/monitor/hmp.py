"""HMP: commands for people, of words; the human monitor without a terminal.

    @hmp("balloon")
    def balloon(monitor: Hmp, value: Mebibytes) -> str | None:
        \"\"\"Asks the guest to leave so many MiB in use.\"\"\"

A name of two words is one of `info`.  Parameters are words of the line in their order, by type: str (one
word, or several in quotes), int (an expression), Rest (all that is left), Format (as in x/4xw, at the
command); a bool is a switch of its first letter (-n).  What is returned is shown; `help` is made of all that.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, NewType

from accel.errors import EmuError
from emu.monitor.command import Later
from emu.monitor.expression import evaluate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.monitor.client import Client

Function = Callable[..., Any]
Rest = NewType("Rest", str)
Format = NewType("Format", str)

REGISTRY: dict[str, HumanCommand] = {}
# The modules whose import fills it.
GROUPS = ("hmp", "hmp_info", "hmp_snapshot")
# A quoted word, with backslashes before what is to be itself, or one without blanks.
WORD = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|(\S+))')
LONGEST_LINE = 4096


class HumanError(EmuError):
    """A line that is no command, or not of the words that it wants."""


class HumanCommand:
    """One command.  aliases: shorter names."""

    def __init__(self, name: str, function: Function, aliases: tuple[str, ...]) -> None:
        self.name = name
        self.function = function
        self.aliases = aliases
        names = vars(sys.modules[function.__module__])
        self.parameters = [
            (parameter, eval(parameter.annotation, dict(names)))
            for parameter in list(signature(function).parameters.values())[1:]
        ]

    @property
    def usage(self) -> str:
        """Its names and what it takes."""
        words = ["|".join((self.name, *self.aliases))]
        for parameter, kind in self.parameters:
            name = parameter.name.rstrip("_").replace("_", "-")
            if kind is Format:
                words[0] += " /fmt"
            elif kind is bool:
                words.append(f"[-{name[0]}]")
            else:
                words.append(name if parameter.default is Parameter.empty else f"[{name}]")
        return " ".join(words)

    @property
    def text(self) -> str:
        """What it does, in a line."""
        return " ".join((self.function.__doc__ or "").split())

    def parse(self, line: str, monitor: Hmp) -> list[Any]:
        """The arguments that the rest of a line is.  Raises HumanError."""
        given: list[Any] = []
        switches = {each.name[0] for each, kind in self.parameters if kind is bool}
        on = set()
        while switches and re.match(r"-[a-z](\s|$)", line.lstrip()):
            letter, line = line.lstrip()[1], line.lstrip()[2:]
            if letter not in switches:
                raise HumanError(f"{self.name} has no switch -{letter}; see `help {self.name}`")
            on.add(letter)
        for parameter, kind in self.parameters:
            line = line.lstrip()
            if kind is bool:
                given.append(parameter.name[0] in on)
            elif kind is Format:
                matched = re.match(r"/(\S+)", line)
                given.append(matched[1] if matched else "")
                line = line[matched.end() :] if matched else line
            elif not line:
                if parameter.default is Parameter.empty:
                    raise HumanError(f"{self.name} wants {parameter.name.replace('_', '-')}: {self.usage}")
                given.append(parameter.default)
            elif kind in (Rest, Rest | None):
                given.append(line)
                line = ""
            elif kind in (int, int | None):
                value, line = evaluate(line, monitor.register)
                given.append(value)
            else:
                word = WORD.match(line)
                if word is None:
                    raise HumanError('a quotation mark has no second one; write \\" for one alone')
                given.append(re.sub(r"\\(.)", r"\1", word[1]) if word[1] is not None else word[2])
                line = line[word.end() :]
        if line.strip():
            raise HumanError(f"{self.name} takes no {line.strip().split()[0]!r}: {self.usage}")
        return given


def hmp(name: str, *aliases: str) -> Callable[[Function], Function]:
    """Makes a function the human command of that name."""

    def enter(function: Function) -> Function:
        made = HumanCommand(name, function, aliases)
        for each in (name, *aliases):
            if each in REGISTRY:
                raise ValueError(f"two human commands are called {each}")
            REGISTRY[each] = made
        return function

    return enter


def human_commands() -> dict[str, HumanCommand]:
    """All of them by name and alias."""
    for group in GROUPS:
        import_module(f"emu.monitor.commands_{group}")
    return REGISTRY


class Hmp:
    """A client's human monitor.  cpu: the one that registers are of."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.run = client.run
        self.machine = client.machine
        self.cpu = 0

    def choose_cpu(self, index: int) -> None:
        """Makes a CPU the one that registers are of.  Raises HumanError."""
        count = len(self.machine.cpus)
        if not 0 <= index < count:
            raise HumanError(f"there is no CPU {index}; there are 0 to {count - 1}")
        self.cpu = index

    def register(self, name: str) -> int:
        """A register's value.  Raises HumanError."""
        with self.run.held():
            try:
                (value,) = self.machine.cpus[self.cpu].vcpu.get(name)
            except (KeyError, ValueError):
                raise HumanError(f"no register is called ${name}; see `info registers`") from None
        return value

    def execute(self, line: str) -> str | Later[str]:
        """Does a line; returns what is to be shown, in lines that end with CR LF."""
        try:
            shown = self._execute(line)
        except Exception as error:
            shown = _told(error)
        return shown.replace("\n", "\r\n") if isinstance(shown, str) else Later(_steps(shown))

    def _execute(self, line: str) -> str | Later[Any]:
        line = line.strip()
        if not line or line.startswith("#"):
            return ""
        if len(line) > LONGEST_LINE:
            raise HumanError(f"a line has at most {LONGEST_LINE} characters")
        found = re.match(r"[^\s/]+", line)
        name = found[0] if found else line[:1]
        rest = line[len(name) :]
        known = human_commands()
        if name == "info":
            topic = rest.split()[:1]
            if not topic:
                return help_of("info")
            name = f"info {topic[0]}"
            rest = rest.lstrip()[len(topic[0]) :]
        if name not in known:
            return f"unknown command: '{name}'\n"
        command = known[name]
        return command.function(self, *command.parse(rest, self)) or ""


def _told(error: Exception) -> str:
    """What a person is shown of an error; of a bug of ours, too, and the machine runs on."""
    from emu.monitor.client import failure

    return f"{error}\n" if isinstance(error, HumanError) else f"Error: {failure('this', error)}\n"


def _steps(later: Later[Any]) -> Generator[float, None, str]:
    """A command that takes long: its steps, and then what is to be shown."""
    try:
        while (pause := later.step()) is not None:
            yield pause
        shown = later.result() or ""
    except Exception as error:
        shown = _told(error)
    finally:
        later.close()
    return shown.replace("\n", "\r\n")


def help_of(name: str = "") -> str:
    """Lines about one command, about `info`, or about all."""
    every = {each.name: each for each in human_commands().values()}
    if name in REGISTRY:
        chosen = [REGISTRY[name]]
    elif name == "info":
        chosen = [each for title, each in sorted(every.items()) if title.startswith("info ")]
    elif name:
        raise HumanError(f"unknown command: '{name}'")
    else:
        chosen = [each for title, each in sorted(every.items()) if not title.startswith("info ")]
    lines = [f"{each.usage}  -- {each.text}" for each in chosen]
    if not name:
        lines.append("info TOPIC  -- shows something of the machine; `info` alone lists what")
    return "\n".join(lines) + "\n"

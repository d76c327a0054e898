"""Commands of QMP: typed functions, and the check of what a client passes them.

    @command("balloon")
    def balloon(client: Client, value: int) -> None:
        \"\"\"Asks the guest to leave `value` bytes in use.\"\"\"

A parameter's name with hyphens is the argument's; one with a default may be left out; `**more: Any` takes
every other name.  Types are str, bool, int, Size (64 bits, not negative), float, Any, Literal, list, dict,
TypedDict, and unions of them where JSON tells them apart.  What is returned is a JSON value; None is {}.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from importlib import import_module
from typing import (
    Any,
    Generic,
    Literal,
    NewType,
    NotRequired,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from accel.errors import EmuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.monitor.client import Client

Function = Callable[..., Any]
Answer = TypeVar("Answer")
Size = NewType("Size", int)
# The flag of a function's code that it takes `**more`.
VARIOUS = 0x08

# The modules whose import fills REGISTRY: emu/monitor/commands_*.py.
GROUPS = (
    "run_state",
    "machine",
    "memory",
    "cpus",
    "qom",
    "block",
    "chardev",
    "net",
    "migrate",
    "dump",
    "jobs",
    "usage",
)
REGISTRY: dict[str, Command] = {}
# What JSON calls the types, for errors.
JSON_NAMES = {str: "string", bool: "boolean", int: "integer", Size: "integer", float: "number"}
JSON_NAMES |= {list: "array", dict: "object"}


class CommandError(EmuError):
    """A command that cannot be done.  kind: QMP's class of the error."""

    def __init__(self, text: str, kind: str = "GenericError") -> None:
        super().__init__(text)
        self.kind = kind


def not_found(name: str) -> CommandError:
    """No device, node or path is called `name`."""
    return CommandError(f"Device '{name}' not found", "DeviceNotFound")


class Later(Generic[Answer]):
    """What a command returns that takes long: its steps, between which other clients are served.

    steps: yields the seconds to wait before the next one, and returns the answer; failed: makes an error of
    the client's of whatever comes up in a step.
    """

    def __init__(self, steps: Generator[float, None, Answer]) -> None:
        self._steps = steps
        self.failed: Callable[[Exception], Exception] = lambda error: error
        self._value: Any = None
        self._error: Exception | None = None

    def step(self) -> float | None:
        """Does the next step; None when there are no more: then result() has what came of it."""
        try:
            return next(self._steps)
        except StopIteration as end:
            self._end(end.value, None)
        except Exception as error:
            self._end(None, self.failed(error))
        return None

    def _end(self, value: Any, error: Exception | None) -> None:
        self._value, self._error = value, error

    def result(self) -> Answer:
        """The answer, or raises CommandError."""
        if self._error is not None:
            raise self._error
        value: Answer = self._value
        return value

    def close(self) -> None:
        """Nobody wants the answer any more: what is under way is given up."""
        self._steps.close()

    def finish(self) -> Answer:
        """Does all steps at once, for who cannot wait otherwise."""
        while (pause := self.step()) is not None:
            time.sleep(pause)
        return self.result()


class Argument:
    """One argument: its name on the wire, the parameter's, its type, and whether it may be left out."""

    __slots__ = ("name", "optional", "parameter", "type")

    def __init__(self, name: str, parameter: str, type: Any, optional: bool) -> None:
        self.name = name
        self.parameter = parameter
        self.type = type
        self.optional = optional


class Command:
    """A function that clients call by its name.  features: what query-qmp-schema says of it besides."""

    def __init__(self, name: str, function: Function, features: tuple[str, ...]) -> None:
        self.name = name
        self.function = function
        self.features = features
        self._arguments: dict[str, Argument] | None = None
        self.open = False

    @property
    def arguments(self) -> dict[str, Argument]:
        """By name, in order.  Types are looked at when the command is first used: at start nobody waits."""
        if self._arguments is None:
            names = vars(sys.modules[self.function.__module__])
            found = {}
            # Not by inspect, whose import costs as much as the rest of a monitor's start.
            code = self.function.__code__
            needed = code.co_argcount - len(self.function.__defaults__ or ())
            for number, parameter in enumerate(code.co_varnames[1 : code.co_argcount], 1):
                wire = parameter.rstrip("_").replace("_", "-")
                kind = eval(self.function.__annotations__[parameter], dict(names))
                found[wire] = Argument(wire, parameter, kind, number >= needed)
            self.open = bool(code.co_flags & VARIOUS)
            self._arguments = found
        return self._arguments

    @property
    def returns(self) -> Any:
        """The type of what it returns; None for nothing."""
        names = vars(sys.modules[self.function.__module__])
        kind = eval(self.function.__annotations__["return"], dict(names))
        for each in alternatives(kind):
            if get_origin(each) is Later:
                (kind,) = get_args(each)
        return None if kind is type(None) else kind

    @property
    def text(self) -> str:
        """What it does: its docstring."""
        return self.function.__doc__ or ""

    def __call__(self, client: Client, given: dict[str, Any]) -> Any:
        """Checks the arguments and calls.  Raises CommandError."""
        known = self.arguments
        passed: dict[str, Any] = {}
        for name, value in given.items():
            argument = known.get(name)
            if argument is not None:
                passed[argument.parameter] = checked(name, argument.type, value)
            elif self.open:
                passed[name] = value
            else:
                raise CommandError(f"Parameter '{name}' is unexpected")
        for name, argument in known.items():
            if not argument.optional and name not in given:
                raise CommandError(f"Parameter '{name}' is missing")
        return self.function(client, **passed)


def command(name: str, *, features: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """Makes a function the command of that name."""

    def enter(function: Function) -> Function:
        if name in REGISTRY:
            raise ValueError(f"two commands are called {name}: {REGISTRY[name].function} and {function}")
        REGISTRY[name] = Command(name, function, features)
        return function

    return enter


def commands() -> dict[str, Command]:
    """All commands by name."""
    for group in GROUPS:
        import_module(f"emu.monitor.commands_{group}")
    return REGISTRY


def find(name: str) -> Command:
    """The command of that name.  Raises CommandError."""
    found = REGISTRY.get(name) or commands().get(name)
    if found is None:
        raise CommandError(f"The command {name} has not been found", "CommandNotFound")
    return found


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union, None left out; a type that is none by itself."""
    if get_origin(kind) in (Union, type(int | str)):
        return tuple(each for each in get_args(kind) if each is not type(None))
    return (kind,)


def checked(name: str, kind: Any, value: Any) -> Any:
    """The value, if it is of the type; `name` is for the message.  Raises CommandError."""
    kinds = alternatives(kind)
    if len(kinds) > 1:
        fits = [each for each in kinds if _json_fits(each, value)]
        if not fits:
            raise CommandError(f"Invalid parameter type for '{name}', expected: {_expected(kinds)}")
        return checked(name, fits[0], value)
    (kind,) = kinds
    if kind is Any:
        return value
    if not _json_fits(kind, value):
        raise CommandError(f"Invalid parameter type for '{name}', expected: {_expected(kinds)}")
    origin = get_origin(kind)
    if origin is Literal:
        if value not in get_args(kind):
            raise CommandError(f"Parameter '{name}' does not accept value '{value}'")
    elif origin is list:
        (inner,) = get_args(kind)
        return [checked(f"{name}[{n}]", inner, item) for n, item in enumerate(value)]
    elif is_typeddict(kind):
        return _members(name, kind, value)
    elif kind is Size and not 0 <= value < 1 << 64:
        raise CommandError(f"Parameter '{name}' expects a number from 0 to 2^64-1")
    elif kind is int and not -(1 << 63) <= value < 1 << 63:
        raise CommandError(f"Parameter '{name}' expects a number of 64 bits with a sign")
    return value


def _members(name: str, kind: Any, value: dict[str, Any]) -> dict[str, Any]:
    known = members(kind)
    for member in value:
        if member not in known:
            raise CommandError(f"Parameter '{name}.{member}' is unexpected")
    for member, (_, optional) in known.items():
        if not optional and member not in value:
            raise CommandError(f"Parameter '{name}.{member}' is missing")
    return {member: checked(f"{name}.{member}", known[member][0], given) for member, given in value.items()}


def members(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The members of a TypedDict: each one's type, and whether it may be left out."""
    found = {}
    for member, hint in get_type_hints(kind, include_extras=True).items():
        optional = get_origin(hint) is NotRequired
        found[member] = (get_args(hint)[0] if optional else hint, optional or not kind.__total__)
    return found


def json_type(kind: Any) -> Any:
    """The Python type of the JSON values that are of a type."""
    origin = get_origin(kind)
    if origin is Literal:
        return str
    if origin in (list, dict):
        return origin
    return dict if is_typeddict(kind) else kind


def _json_fits(kind: Any, value: Any) -> bool:
    wanted = json_type(kind)
    if wanted is Any:
        return True
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if wanted in (int, Size):
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, wanted)


def _expected(kinds: tuple[Any, ...]) -> str:
    return " or ".join(dict.fromkeys(JSON_NAMES[json_type(kind)] for kind in kinds))

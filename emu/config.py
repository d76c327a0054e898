"""Settings of a file: what a user would otherwise write on every command line.

    # ~/.config/emu/config.toml
    [run]
    sysroot = "~/arm64-root"

    [boot]
    memory = "1G"
    net = ["user,hostfwd=tcp:127.0.0.1:2222-:22"]

A section is called like a subcommand, [run] is for `emu PROGRAM`; keys are the command line's long options,
and what stands on the command line replaces them.  Nothing is known here of any option: the parsers say which
there are.  Without a file this module is not loaded.
"""

from __future__ import annotations

import os
import re
import tomllib
from argparse import Action, ArgumentTypeError
from typing import Any

from accel.errors import EmuError, nearest
from emu.cli.parser import expected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 1 << 20


class ConfigError(EmuError):
    """A configuration file that cannot be read, or says what cannot be."""


def settings(file: str, section: str, actions: Iterable[Action], known: Iterable[str]) -> dict[str, Any]:
    """What the file says for a section, by the actions' dest.  known: the sections there are.

    Raises ConfigError.
    """
    text = _read(file)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_placed(file, text, str(error))) from None
    except RecursionError:
        raise ConfigError(f"{file}: it is nested too deeply") from None
    for name, table in tables.items():
        where = f"{file}{_line(text, None, name)}"
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: {name} stands in no section; write it below [run] or [boot]")
        if name not in known:
            sections = ", ".join(known)
            raise ConfigError(f"{where}: no section is called [{name}]{nearest(name, known)}; use {sections}")
    keys = {
        _key(name): action for action in actions for name in action.option_strings if _counts(action, name)
    }
    found = {}
    for key, value in tables.get(section, {}).items():
        where = f"{file}{_line(text, section, key)}: [{section}] {key}"
        if key not in keys:
            remedy = f"emu {section} --help lists them" if section != "run" else "emu --help lists them"
            raise ConfigError(f"{where}: there is no such option{nearest(key, keys)}; {remedy}")
        try:
            found[keys[key].dest] = _value(keys[key], value)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
    return found


def _counts(action: Action, name: str) -> bool:
    """Whether an option may stand in a file, by this one of its names."""
    long = [each for each in action.option_strings if each.startswith("--")]
    return name in (long or action.option_strings) and action.dest not in ("help", "config", "no_config")


def _key(name: str) -> str:
    return name.lstrip("-")


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(LONGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; see --config, --no-config and EMU_CONFIG") from None
    if len(data) > LONGEST:
        raise ConfigError(f"{path}: a file of more than {LONGEST >> 20} MiB has no settings; name another")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: this is no UTF-8; write it as text") from None


def _placed(path: str, text: str, message: str) -> str:
    """tomllib's message, with its place where compilers have it, and the key that stands there."""
    lines = text.split("\n")
    last = max((number for number, line in enumerate(lines) if line.strip()), default=0)
    end = f"(at line {last + 1}, column {len(lines[last]) + 1})"
    found = re.fullmatch(
        r"(.*) \(at line (\d+), column (\d+)\)", message.replace("(at end of document)", end)
    )
    if found is None:
        return f"{path}: {message}; see toml.io for how it is written"
    key = re.match(r"\s*([^=\s]+)\s*=", lines[int(found[2]) - 1])
    named = f"{key[1]}: " if key else ""
    return f"{path}:{found[2]}:{found[3]}: {named}{found[1]}; see toml.io for how it is written"


def _line(text: str, section: str | None, key: str) -> str:
    """Where a key stands, in a section (None: before all), or a section begins: ":LINE", if that is found."""
    name = rf"""["']?{re.escape(key)}["']?"""
    current: str | None = None
    for number, line in enumerate(text.split("\n"), 1):
        header = re.match(r"""\s*\[\s*["']?([^\]"']*?)["']?\s*\]""", line)
        if header:
            current = header[1]
        begun = header is not None and section is None and current == key
        if begun or (current == section and re.match(rf"\s*{name}\s*[.=]", line)):
            return f":{number}"
    return ""


def _value(action: Action, value: Any) -> Any:
    """The value that the command line would give.  Raises ValueError, which says what is expected."""
    if action.nargs == 0 and type(action).__name__ != "_CountAction":
        if not isinstance(value, bool):
            raise ValueError(f"{_shown(value)}: true or false is expected")
        return action.const if value else None
    count = action.nargs if isinstance(action.nargs, int) else 0
    if count or action.nargs in ("*", "+") or type(action).__name__ in ("_AppendAction", "_ExtendAction"):
        values = value if isinstance(value, list) else [value]
        if count and len(values) != count:
            raise ValueError(f"{_shown(value)}: a list of {count} is expected")
        return [_single(action, each) for each in values]
    return _single(action, value)


def _single(action: Action, value: Any) -> Any:
    kind: Any = action.type or str
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{_shown(value)}: {expected(action)} is expected")
    text = os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else str(value)
    try:
        made = kind(text)
    except ArgumentTypeError as error:
        raise ValueError(str(error)) from None
    except (ValueError, TypeError):
        raise ValueError(f"{_shown(value)}: {expected(action)} is expected") from None
    if action.choices is not None and made not in action.choices:
        among = ", ".join(map(str, action.choices))
        raise ValueError(f"{_shown(value)}{nearest(text, map(str, action.choices))}; it may be {among}")
    return made


def _shown(value: Any) -> str:
    """A value, as the file has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a table"
    return repr(value) if isinstance(value, str) else str(value)

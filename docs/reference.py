"""The documentation's reference pages, each made of the table that the program itself is made of.

mkdocs calls on_files() (mkdocs.yml, `hooks`); the pages exist nowhere but in the site.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# A line of a table of encodings: name, fields, conditions in braces, extensions.
LINE = re.compile(r"(\w+)\s+([^#{+]+?)\s*(?:\{.*\})?\s*(\+\S+(?:\s+\+\S+)*)?\s*(?:#.*)?$")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(_cell(cell) for cell in row) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def _cell(text: str) -> str:
    """Text in a table: a bar would end it, but inside of code."""
    parts = text.replace("\n", " ").split("`")
    return "`".join(part if number % 2 else part.replace("|", "\\|") for number, part in enumerate(parts))


def instructions() -> str:
    """A64's encodings that the translator knows, from isa/aarch64.decode with its headings."""
    parts = [
        "# Instructions\n\narm64 programs are translated by emu's own engine, from the encodings below, which"
        " stand in `isa/aarch64.decode` in the order of the Arm Architecture Reference Manual (chapter C4); a"
        " name with `+` belongs to an extension. A line is a family: variants that differ by regular fields"
        " share it. Unicorn runs what is not here, and other architectures; x86-64 programs under kvm have"
        " the host's instructions.\n"
    ]
    rows: list[tuple[str, ...]] = []

    about = ""

    def flush() -> None:
        if rows:
            parts.append(_table(("family", "encoding, from bit 31 on", "extension", "class"), rows))
            rows.clear()

    for line in (ROOT / "isa/aarch64.decode").read_text().splitlines():
        heading = re.fullmatch(r"# -+ (C4\.1 )?(.+)", line)
        if heading:
            flush()
            parts.append(f"\n## {heading[2]}\n\n")
        elif matched := re.match(
            r"(\w+)\s+([^#{+]+?)\s*(?:\{.*\})?\s*(\+\S+(?:\s+\+\S+)*)?\s*(?:#.*)?$", line
        ):
            rows.append((f"`{matched[1]}`", f"`{matched[2]}`", matched[3] or "", about))
            about = ""
        elif line.startswith("# "):
            about = line[2:]
    flush()
    return "".join(parts)


def syscalls() -> str:
    """What user mode does with each system call."""
    from emu.linux.capabilities import markdown

    return markdown()


def devices() -> str:
    """Boards and the device types of -device."""
    from emu.board import BOARDS, open_board
    from emu.system.types import cpus
    from emu.system.types import devices as types

    text = "# Boards and devices\n\n## Boards\n\n`emu boot --machine NAME`, or `Machine(NAME)` in Python.\n\n"
    for name, arch in BOARDS:
        board = open_board(name, arch)
        if not board.parts:
            continue
        text += f"### {name}, {arch}\n\n"
        text += _table(
            ("part", "device", "address", "interrupt"),
            (
                (
                    part.name,
                    f"`{type(part.device()).__name__}`",
                    f"port {part.base:#x}" if part.ports else f"{part.base:#x}",
                    "" if part.irq is None else str(part.irq),
                )
                for part in board.parts
            ),
        )
        text += "\n"
    for arch in ("aarch64", "x86_64"):
        text += f"\n## Devices of emu-system-{arch}\n\nEach is a `-device TYPE,PROPERTY=VALUE`.\n\n"
        text += _table(
            ("type", "what it is", "properties"),
            (
                (f"`{name}`", about, " ".join(f"`{each}`" for each in properties))
                for name, (about, properties) in sorted(types(arch).items())
            ),
        )
        text += f"\nCPU models: {', '.join(f'`{each}`' for each in cpus(arch))}.\n"
    return text


def qmp() -> str:
    """QMP's commands, from the signatures of their functions."""
    from emu.monitor.command import commands

    text = (
        "# QMP commands\n\nOf the QEMU Machine Protocol, as `query-qmp-schema` tells them to programs. An"
        " argument in brackets may be left out.\n\n"
    )
    rows = []
    for name, command in sorted(commands().items()):
        words = [
            f"[{each.name}: {_kind(each.type)}]" if each.optional else f"{each.name}: {_kind(each.type)}"
            for each in command.arguments.values()
        ]
        arguments = " ".join(f"`{word}`" for word in words)
        rows.append((f"`{name}`", arguments, " ".join(command.text.split())))
    return text + _table(("command", "arguments", "what it does"), rows)


def _kind(kind: Any) -> str:
    from typing import Literal, get_args, get_origin

    from emu.monitor.command import JSON_NAMES, alternatives

    names = []
    for each in alternatives(kind):
        if get_origin(each) is Literal:
            names.append("|".join(str(value) for value in get_args(each)))
        else:
            names.append(JSON_NAMES.get(get_origin(each) or each, "object"))
    return " or ".join(dict.fromkeys(names))


def hmp() -> str:
    """The human monitor's commands."""
    from emu.monitor.hmp import human_commands

    found = {command.name: command for command in human_commands().values()}
    rows = [(f"`{command.usage}`", command.text) for _, command in sorted(found.items())]
    return (
        "# The monitor's commands\n\nWhat `help` tells at `--monitor`, behind Ctrl-A C, and for gdb's"
        " `monitor`.\n\n" + _table(("command", "what it does"), rows)
    )


def architecture() -> str:
    """ARCHITECTURE.md of the repository, whose links lead out of the site."""
    return (ROOT / "ARCHITECTURE.md").read_text()


def measured() -> str:
    """The stored result that performance.md tells of, as `emu bench --html` shows it."""
    from emu.bench.page import to_html
    from emu.bench.result import load
    from emu.bench.suites import SUITES

    about = {name: suite.about for name, suite in SUITES.items()}
    return to_html(load(ROOT / "docs/performance.json"), about)


def commands() -> str:
    """Every command line, from the declarations of its parser."""
    from emu.cli import SUBCOMMANDS
    from emu.cli import program as run
    from emu.cli.commands import programs, subcommands
    from emu.cli.status import COMMON, statuses

    text = (
        "# Commands\n\nAs `--help` tells them; [the command line](../cli.md) has what all have in common.\n"
    )
    for command in (programs(), *(each for one in subcommands() for each in one.all())):
        name = " ".join(("emu", *command.path)) if command.path else "emu PROGRAM"
        about, examples = command.about, ()
        if not command.path:
            about, examples = run.DESCRIPTION, run.EXAMPLES
        elif len(command.path) == 1:
            _, about, examples = SUBCOMMANDS[command.path[0]]
        text += f"\n## {name}\n\n{about}\n\n"
        if examples:
            text += "```text\n" + "\n".join(examples) + "\n```\n\n"
        rows = [(f"`{word.value}`", word.text) for word in command.words if word.text]
        for option in command.options:
            if option.names[0] not in ("-h", "--config", "--no-config"):
                names = " ".join((", ".join(option.names), option.value)).strip()
                rows.append((f"`{names}`", option.text))
        text += _table(("option", "what it does"), rows) if rows else ""
        if len(command.path) < 2:
            found = statuses(command.body).items()
            own = [(f"`{status}`", meaning) for status, meaning in found if status not in COMMON]
            text += "\n" + _table(("exit status", "what it says"), own) if own else ""
    return text


PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands,
    "reference/instructions.md": instructions,
    "reference/syscalls.md": syscalls,
    "reference/devices.md": devices,
    "reference/qmp.md": qmp,
    "reference/hmp.md": hmp,
    "architecture.md": architecture,
    "measured.html": measured,
}


def on_files(files: Any, config: Any) -> Any:
    """mkdocs' hook: adds the pages to those that are files."""
    from mkdocs.structure.files import File

    for place, make in PAGES.items():
        files.append(File.generated(config, place, content=make()))
    return files

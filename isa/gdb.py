"""The GDB target description of an architecture: its types, and the document itself.

GDB asks a stub for `target.xml` and believes its order and numbers. Format: "Debugging with GDB", appendix G,
Target Descriptions. The registers stand in the modules of the architectures; here is only their grammar.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isa.arch import Arch


class Vector:
    """`count` elements of `element`, a predefined type or one defined before."""

    __slots__ = ("count", "element", "name")

    def __init__(self, name: str, element: str, count: int) -> None:
        self.name = name
        self.element = element
        self.count = count

    def xml(self) -> str:
        return f'<vector id="{self.name}" type="{self.element}" count="{self.count}"/>'


class Union:
    """The same bytes under several types: fields as (name, type)."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, *fields: tuple[str, str]) -> None:
        self.name = name
        self.fields = fields

    def xml(self) -> str:
        fields = "".join(f'<field name="{name}" type="{kind}"/>' for name, kind in self.fields)
        return f'<union id="{self.name}">{fields}</union>'


class Flags:
    """Named bits of a register of `size` bytes: fields as (name, first bit, last bit)."""

    __slots__ = ("fields", "name", "size")

    def __init__(self, name: str, size: int, *fields: tuple[str, int, int]) -> None:
        self.name = name
        self.size = size
        self.fields = fields

    def xml(self) -> str:
        fields = "".join(
            f'<field name="{name}" start="{start}" end="{end}"/>' for name, start, end in self.fields
        )
        return f'<flags id="{self.name}" size="{self.size}">{fields}</flags>'


Type = Vector | Union | Flags

# Widths in bits of the types that GDB predefines; those of `REGISTER_WIDE` take the register's width.
PREDEFINED = {
    "int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64,
    "int128": 128, "uint128": 128, "ieee_half": 16, "ieee_single": 32, "ieee_double": 64, "i387_ext": 80,
}  # fmt: skip
REGISTER_WIDE = frozenset(("int", "code_ptr", "data_ptr"))


def target_xml(arch: Arch, *, system: bool = False, extensions: bool = False, osabi: str = "") -> str:
    """The target description of `arch`: its `registers`; with `system` and `extensions`, more.

    `system` adds those `system_registers` that GDB has a feature for.
    `osabi` is "GNU/Linux" for a Linux program and empty for a bare machine. A type is written into each
    feature that uses it, directly or through another type, because features share no types.
    """
    registers = [*arch.registers, *(arch.extensions if extensions else ())]
    if system:
        registers += [r for r in arch.system_registers if r.feature and r not in arch.registers]
    lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', '<target version="1.0">']
    lines.append(f"<architecture>{arch.gdb_name}</architecture>")
    if osabi:
        lines.append(f"<osabi>{osabi}</osabi>")
    for feature in dict.fromkeys(r.feature for r in registers):
        members = [r for r in registers if r.feature == feature]
        lines.append(f'<feature name="{feature}">')
        lines += [kind.xml() for kind in _closure(arch.gdb_types, {r.gdb_type for r in members})]
        lines += [
            f'<reg name="{r.name}" bitsize="{r.width}" type="{r.gdb_type}"'
            f' regnum="{r.number}" group="{r.group}"/>'
            for r in members
        ]
        lines.append("</feature>")
    lines.append("</target>")
    return "\n".join(lines) + "\n"


def _closure(types: tuple[Type, ...], wanted: set[str]) -> list[Type]:
    """The types whose names are wanted and those that they use, in the order of `types`."""
    found: list[Type] = []
    for kind in reversed(types):
        if kind.name in wanted:
            found.append(kind)
            if isinstance(kind, Vector):
                wanted.add(kind.element)
            elif isinstance(kind, Union):
                wanted.update(name for _, name in kind.fields)
    return found[::-1]

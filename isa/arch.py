"""Architectures by name: identity, registers, and where the ABI is described.

`find("arm64")` returns the `Arch` of the module `isa.aarch64` and imports that module alone. The identities
of all architectures stand in `_IDENTITIES` below, so that names, aliases and ELF headers resolve without
importing any of them.

Errors:

    LookupError
     +-- UnknownArch        no architecture has this name, or this ELF identity
     +-- UnknownRegister    the architecture has no register of this name
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isa.abi import Abi
    from isa.gdb import Type


class UnknownArch(LookupError):
    """No architecture of this package answers to the name or the ELF identity that was asked for."""


class UnknownRegister(LookupError):
    """The architecture has no register of the name that was asked for."""


class Register:
    """One register, as GDB and a person name it.

    name      GDB's name where GDB has the register, else the manual's
    width     in bits: 1..512
    group     "general", "float", "vector" or "system"
    gdb_type  a type that GDB predefines ("int64", "code_ptr", ...) or that `Arch.gdb_types` defines
    feature   the GDB target feature that holds it, "org.gnu.gdb.<cpu>.<feature>"; "" if GDB has none for it
    number    its number in GDB's remote protocol, -1 if `feature` is ""
    encoding  how a system instruction addresses it, fields as the module of the ISA says; () if none does
    aliases   other names of the same register, of the same width
    """

    __slots__ = ("aliases", "encoding", "feature", "gdb_type", "group", "name", "number", "width")

    def __init__(
        self,
        name: str,
        width: int,
        group: str = "general",
        gdb_type: str = "int",
        *,
        feature: str = "",
        number: int = -1,
        encoding: tuple[int, ...] = (),
        aliases: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.width = width
        self.group = group
        self.gdb_type = gdb_type
        self.feature = feature
        self.number = number
        self.encoding = encoding
        self.aliases = aliases

    def __repr__(self) -> str:
        return f"Register({self.name!r}, {self.width}, {self.group!r}, {self.gdb_type!r})"


class Identity:
    """What tells one architecture from another, without its registers.

    aliases      other names: uname's, Debian's, Go's, the compiler's
    elf_machine  e_machine
    elf_class    EI_CLASS: 1 for 32 bits, 2 for 64
    elf_data     EI_DATA: 1 for little endian
    """

    __slots__ = ("aliases", "elf_class", "elf_data", "elf_machine")

    def __init__(self, aliases: tuple[str, ...], elf_machine: int, elf_class: int, elf_data: int = 1) -> None:
        self.aliases = aliases
        self.elf_machine = elf_machine
        self.elf_class = elf_class
        self.elf_data = elf_data


# By canonical name, which is the module's too. Source: include/uapi/linux/elf-em.h, System V gABI chapter 4.
_IDENTITIES = {
    "aarch64": Identity(("arm64", "armv8", "armv8-a"), 183, 2),
    "arm": Identity(("armhf", "armv7", "armv7l", "armv7-a", "arm32"), 40, 1),
    "riscv64": Identity(("rv64", "rv64gc", "riscv"), 243, 2),
    "x86_64": Identity(("amd64", "x86-64", "x64"), 62, 2),
}


class Arch:
    """An instruction set with its Linux ABI.

    name, aliases, elf_machine, elf_class, elf_data: see `Identity`
    bits              width of a general register and of an address in a program: 32 or 64
    byte_order        "little" or "big", as `int.from_bytes` takes it
    page_size         in bytes, the smallest that Linux uses on it
    registers         what GDB shows of a program, in the order of the target description
    extensions        more of what GDB shows, of CPUs that have the extension
    system_registers  what a person at the machine needs besides; entries that are in `registers` too are the
                      same objects
    pc, sp            names in `registers`
    flags             name of the condition-flags register, or None where the ISA has none
    gdb_name          what GDB's `set architecture` takes
    gdb_types         types that `gdb_type` names and GDB does not predefine, each after those it uses
    abi               the Linux ABI
    """

    __slots__ = (
        "_by_name",
        "abi",
        "aliases",
        "bits",
        "byte_order",
        "elf_class",
        "elf_data",
        "elf_machine",
        "extensions",
        "flags",
        "gdb_name",
        "gdb_types",
        "name",
        "page_size",
        "pc",
        "registers",
        "sp",
        "system_registers",
    )

    def __init__(
        self,
        name: str,
        *,
        registers: tuple[Register, ...],
        system_registers: tuple[Register, ...],
        pc: str,
        sp: str,
        flags: str | None,
        gdb_name: str,
        gdb_types: tuple[Type, ...],
        abi: Abi,
        extensions: tuple[Register, ...] = (),
        page_size: int = 4096,
    ) -> None:
        identity = _IDENTITIES[name]
        self.name = name
        self.aliases = identity.aliases
        self.elf_machine = identity.elf_machine
        self.elf_class = identity.elf_class
        self.elf_data = identity.elf_data
        self.bits = 32 * identity.elf_class
        self.byte_order = "little" if identity.elf_data == 1 else "big"
        self.page_size = page_size
        self.registers = registers
        self.extensions = extensions
        self.system_registers = system_registers
        self.pc = pc
        self.sp = sp
        self.flags = flags
        self.gdb_name = gdb_name
        self.gdb_types = gdb_types
        self.abi = abi
        self._by_name: dict[str, Register] = {}

    def register(self, name: str) -> Register:
        """The register of this name or alias, in either case of letters; raise `UnknownRegister` if there is
        none."""
        if not self._by_name:
            for register in self.registers + self.extensions + self.system_registers:
                for spelling in (register.name, *register.aliases):
                    self._by_name[spelling.lower()] = register
        try:
            return self._by_name[name.lower()]
        except KeyError:
            raise UnknownRegister(f"{self.name} has no register named {name!r}") from None

    def __repr__(self) -> str:
        return f"<Arch {self.name}>"


def names() -> tuple[str, ...]:
    """The canonical names, in alphabetical order."""
    return tuple(_IDENTITIES)


def canonical(name: str) -> str:
    """The canonical form of a name or alias, in either case of letters. Imports no architecture.

    Raise `UnknownArch` if there is none.
    """
    key = name.lower()
    for known, identity in _IDENTITIES.items():
        if key == known or key in identity.aliases:
            return known
    raise UnknownArch(f"unknown architecture {name!r}; known: {', '.join(_IDENTITIES)}")


def find(name: str) -> Arch:
    """The architecture of this canonical name or alias; raise `UnknownArch` if there is none."""
    return _load(canonical(name))


def by_elf(machine: int, klass: int, data: int) -> Arch:
    """The architecture of these e_machine, EI_CLASS and EI_DATA; raise `UnknownArch` if there is none."""
    return _load(name_by_elf(machine, klass, data))


def name_by_elf(machine: int, klass: int, data: int) -> str:
    """The canonical name of the architecture that by_elf() returns. Imports no architecture."""
    for name, identity in _IDENTITIES.items():
        if (machine, klass, data) == (identity.elf_machine, identity.elf_class, identity.elf_data):
            return name
    known = ", ".join(f"{name} {i.elf_machine}/{i.elf_class}/{i.elf_data}" for name, i in _IDENTITIES.items())
    raise UnknownArch(
        f"no architecture for ELF machine {machine}, class {klass}, data {data}; known: {known}"
    )


def _load(name: str) -> Arch:
    from importlib import import_module

    arch: Arch = import_module("isa." + name).ARCH
    return arch

"""The system calls of Linux 6.1: numbers per ABI, argument lists shared by all, and the layout class of each
structure.

Four kinds of table stand beside this file, each explained at its head:

    <arch>.tbl        number name
    signatures.tbl    name argument:type ... [-> type], where "name@arch" replaces "name" on one ABI
    structs.tbl       structure layout [pointers]
    flags.tbl         names of the numbers in arguments (isa.syscalls.flags)
`load("aarch64")` joins the first three. A table that breaks its own grammar raises `TableError`, which names
file and line; the tables in the package are checked by the tests, so a caller meets it only with tables of
its own.
"""

from __future__ import annotations

from isa.arch import canonical

NUMBERS = frozenset(
    ("addr", "any", "fd", "flags", "gid", "gid16", "int", "long", "mode", "off", "pid", "sig")
) | {"size", "u64", "uid", "uid16", "uint", "ulong"}
POINTERS = frozenset(("path", "str", "strv", "in", "out", "inout", "ptr"))
RESULTS = NUMBERS - {"off", "u64", "flags", "sig", "any"} | {"none", "enosys"}
ELEMENTS = NUMBERS - {"any"} | {"u8", "u16"}  # what a pointer may point at, besides the structures
LAYOUTS = frozenset(("same", "width", "abi"))

_DIRECTIONS = frozenset(("in", "out", "inout"))
_DIRECTORY = __file__.rpartition("/")[0]


class TableError(ValueError):
    """A table breaks its grammar or names what does not exist; the message begins with file:line."""


class Argument:
    """One argument of a system call.

    name      as in the manual page, for people
    kind      a member of `NUMBERS` or `POINTERS`
    element   of the kinds in, out and inout: what is pointed at, a member of `ELEMENTS` or a structure; ""
              for bytes
    count     how much is pointed at: "" for one element, else the name of an argument, or decimal digits
    indirect  `count` names a pointer, and the number is what it points at
    in_bytes  `count` is in bytes; else in elements
    """

    __slots__ = ("count", "element", "in_bytes", "indirect", "kind", "name")

    def __init__(
        self, name: str, kind: str, element: str, count: str, *, indirect: bool, in_bytes: bool
    ) -> None:
        self.name = name
        self.kind = kind
        self.element = element
        self.count = count
        self.indirect = indirect
        self.in_bytes = in_bytes

    @property
    def is_pointer(self) -> bool:
        return self.kind in POINTERS

    def __repr__(self) -> str:
        count = (
            f"[{'size=' if self.element and self.in_bytes else ''}{'*' if self.indirect else ''}{self.count}]"
        )
        element = f":{self.element}" if self.element else ""
        return f"{self.name}:{self.kind}{element}{count if self.count else ''}"


class Syscall:
    """One system call of one ABI: its number there, name, arguments in register order, and the type of its
    result."""

    __slots__ = ("arguments", "name", "number", "result")

    def __init__(self, number: int, name: str, arguments: tuple[Argument, ...], result: str) -> None:
        self.number = number
        self.name = name
        self.arguments = arguments
        self.result = result

    def __repr__(self) -> str:
        return f"<Syscall {self.number} {self.name}({', '.join(map(repr, self.arguments))}) -> {self.result}>"


class Struct:
    """How a structure's bytes compare between ABIs: layout "same", "width" or "abi"; whether the kernel
    follows pointers in it. The head of structs.tbl says what each means."""

    __slots__ = ("layout", "name", "pointers")

    def __init__(self, name: str, layout: str, pointers: bool) -> None:
        self.name = name
        self.layout = layout
        self.pointers = pointers

    def __repr__(self) -> str:
        return f"Struct({self.name!r}, {self.layout!r}, pointers={self.pointers})"


def load(arch_name: str, directory: str = _DIRECTORY) -> dict[int, Syscall]:
    """The system calls of an architecture by number, in ascending order.

    `arch_name` is a name or alias of `isa.arch`; `directory` holds the tables. Raise `UnknownArch`,
    `TableError`, or OSError if a table cannot be read.
    """
    arch = canonical(arch_name)
    signatures = _signatures(directory, arch)
    calls = {}
    for number, (name, where) in _numbers(directory, arch).items():
        try:
            arguments, result = signatures[name]
        except KeyError:
            raise TableError(f"{where}: {name} has no line in signatures.tbl") from None
        calls[number] = Syscall(number, name, arguments, result)
    return calls


def places(call: Syscall, wide: bool, aligned: bool) -> list[tuple[int, ...]]:
    """Which argument registers, counted from 0, hold each argument: one, or two, the low half first.

    wide: the ABI has 64-bit registers; aligned: Abi.aligned_pairs.
    """
    register = 0
    found: list[tuple[int, ...]] = []
    for argument in call.arguments:
        pair = argument.kind in ("off", "u64") and not wide
        if pair and aligned:
            register += register & 1
        found.append((register, register + 1) if pair else (register,))
        register += len(found[-1])
    return found


def number(argument: Argument, value: int, wide: bool) -> int:
    """What the registers' content `value` means as an argument of this kind: cut to its width, and signed."""
    kind = argument.kind
    if kind in ("off", "u64"):
        bits = 64
    elif kind in ("uid16", "gid16"):
        bits = 16
    elif kind in ("int", "fd", "pid", "sig", "uint", "mode", "uid", "gid"):
        bits = 32
    else:
        bits = 64 if wide else 32
    value &= (1 << bits) - 1
    signed = kind in ("int", "fd", "pid", "sig", "long", "off")
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def numbers(arch_name: str, directory: str = _DIRECTORY) -> dict[int, str]:
    """The names of an architecture's system calls by number, without their arguments. Errors as of `load`."""
    return {number: name for number, (name, _) in _numbers(directory, canonical(arch_name)).items()}


def structs(directory: str = _DIRECTORY) -> dict[str, Struct]:
    """The structures that argument lists may name, by name. Raise `TableError`, or OSError if the table
    cannot be read."""
    found: dict[str, Struct] = {}
    for where, words in lines(f"{directory}/structs.tbl"):
        if len(words) not in (2, 3) or words[1] not in LAYOUTS or words[2:] not in ([], ["pointers"]):
            raise TableError(f"{where}: expected `name same|width|abi [pointers]`, got {' '.join(words)!r}")
        if words[0] in found:
            raise TableError(f"{where}: {words[0]} stands here twice")
        found[words[0]] = Struct(words[0], words[1], len(words) == 3)
    return found


def lines(path: str) -> list[tuple[str, list[str]]]:
    """The words of each line that has any, comments aside, with its place as file:line."""
    with open(path, encoding="ascii") as file:
        rows = [line.partition("#")[0].split() for line in file]
    return [(f"{path}:{number}", words) for number, words in enumerate(rows, 1) if words]


def _numbers(directory: str, arch: str) -> dict[int, tuple[str, str]]:
    """Name and place by number."""
    found: dict[int, tuple[str, str]] = {}
    names: dict[str, int] = {}
    for where, words in lines(f"{directory}/{arch}.tbl"):
        try:
            text, name = words
            number = int(text, 0)
        except ValueError:
            raise TableError(f"{where}: expected `number name`, got {' '.join(words)!r}") from None
        if number in found:
            raise TableError(f"{where}: number {number} is {found[number][0]} already")
        if name in names:
            raise TableError(f"{where}: {name} has number {names[name]} already")
        found[number] = (name, where)
        names[name] = number
    return dict(sorted(found.items()))


def _signatures(directory: str, arch: str) -> dict[str, tuple[tuple[Argument, ...], str]]:
    """Arguments and result by name, as one architecture has them; every line is checked, those of other ABIs
    too."""
    elements = ELEMENTS | structs(directory).keys()
    common: dict[str, tuple[tuple[Argument, ...], str]] = {}
    special: dict[str, tuple[tuple[Argument, ...], str]] = {}
    seen = set()
    for where, words in lines(f"{directory}/signatures.tbl"):
        key, *words = words
        if key in seen:
            raise TableError(f"{where}: {key} stands here twice")
        seen.add(key)
        result = "int"
        if "->" in words:
            at = words.index("->")
            if len(words) != at + 2 or words[at + 1] not in RESULTS:
                raise TableError(
                    f"{where}: expected one of {', '.join(sorted(RESULTS))} after ->, got {words[at + 1 :]}"
                )
            result = words[at + 1]
            words = words[:at]
        arguments = tuple([_argument(where, word, elements) for word in words])
        _check(where, arguments)
        name, _, abi = key.partition("@")
        if not abi:
            common[name] = arguments, result
        elif abi == arch:
            special[name] = arguments, result
    return common | special


def _argument(where: str, text: str, elements: frozenset[str]) -> Argument:
    """Parse `name:number`, `name:path`, `name:in[N]`, `name:in:element`, `name:in:element[N]` or
    `...[size=N]`."""
    name, _, rest = text.partition(":")
    head, bracket, count = rest.partition("[")
    kind, colon, element = head.partition(":")
    if not name or (kind not in NUMBERS and kind not in POINTERS):
        raise TableError(f"{where}: unknown type in {text!r}")
    if bracket and not count.endswith("]"):
        raise TableError(f"{where}: {text!r} has no closing bracket")
    if (colon or bracket) and kind not in _DIRECTIONS:
        raise TableError(f"{where}: {text!r}: only in, out and inout take an element or a length")
    if kind in _DIRECTIONS and not colon and not bracket:
        raise TableError(f"{where}: {text!r} needs an element or a length")
    if colon and element not in elements:
        raise TableError(f"{where}: {text!r}: {element!r} is neither a number type nor in structs.tbl")
    count = count[:-1]
    in_bytes = bool(bracket) and not colon
    if count.startswith("size="):
        in_bytes = True
        count = count[5:]
    indirect = count.startswith("*")
    return Argument(
        name, kind, element, count[1:] if indirect else count, indirect=indirect, in_bytes=in_bytes
    )


def _check(where: str, arguments: tuple[Argument, ...]) -> None:
    """Lengths name arguments that can be lengths; names are unique."""
    by_name = {argument.name: argument for argument in arguments}
    if len(by_name) != len(arguments):
        raise TableError(f"{where}: two arguments have the same name")
    for argument in arguments:
        if not argument.count or argument.count.isdigit():
            continue
        length = by_name.get(argument.count)
        if length is None:
            raise TableError(f"{where}: the length of {argument.name}, {argument.count!r}, is no argument")
        if length.is_pointer != argument.indirect:
            raise TableError(
                f"{where}: the length of {argument.name}, {argument!r}, confuses a number with a pointer"
            )

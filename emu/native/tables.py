"""Writes the table of system calls that the native runtime is compiled with.

It joins isa/syscalls/*.tbl (numbers and argument lists) with emu/linux/syscalls.tbl (what is done with each)
into one C header: a dense array per ABI, indexed by the system call's number.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
if str(ROOT) not in sys.path:  # run by its path, from anywhere
    sys.path.insert(0, str(ROOT))

from isa.syscalls import Argument, Syscall, load, places, structs  # noqa: E402

POLICY = ROOT / "emu" / "linux" / "syscalls.tbl"
ABIS = ("aarch64", "arm", "riscv64", "x86_64")
PRIVATE = 0xF0000  # where arm's private numbers begin

# Bytes of one element on a 32-bit and on a 64-bit ABI, for calls that the host does.
SIZES = {
    "": (1, 1),
    "cap_data": (12, 12),
    "cap_header": (8, 8),
    "gid": (4, 4),
    "gid16": (2, 2),
    "int": (4, 4),
    "itimerspec": (16, 32),
    "itimerspec64": (32, 32),
    "itimerval": (16, 32),
    "linux_dirent": (1, 1),
    "linux_dirent64": (1, 1),
    "long": (4, 8),
    "mq_attr": (32, 64),
    "off": (8, 8),
    "rusage": (72, 144),
    "pollfd": (8, 8),
    "sched_attr": (1, 1),
    "sched_param": (4, 4),
    "sembuf": (6, 6),
    "sigset": (1, 1),
    "sockaddr": (1, 1),
    "sysinfo": (64, 112),
    "timespec": (8, 16),
    "timespec64": (16, 16),
    "timeval": (8, 16),
    "timex": (128, 208),
    "timex64": (208, 208),
    "timezone": (8, 8),
    "tms": (16, 32),
    "uid": (4, 4),
    "uid16": (2, 2),
    "uint": (4, 4),
    "ustat": (20, 32),
    "utimbuf": (8, 16),
}
# What syscall.c can copy between a 32-bit guest's layout and the host's.
CONVERTED = frozenset(
    ("gid16", "itimerspec", "itimerval", "long", "mq_attr", "rusage", "sysinfo", "timespec", "timeval")
) | {"tms", "uid16"}
# Those whose padding a 32-bit guest may leave undefined.
PADDED = frozenset(("itimerspec64", "timespec64"))
# Calls whose path is itself meant where it is a symbolic link.
NOFOLLOW = frozenset(
    ("lchown", "lchown32", "lgetxattr", "llistxattr", "lremovexattr", "lsetxattr"),
)
# Calls whose path means the entry of a directory, which need not exist.
NAMES = frozenset(
    (
        *("link", "mkdir", "mkdirat", "mknod", "mknodat", "rename", "renameat", "renameat2", "rmdir"),
        *("symlink", "symlinkat", "unlink", "unlinkat"),
    )
)
# Calls that only look at what their path names.
LOOKS = frozenset(
    (
        *("access", "faccessat", "getxattr", "lgetxattr", "listxattr", "llistxattr"),
        *("readlink", "readlinkat", "statfs", "statfs64"),
    )
)
_NUMBERS = {
    "addr": "ULONG",
    "any": "ULONG",
    "fd": "FD",
    "flags": "ULONG",
    "gid": "UINT",
    "gid16": "ID16",
    "int": "INT",
    "long": "LONG",
    "mode": "UINT",
    "off": "PAIR",
    "pid": "INT",
    "sig": "INT",
    "size": "ULONG",
    "u64": "PAIR",
    "uid": "UINT",
    "uid16": "ID16",
    "uint": "UINT",
    "ulong": "ULONG",
}
_ONE = 0xFF
_INDIRECT = 0x80


class PolicyError(ValueError):
    """The table of policies breaks its grammar, or does not fit the calls it speaks of."""


class Policy:
    """What is done with a call: `verb` is pass, implement or refuse; `target` the other name, or errno."""

    __slots__ = ("reason", "target", "verb", "waits")

    def __init__(self, verb: str, target: str, waits: bool, reason: str) -> None:
        self.verb = verb
        self.target = target
        self.waits = waits
        self.reason = reason


def policies(path: Path = POLICY) -> dict[str, Policy]:
    """The policies by name or name@abi.  Raise PolicyError, or OSError if the file cannot be read."""
    found: dict[str, Policy] = {}
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        name, verb, rest = words[0], words[1] if len(words) > 1 else "", words[2:]
        bare = name.partition("@")[0]
        if name in found:
            raise PolicyError(f"{path}:{number}: {name} stands here twice")
        if verb == "refuse" and len(rest) > 1:
            found[name] = Policy(verb, rest[0], False, " ".join(rest[1:]))
            continue
        waits = rest[:1] == ["waits"]
        rest = rest[1:] if waits else rest
        if verb not in ("pass", "implement") or (rest and (rest[0] != "as" or len(rest) != 2)):
            raise PolicyError(f"{path}:{number}: expected `name pass|implement|refuse ...`, got {line!r}")
        found[name] = Policy(verb, rest[1] if rest else bare, waits, "")
    return found


def policy_of(call: Syscall, abi: str, table: dict[str, Policy]) -> Policy:
    """The policy of one call on one ABI; raise PolicyError if nobody decided."""
    policy = table.get(f"{call.name}@{abi}") or table.get(call.name)
    if policy is None:
        raise PolicyError(f"{call.name} ({abi} {call.number}) has no line in {POLICY.name}")
    return policy


def conversion(call: Syscall, abi: str) -> bool:
    """Whether a call that the host does needs a path translated or a structure copied."""
    wide = abi != "arm"
    if any(argument.kind == "path" for argument in call.arguments):
        return True
    return any("COPY_NONE" not in text for text in _arguments(call, wide, not wide, True))


def _count(call: Syscall, argument: Argument) -> tuple[int, int]:
    """How the number of elements is found: the code of the C table, and a factor known beforehand."""
    if not argument.count:
        return _ONE, 1
    if argument.count.isdigit():
        return _ONE, int(argument.count)
    index = [other.name for other in call.arguments].index(argument.count)
    return index | (_INDIRECT if argument.indirect else 0), 1


def _pointer(call: Syscall, argument: Argument, wide: bool, host: bool) -> tuple[str, int, int, str]:
    """Kind, count, bytes of an element and conversion of a pointer argument."""
    if argument.kind == "path":
        kind = "LINK" if call.name in NOFOLLOW else "NAME" if call.name in NAMES else "PATH"
        return kind, _ONE, 0, "NONE"
    if not host or argument.kind == "str":
        return "POINTER", _ONE, 0, "NONE"
    if argument.kind not in ("in", "out", "inout"):
        raise PolicyError(f"{call.name} cannot pass: nobody knows what {argument.name} points at")
    layout = structs().get(argument.element)
    if layout is not None and layout.pointers:
        raise PolicyError(f"{call.name} cannot pass: {argument.element} holds pointers")
    convertible = argument.element in CONVERTED or (argument.element in PADDED and argument.kind != "out")
    convert = argument.element if not wide and convertible else ""
    differs = layout is not None and (layout.layout == "abi" or (layout.layout == "width" and not wide))
    if differs and not convert:
        raise PolicyError(f"{call.name} cannot pass: {argument.element} differs from the host's")
    if argument.element not in SIZES:
        raise PolicyError(f"{call.name} cannot pass: the size of {argument.element} is not in SIZES")
    count, factor = _count(call, argument)
    size = SIZES[argument.element][wide]
    if convert and count != _ONE:
        raise PolicyError(f"{call.name} cannot pass: {argument.element} in unknown number needs a conversion")
    return argument.kind.upper(), count, size * factor, convert.upper() or "NONE"


def _arguments(call: Syscall, wide: bool, aligned: bool, host: bool) -> list[str]:
    """C initializers of the arguments."""
    lines = []
    where = places(call, wide, aligned)
    for argument, registers in zip(call.arguments, where, strict=True):
        if argument.is_pointer:
            kind, count, size, convert = _pointer(call, argument, wide, host)
        else:
            kind, count, size, convert = _NUMBERS[argument.kind], _ONE, 0, "NONE"
            if argument.name == "newfd":  # a number that is to be taken
                kind = "INT"
        if kind == "PAIR" and wide:
            kind = "LONG"
        lines.append(f"{{ EMU_ARG_{kind}, {registers[0]}, {count}, EMU_COPY_{convert}, {size} }}")
    if where and where[-1][-1] > 5:
        raise PolicyError(f"{call.name} takes {where[-1][-1] + 1} registers")
    return lines


def _entry(call: Syscall, abi: str, policy: Policy) -> str:
    wide = abi != "arm"
    host = policy.verb == "pass"
    arguments = _arguments(call, wide, not wide, host) if policy.verb != "refuse" else []
    function = f"CALL_{policy.target}" if policy.verb == "implement" else "CALL_NO_FUNCTION"
    number = f"SYS_{policy.target}" if host else "-1"
    errno = policy.target if policy.verb == "refuse" else "0"
    flags = [
        *(["EMU_CALL_WAITS"] if policy.waits else []),
        *(["EMU_CALL_PATH"] if any(argument.kind == "path" for argument in call.arguments) else []),
        *(["EMU_CALL_COPIES"] if any("COPY_NONE" not in text for text in arguments) else []),
        *(["EMU_CALL_LOOKS"] if call.name in LOOKS else []),
        *(["EMU_CALL_ID16"] if call.result in ("uid16", "gid16") else []),
    ]
    return (
        f"{{ /* {call.name} */ {function}, {number}, {errno}, {len(arguments)}, {' | '.join(flags) or 0},"
        f" {{ {', '.join(arguments) or '{ 0, 0, 0, 0, 0 }'} }} }}"
    )


def header() -> str:
    """The C header's text."""
    table = policies()
    functions: set[str] = set()
    body = []
    for abi in ABIS:
        calls = load(abi)
        for first, title in ((0, abi), (PRIVATE, f"{abi}_private")):
            part = {n: c for n, c in calls.items() if (n >= PRIVATE) == bool(first)}
            if not part:
                continue
            body.append(f"static const emu_call {title}_calls[] = {{")
            for number, call in part.items():
                policy = policy_of(call, abi, table)
                if policy.verb == "implement":
                    functions.add(policy.target)
                body.append(f"    [{number - first}] = {_entry(call, abi, policy)},")
            body.append("};")
    arguments = "(emu_thread *thread, const uint64_t *args)"
    declarations = [f"int64_t emu_sys_{name}{arguments};" for name in sorted(functions)]
    numbers = [f"    CALL_{name}," for name in sorted(functions)]
    names = ["enum {", "    CALL_NONE,", "    CALL_NO_FUNCTION,", *numbers, "};"]
    # The rows hold numbers instead of pointers: a start would have to relocate these, on 28 pages.
    rows = [f"    [CALL_{name}] = emu_sys_{name}," for name in sorted(functions)]
    pointers = ["static const emu_syscall_fn functions[] = {", *rows, "};"]
    return "\n".join(
        ["/* Written by emu/native/tables.py. */", *declarations, "", *names, "", *pointers, "", *body, ""]
    )


def write(path: Path) -> None:
    """Write the header to a file, unless the same text is there."""
    text = header()
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))

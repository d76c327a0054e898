"""Arguments and results of system calls as text, as strace has them: `AT_FDCWD, "/etc/passwd", O_RDONLY`.

Functions of numbers and guest memory, that know nothing of processes.  What they know of calls is in
isa/syscalls: the arguments' types in signatures.tbl, the numbers' names in flags.tbl.
"""

from __future__ import annotations

import errno
import os
import signal
import struct

from emu.linux.watch import KEPT, BadAddress
from isa.syscalls import flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from isa.syscalls import Argument, Syscall

    class Memory(Protocol):
        """What text needs of a guest's memory: emu.linux.watch.Memory."""

        def read(self, address: int, size: int) -> bytes: ...
        def text(self, address: int, limit: int = ...) -> tuple[bytes, bool]: ...


LONGEST = 32  # bytes of a string or buffer, and elements of an array, that are shown
_RESTARTS = {
    -512: "ERESTARTSYS (To be restarted if SA_RESTART is set)",
    -513: "ERESTARTNOINTR (To be restarted)",
    -514: "ERESTARTNOHAND (To be restarted if no handler)",
    -516: "ERESTART_RESTARTBLOCK (Interrupted by signal)",
}
_ESCAPES = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_MODES = {
    0o140000: "S_IFSOCK",
    0o120000: "S_IFLNK",
    0o100000: "S_IFREG",
    0o060000: "S_IFBLK",
    0o040000: "S_IFDIR",
}
_MODES |= {0o020000: "S_IFCHR", 0o010000: "S_IFIFO"}
# Where st_mode, st_size and st_rdev are, and the bytes of st_size; by structure and ABI.
_STAT = {
    ("stat", "aarch64"): (16, 48, 32, 8),
    ("stat", "riscv64"): (16, 48, 32, 8),
    ("stat", "x86_64"): (24, 48, 40, 8),
    ("stat", "arm"): (8, 20, 16, 4),
    ("stat64", "arm"): (16, 48, 32, 8),
}
_ADDRESSES = ("futex", "set_tid_address")  # what their pointers point at is not shown
_HEXADECIMAL = frozenset(("mmap.offset", "mmap2.pgoffset", "personality.persona", "ioctl.arg"))


# ---- numbers and strings --------------------------------------------------------------------------


def quoted(data: bytes, cut: bool = False) -> str:
    """Bytes as a C string, with ... behind it if there are more; at most LONGEST are shown."""
    cut = cut or len(data) > LONGEST
    data = data[:LONGEST]
    words = []
    for at, byte in enumerate(data):
        if byte in _ESCAPES:
            words.append(_ESCAPES[byte])
        elif 32 <= byte < 127:
            words.append(chr(byte))
        else:
            digit = data[at + 1 : at + 2].isdigit()
            words.append(f"\\{byte:03o}" if digit else f"\\{byte:o}")
    return f'"{"".join(words)}"' + ("..." if cut else "")


def signal_name(number: int) -> str:
    """SIGCHLD; SIGRTMIN, SIGRT_1 ... as strace counts them, from the kernel's first at 32."""
    if 32 <= number <= 64:
        return "SIGRTMIN" if number == 32 else f"SIGRT_{number - 32}"
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def error_text(number: int) -> str:
    """A positive errno as in `ENOENT (No such file or directory)`."""
    name = errno.errorcode.get(number)
    return f"{name} ({os.strerror(number)})" if name else f"(errno {number})"


def address_text(value: int) -> str:
    return hex(value) if value else "NULL"


def mode_text(mode: int) -> str:
    """st_mode: S_IFREG|0644."""
    kind = _MODES.get(mode & 0o170000)
    return f"{kind}|{mode & 0o7777:#05o}".replace("0o", "0") if kind else f"{mode:#o}".replace("0o", "0")


def octal(mode: int) -> str:
    return f"0{mode:02o}"


def status_text(status: int) -> str:
    """A wait status."""
    if status & 0x7F == 0:
        return f"{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}"
    if status & 0xFF == 0x7F:
        if status == 0xFFFF:
            return "{WIFCONTINUED(s)}"
        return f"{{WIFSTOPPED(s) && WSTOPSIG(s) == {signal_name(status >> 8 & 0xFF)}}}"
    core = " && WCOREDUMP(s)" if status & 0x80 else ""
    return f"{{WIFSIGNALED(s) && WTERMSIG(s) == {signal_name(status & 0x7F)}{core}}}"


def sigset_text(mask: int) -> str:
    """A set of signals: [INT CHLD], ~[KILL STOP] where most are in it."""
    most = mask.bit_count() > 32
    names = [
        signal_name(n).removeprefix("SIG") for n in range(1, 65) if bool(mask >> (n - 1) & 1) is not most
    ]
    return f"{'~' if most else ''}[{' '.join(names)}]"


def siginfo_text(info: bytes, names: flags.Flags) -> str:
    """A siginfo_t of a 64-bit kernel: {si_signo=SIGCHLD, si_code=CLD_EXITED, ...}."""
    number, _, code = struct.unpack_from("<iii", info)
    special = names.groups.get(f"si_code_{number}") if code > 0 else None
    text = special.text(code) if special and code in special.exact else names.groups["si_code"].text(code)
    words = [f"si_signo={signal_name(number)}", f"si_code={text}"]
    pid, uid, status = struct.unpack_from("<iIi", info, 16)
    if code == 0x80 and number != signal.SIGSEGV:
        pass
    elif number == signal.SIGCHLD and code > 0:
        shown = str(status) if code == 1 else signal_name(status)
        utime, stime = struct.unpack_from("<qq", info, 32)
        words += [
            f"si_pid={pid}",
            f"si_uid={uid}",
            f"si_status={shown}",
            f"si_utime={utime}",
            f"si_stime={stime}",
        ]
    elif number in (4, 5, 7, 8, 11) and (code > 0):
        words.append(f"si_addr={address_text(struct.unpack_from('<Q', info, 16)[0])}")
    elif code in (-1, -3):
        value = struct.unpack_from("<Q", info, 24)[0]
        words += [
            f"si_pid={pid}",
            f"si_uid={uid}",
            f"si_int={value & 0xFFFFFFFF}",
            f"si_ptr={address_text(value)}",
        ]
    elif code == -2:
        words += [f"si_timerid={pid}", f"si_overrun={uid}"]
    else:
        words += [f"si_pid={pid}", f"si_uid={uid}"]
    return f"{{{', '.join(words)}}}"


def sockaddr_text(data: bytes) -> str:
    """A sockaddr of the families that are usual."""
    if len(data) < 2:
        return quoted(data)
    family = struct.unpack_from("<H", data)[0]
    if family == 1:
        path = data[2:]
        if not path:
            return "{sa_family=AF_UNIX}"
        shown = f"@{quoted(path[1:])}" if path[0] == 0 else quoted(path.split(b"\0")[0])
        return f"{{sa_family=AF_UNIX, sun_path={shown}}}"
    if family == 2 and len(data) >= 8:
        port = int.from_bytes(data[2:4], "big")
        address = ".".join(map(str, data[4:8]))
        return f'{{sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr("{address}")}}'
    if family == 10 and len(data) >= 24:
        from socket import AF_INET6, inet_ntop

        port, info = int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:8], "big")
        return (
            f"{{sa_family=AF_INET6, sin6_port=htons({port}), sin6_flowinfo=htonl({info}), "
            f'inet_pton(AF_INET6, "{inet_ntop(AF_INET6, data[8:24])}", &sin6_addr)}}'
        )
    if family == 16 and len(data) >= 12:
        pid, groups = struct.unpack_from("<II", data, 4)
        return f"{{sa_family=AF_NETLINK, nl_pid={pid}, nl_groups={groups:#010x}}}"
    return f"{{sa_family={family}, sa_data={quoted(data[2:])}}}"


# ---- arguments ----------------------------------------------------------------------------------------


class Decoder:
    """Turns arguments of one ABI's calls into text."""

    def __init__(self, isa: str) -> None:
        self.isa = isa
        self.wide = isa != "arm"
        self.names = flags.load(isa)
        self._long = "q" if self.wide else "i"

    def group(self, name: str, value: int) -> str:
        return self.names.groups[name].text(value)

    def argument(
        self, call: Syscall, index: int, args: Sequence[int], memory: Memory, result: int | None = None
    ) -> str:
        """The text of args[index].  result: the call's, once it is known: what it filled can be shown."""
        argument, value = call.arguments[index], args[index]
        try:
            if argument.is_pointer:
                return self._pointer(call, argument, args, value, memory, result)
            return self._number(call, argument, args, value, memory, result)
        except BadAddress:
            return address_text(value)

    def _number(
        self,
        call: Syscall,
        argument: Argument,
        args: Sequence[int],
        value: int,
        memory: Memory,
        result: int | None,
    ) -> str:
        kind, name = argument.kind, f"{call.name}.{argument.name}"
        if name in ("fcntl.arg", "fcntl64.arg"):
            return self._fcntl(args[1], value, memory)
        if name.endswith((".op", ".timeout")) and call.name.startswith("futex"):
            return self._futex(call, argument.name, args, value, memory)
        if name in ("getsockopt.optname", "setsockopt.optname"):
            group = self.names.groups.get(f"option_{args[1]}")
            return group.text(value) if group else str(value)
        if name == "socket.protocol" and args[0] in (2, 10):
            return self.group("protocol", value)
        if name == "prctl.arg2" and args[0] == 15:
            return quoted(*_cut(*memory.text(value, 15)))
        group = self.names.of(call.name, argument.name)
        if group is not None:
            return group.text(value)
        if kind == "sig":
            return signal_name(value)
        if kind == "mode":
            return octal(value)
        if kind == "addr":
            return address_text(value)
        if kind == "flags":
            return hex(value) if value else "0"
        if kind == "any" or name in _HEXADECIMAL:
            return hex(value) if value > 0xFFFF or (value and name in _HEXADECIMAL) else str(value)
        if kind in ("uid", "gid", "uid16", "gid16"):
            return "-1" if value == (0xFFFF if kind.endswith("16") else 0xFFFF_FFFF) else str(value)
        return str(value)

    def _fcntl(self, command: int, value: int, memory: Memory) -> str:
        if command == 2:
            return self.group("fdflags", value)
        if command == 4:
            return self.group("open", value)
        return (
            hex(value)
            if command in range(5, 8) or command in range(12, 17) or command in range(36, 39)
            else str(value)
        )

    def _futex(self, call: Syscall, name: str, args: Sequence[int], value: int, memory: Memory) -> str:
        operation = args[1] & 0x7F
        if name == "op":
            text = self.names.groups["futex"].text(value & ~0x80)
            first, bar, rest = text.partition("|")
            return first + ("_PRIVATE" if value & 0x80 else "") + bar + rest
        if operation in (0, 6, 9, 11, 13):  # those that wait
            kind = "timespec64" if call.name == "futex_time64" else "timespec"
            return self._one(kind, value, memory) if value else "NULL"
        return str(value) if operation in (3, 4, 5, 12) else address_text(value)

    def _pointer(
        self,
        call: Syscall,
        argument: Argument,
        args: Sequence[int],
        value: int,
        memory: Memory,
        result: int | None,
    ) -> str:
        if value == 0:
            return "NULL"
        kind, element = argument.kind, argument.element
        if kind in ("path", "str"):
            return quoted_path(*memory.text(value)) if kind == "path" else quoted(*_cut(*memory.text(value)))
        if kind == "strv":
            return self._strings(argument.name, value, memory)
        if kind == "ptr" or element in ("robust_list_head", "rseq") or call.name.startswith(_ADDRESSES):
            return address_text(value)
        if kind == "out" and (result is None or result < 0):
            return address_text(value)
        if call.name in ("wait4",) and argument.name == "status":
            if not result:
                return address_text(value)
            return f"[{status_text(int.from_bytes(memory.read(value, 4), 'little'))}]"
        if element == "fd_set":
            return self._fd_set(args[0], value, memory)
        number = self._count(call, argument, args, memory)
        if argument.name == "optval" and number == 4:
            return self._one("int", value, memory, bracket=True)
        if not element:
            size = number if kind != "out" or call.result != "size" else min(number, result or 0)
            return quoted(memory.read(value, min(size, LONGEST)), size > LONGEST)
        if argument.in_bytes and element == "sockaddr":
            return sockaddr_text(memory.read(value, max(0, min(number, 128))))
        if element in ("linux_dirent64", "linux_dirent"):
            return self._entries(element, value, result or 0, memory)
        if argument.in_bytes or not argument.count:
            return self._one(element, value, memory, argument.name, bracket=element in _WORDS)
        if element == "epoll_event" or (
            kind == "out" and call.result == "int" and call.name.startswith("epoll")
        ):
            number = min(number, result if result is not None else number)
        size = self._size(element)
        if size == 0:
            return address_text(value)
        shown = [self._one(element, value + size * n, memory) for n in range(min(number, LONGEST))]
        return f"[{', '.join(shown)}{', ...' if number > LONGEST else ''}]"

    def _count(self, call: Syscall, argument: Argument, args: Sequence[int], memory: Memory) -> int:
        """How much a pointer points at, in the unit of its signature."""
        if not argument.count:
            return 1
        if argument.count.isdigit():
            return int(argument.count)
        at = [other.name for other in call.arguments].index(argument.count)
        if argument.indirect:
            return int.from_bytes(memory.read(args[at], 4), "little", signed=True)
        return max(0, args[at])

    def _strings(self, name: str, address: int, memory: Memory) -> str:
        size, words, total = 8 if self.wide else 4, [], 0
        while (pointer := int.from_bytes(memory.read(address, size), "little")) and total < 4096:
            if name != "envp" and total < LONGEST:
                words.append(quoted(*_cut(*memory.text(pointer))))
            total += 1
            address += size
        if name == "envp":
            return f"{address - total * size:#x} /* {total} var{'' if total == 1 else 's'} */"
        return f"[{', '.join(words)}{', ...' if total > LONGEST else ''}]"

    def _fd_set(self, limit: int, address: int, memory: Memory) -> str:
        limit = max(0, min(limit, 1024))
        bits = int.from_bytes(memory.read(address, (limit + 7) // 8), "little")
        return f"[{' '.join(str(n) for n in range(limit) if bits >> n & 1)}]"

    def _entries(self, element: str, address: int, size: int, memory: Memory) -> str:
        at = 16 if element == "linux_dirent64" or self.wide else 8
        data, offset, total = memory.read(address, min(size, 1 << 16)), 0, 0
        while offset + at + 2 <= len(data):
            offset += max(1, int.from_bytes(data[offset + at : offset + at + 2], "little"))
            total += 1
        return f"{address:#x} /* {total} entr{'y' if total == 1 else 'ies'} */"

    # ---- structures -----------------------------------------------------------------------------------

    def _size(self, element: str) -> int:
        """Bytes of an element; 0: it is not shown."""
        if element in _WORDS:
            return {
                "long": struct.calcsize(f"<{self._long}"),
                "ulong": struct.calcsize(f"<{self._long}"),
            }.get(element, struct.calcsize(f"<{_WORDS[element]}"))
        if element == "epoll_event":
            return 12 if self.isa == "x86_64" else 16
        form = _PLAIN.get(element)
        if form is not None:
            return struct.calcsize(f"<{form[0].replace('L', self._long)}")
        return 2 * struct.calcsize(f"<{self._long}") if element == "iovec" else 0

    def _one(self, element: str, address: int, memory: Memory, name: str = "", bracket: bool = False) -> str:
        """One element at an address."""
        if element in _WORDS:
            form = self._long if element in ("long", "ulong") else _WORDS[element]
            value = struct.unpack(f"<{form}", memory.read(address, struct.calcsize(f"<{form}")))[0]
            return f"[{value}]" if bracket else str(value)
        if element in _PLAIN:
            return self._plain(element, address, memory)
        if (element, self.isa) in _STAT:
            return self._stat(element, address, memory)
        special = _SPECIAL.get(element)
        return special(self, address, memory) if special else address_text(address)

    def _plain(self, element: str, address: int, memory: Memory) -> str:
        form, fields = _PLAIN[element]
        form = "<" + form.replace("L", self._long)
        values = struct.unpack(form, memory.read(address, struct.calcsize(form)))
        words = []
        for field, value in zip(fields.split(), values, strict=True):
            name, _, group = field.partition(":")
            if name.startswith("_"):
                continue
            if group == "x":
                text = address_text(value)
            elif group == "limit":
                endless = value in (-1, (1 << 64) - 1)
                text = (
                    "RLIM64_INFINITY"
                    if endless
                    else f"{value // 1024}*1024"
                    if value and value % 1024 == 0
                    else str(value)
                )
            elif group == "signal":
                text = signal_name(value) if value else "0"
            else:
                text = self.group(group, value) if group else str(value)
            words.append((name, text))
        return _nested(words)

    def _stat(self, element: str, address: int, memory: Memory) -> str:
        mode_at, size_at, rdev_at, width = _STAT[element, self.isa]
        data = memory.read(address, size_at + width)
        mode = int.from_bytes(
            data[mode_at : mode_at + (2 if element == "stat" and not self.wide else 4)], "little"
        )
        if mode & 0o170000 in (0o020000, 0o060000):
            device = int.from_bytes(data[rdev_at : rdev_at + 8], "little")
            what = f"st_rdev=makedev({os.major(device):#x}, {os.minor(device):#x})"
        else:
            what = f"st_size={int.from_bytes(data[size_at : size_at + width], 'little')}"
        return f"{{st_mode={mode_text(mode)}, {what}, ...}}"

    def _statx(self, address: int, memory: Memory) -> str:
        data = memory.read(address, 48)
        mask, mode, size = (
            int.from_bytes(data[:4], "little"),
            int.from_bytes(data[28:30], "little"),
            data[40:48],
        )
        return (
            f"{{stx_mask={self.group('statx', mask)}, stx_attributes=0, stx_mode={mode_text(mode)}, "
            f"stx_size={int.from_bytes(size, 'little')}, ...}}"
        )

    def _iovec(self, address: int, memory: Memory) -> str:
        base, length = struct.unpack(f"<2{self._long.upper()}", memory.read(address, self._size("iovec")))
        try:
            text = quoted(memory.read(base, min(length, LONGEST)), length > LONGEST) if base else "NULL"
        except BadAddress:
            text = address_text(base)
        return f"{{iov_base={text}, iov_len={length}}}"

    def _msghdr(self, address: int, memory: Memory) -> str:
        form = "<QI4xQQQQi" if self.wide else "<IIIIIIi"
        name, length, vectors, count, _, control, bits = struct.unpack(
            form, memory.read(address, struct.calcsize(form))
        )
        shown = sockaddr_text(memory.read(name, min(length, 128))) if name else "NULL"
        size = self._size("iovec")
        parts = ", ".join(self._iovec(vectors + size * n, memory) for n in range(min(count, LONGEST)))
        return (
            f"{{msg_name={shown}, msg_namelen={length}, msg_iov=[{parts}], msg_iovlen={count}, "
            f"msg_controllen={control}, msg_flags={self.group('msg', bits & 0xFFFFFFFF)}}}"
        )

    def _sigset(self, address: int, memory: Memory) -> str:
        return sigset_text(int.from_bytes(memory.read(address, 8), "little"))

    def _sigaction(self, address: int, memory: Memory) -> str:
        if self.isa == "riscv64":
            handler, bits, mask = struct.unpack("<QQQ", memory.read(address, 24))
            restorer = 0
        elif self.wide:
            handler, bits, restorer, mask = struct.unpack("<QQQQ", memory.read(address, 32))
        else:
            handler, bits, restorer, mask = struct.unpack("<IIIQ", memory.read(address, 20))
        shown = {0: "SIG_DFL", 1: "SIG_IGN"}.get(handler, hex(handler))
        text = f"sa_handler={shown}, sa_mask={sigset_text(mask)}, sa_flags={self.group('sigaction', bits)}"
        return f"{{{text}, sa_restorer={restorer:#x}}}" if bits & 0x4000000 else f"{{{text}}}"

    def _stack(self, address: int, memory: Memory) -> str:
        form = "<Qi4xQ" if self.wide else "<IiI"
        sp, bits, size = struct.unpack(form, memory.read(address, struct.calcsize(form)))
        mode = self.group("sigaltstack", bits & 0xFFFFFFFF)
        return f"{{ss_sp={address_text(sp)}, ss_flags={mode}, ss_size={size}}}"

    def _utsname(self, address: int, memory: Memory) -> str:
        data = memory.read(address, 6 * 65)
        fields = ("sysname", "nodename", "release", "version", "machine")
        words = [
            f"{name}={quoted(data[65 * n : 65 * n + 65].split(bytes(1))[0])}" for n, name in enumerate(fields)
        ]
        return f"{{{', '.join(words)}, ...}}"

    def _epoll_event(self, address: int, memory: Memory) -> str:
        data = memory.read(address, self._size("epoll_event"))
        value = int.from_bytes(data[-8:], "little")
        events = self.group("epoll", int.from_bytes(data[:4], "little"))
        return f"{{events={events}, data={{u32={value & 0xFFFFFFFF}, u64={value}}}}}"

    def _siginfo(self, address: int, memory: Memory) -> str:
        if not self.wide:
            return address_text(address)
        return siginfo_text(memory.read(address, 128), self.names)


def _nested(words: list[tuple[str, str]]) -> str:
    """Fields with a dot in their names are those of structures inside: {it_value={tv_sec=1, ...}}."""
    texts: dict[str, list[str]] = {}
    for name, text in words:
        outer, _, inner = name.partition(".")
        texts.setdefault(outer, []).append(f"{inner}={text}" if inner else text)
    whole = {
        name: f"{{{', '.join(parts)}}}" if "=" in parts[0] else parts[0] for name, parts in texts.items()
    }
    return f"{{{', '.join(f'{name}={text}' for name, text in whole.items())}}}"


# Elements that are numbers.
_WORDS = {"int": "i", "uint": "I", "long": "q", "ulong": "Q", "off": "q", "uid": "I", "gid": "I", "size": "Q"}
_WORDS |= {"uid16": "H", "gid16": "H", "addr": "Q", "pid": "i"}
# Structures whose fields follow one another: struct's format, with L for a word of the guest, and names;
# name:group for a number with names, :x in hexadecimal, _name for padding.
_INTERVAL = "it_interval.tv_sec it_interval.tv_{0} it_value.tv_sec it_value.tv_{0}"
_PLAIN = {
    "timespec": ("LL", "tv_sec tv_nsec"),
    "timespec64": ("qi4x", "tv_sec tv_nsec"),
    "timeval": ("LL", "tv_sec tv_usec"),
    "itimerspec": ("LLLL", _INTERVAL.format("nsec")),
    "itimerspec64": ("qi4xqi4x", _INTERVAL.format("nsec")),
    "itimerval": ("LLLL", _INTERVAL.format("usec")),
    "pollfd": ("ihH", "fd events:poll _revents"),
    "rlimit": ("LL", "rlim_cur:limit rlim_max:limit"),
    "rlimit64": ("QQ", "rlim_cur:limit rlim_max:limit"),
    "utimbuf": ("LL", "actime modtime"),
    "timezone": ("ii", "tz_minuteswest tz_dsttime"),
    "tms": ("LLLL", "tms_utime tms_stime tms_cutime tms_cstime"),
    "sched_param": ("i", "sched_priority"),
    "sembuf": ("Hhh", "sem_num sem_op sem_flg"),
    "open_how": ("QQQ", "flags:open mode resolve"),
    "mq_attr": ("LLLL", "mq_flags mq_maxmsg mq_msgsize mq_curmsgs"),
    "clone_args": (
        "QQQQQQQQ",
        "flags:clone pidfd:x child_tid:x parent_tid:x exit_signal:signal stack:x stack_size:x tls:x",
    ),
}
_SPECIAL: dict[str, Callable[[Decoder, int, Memory], str]] = {
    "statx": Decoder._statx,
    "iovec": Decoder._iovec,
    "msghdr": Decoder._msghdr,
    "sigset": Decoder._sigset,
    "sigaction": Decoder._sigaction,
    "stack": Decoder._stack,
    "utsname": Decoder._utsname,
    "epoll_event": Decoder._epoll_event,
    "siginfo": Decoder._siginfo,
}


def _cut(data: bytes, found: bool) -> tuple[bytes, bool]:
    return data, not found


def quoted_path(data: bytes, found: bool = True) -> str:
    """A file name: shown as a whole."""
    text = "".join(quoted(data[at : at + LONGEST])[1:-1] for at in range(0, len(data), LONGEST))
    return f'"{text}"' + ("" if found else "...")


def arguments_text(
    decoder: Decoder,
    call: Syscall,
    args: Sequence[int],
    memory: Memory,
    first: int = 0,
    last: int | None = None,
    result: int | None = None,
) -> str:
    """The texts of args[first:last], with commas between and, if `first` is not 0, before."""
    if call.name == "clone":
        return "" if first else _clone(decoder, call, args)
    last = shown(call, args) if last is None else last
    words = [decoder.argument(call, index, args, memory, result) for index in range(first, last)]
    return ", ".join(["", *words] if first and words else words)


def _clone(decoder: Decoder, call: Syscall, args: Sequence[int]) -> str:
    """clone's arguments change places with the ABI, and have no meaning without their flag."""
    by_name = {argument.name: value for argument, value in zip(call.arguments, args, strict=True)}
    bits, last = by_name["flags"], by_name["flags"] & 0xFF
    words = [decoder.group("clone", bits & ~0xFF)] if bits & ~0xFF or not last else []
    named = "|".join([*words, *([signal_name(last)] if last else [])])
    text = [f"child_stack={address_text(by_name['stack'])}", f"flags={named}"]
    for mask, name, field in ((0x101000, "parent_tid", "parent_tid"), (0x80000, "tls", "tls")):
        if bits & mask:
            text.append(f"{name}={by_name[field]:#x}")
    if bits & 0x1200000:
        text.append(f"child_tidptr={by_name['child_tid']:#x}")
    return ", ".join(text)


def shown(call: Syscall, args: Sequence[int]) -> int:
    """How many arguments mean something."""
    count = len(call.arguments)
    if call.name in ("open", "openat"):
        bits = args[count - 2]
        return count if bits & 0o100 or bits & 0o20000000 else count - 1
    if call.name in ("fcntl", "fcntl64"):
        return 2 if args[1] in (1, 3, 9, 11, 1025, 1032, 1034) else 3
    if call.name.startswith("futex") and count == 6:
        operation = args[1] & 0x7F
        return {0: 4, 1: 3, 6: 4, 7: 2, 8: 2, 13: 4}.get(operation, 6)
    return count


def known(call: Syscall, args: Sequence[int]) -> int:
    """How many arguments can be shown before the call is made: those before the first that it fills."""
    if call.name == "clone":
        return shown(call, args)
    for index, argument in enumerate(call.arguments[: shown(call, args)]):
        if argument.kind == "out" or (argument.kind == "inout" and argument.element in ("fd_set", "msghdr")):
            return index
    return shown(call, args)


def result_text(decoder: Decoder, call: Syscall | None, args: Sequence[int], result: int) -> str:
    """What stands behind the =."""
    if result in _RESTARTS:
        return f"? {_RESTARTS[result]}"
    if result == KEPT:
        return (
            "0"
            if call is not None and (call.name.startswith("exec") or call.name.endswith("sigreturn"))
            else "?"
        )
    if -4096 < result < 0:
        return f"-1 {error_text(-result)}"
    if call is None:
        return str(result)
    if call.result == "addr":
        return hex(result & ((1 << 64) - 1 if decoder.wide else 0xFFFFFFFF)) if result else "0"
    if call.result == "mode":
        return octal(result)
    if call.name in ("fcntl", "fcntl64") and args[1] in (1, 3):
        group = "fdflags" if args[1] == 1 else "open"
        return f"{result:#x} (flags {decoder.group(group, result)})" if result or args[1] == 3 else "0"
    if call.name in ("poll", "ppoll", "ppoll_time64") and result == 0:
        return "0 (Timeout)"
    return str(result)


def ready_text(decoder: Decoder, call: Syscall, args: Sequence[int], memory: Memory, result: int) -> str:
    """What poll found: ` ([{fd=3, revents=POLLIN}])`."""
    if call.name not in ("poll", "ppoll", "ppoll_time64") or result <= 0:
        return ""
    words = []
    try:
        data = memory.read(args[0], 8 * min(args[1], 4096 // 8))
    except BadAddress:
        return ""
    for fd, _, events in struct.iter_unpack("<ihH", data):
        if events:
            words.append(f"{{fd={fd}, revents={decoder.group('poll', events)}}}")
    return f" ([{', '.join(words)}])"

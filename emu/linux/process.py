"""A Linux program of any ISA, run as a process: the runtime of native/, from Python.

The guest's process is this process, or a child of it: its descriptors, working directory and user are ours;
its memory is a reserved range of our address space, and its children are forks of us that never come back to
Python.
"""

from __future__ import annotations

import errno
import os
import signal

from accel.errors import BadImage, EmuError
from emu.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import NoReturn


class NoProgram(EmuError):
    """The program is not there."""

    status = 127


class Process:
    """A program that is loaded and can be run.

    program: path as the guest names it: absolute ones are looked up in the sysroot first; a bare name that is
    no file here is searched in PATH.  argv: all arguments, the program's own name included; None: only that.
    sysroot: a directory whose files have precedence over the host's, None: the host's alone.  accel: as
    --accel (accel.choice).  environ: None: ours.

    Raises NoProgram (status 127), BadImage (126) for what cannot be executed, AccelError for an accelerator
    that cannot be had, EmuError for a sysroot that is no directory.
    """

    def __init__(
        self,
        program: str | os.PathLike[str],
        argv: Sequence[str] | None = None,
        *,
        sysroot: str | os.PathLike[str] | None = None,
        accel: str = "auto",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._process = None
        self.status: int | None = None
        self.note = ""
        root = None if sysroot is None else os.fspath(sysroot)
        if root is not None and not os.path.isdir(root):
            raise EmuError(f"sysroot {root} is no directory; give the root of the guest's files with -L")
        environ = own_environ() if environ is None else environ
        path = search(os.fspath(program), root, environ.get("PATH", ""))
        name, self.note = self._choose(accel, path, root)
        engines = _engines(name)
        text = ffi.new("char[1024]")
        where = ffi.NULL if root is None else ffi.new("char[]", os.fsencode(root))
        process = lib.emu_process_new(engines[0], where, text, len(text))
        if process == ffi.NULL:
            raise EmuError(_line(text))
        for ops in engines[1:]:
            lib.emu_process_engine(process, ops)
        words = [os.fspath(program)] if argv is None else list(argv)
        args, keep_args = _strings(words)
        variables, keep_variables = _strings([f"{name}={value}" for name, value in environ.items()])
        error = lib.emu_process_start(process, os.fsencode(path), args, variables, text, len(text))
        del keep_args, keep_variables
        if error:
            lib.emu_process_free(process)
            if -error in (errno.ENOENT, errno.ENOTDIR) and not _exists(path, root):
                raise NoProgram(f"{_line(text)}; check the path, or give the root of its system with -L")
            raise BadImage(_line(text))
        self._process = process

    @staticmethod
    def _choose(accel: str, path: str, sysroot: str | None) -> tuple[str, str]:
        """Lets accel.choice decide where something is to be decided: the name, and its line for the user."""
        if accel == "tcg":
            return "tcg", ""
        from accel.choice import choose, host

        arch = isa_of(path, sysroot)
        if accel == "auto" and arch != host():
            return "tcg", ""
        return choose(accel, arch or "foreign", "program")

    def run(self) -> int:
        """Runs the program to its end, in a child of this process, without Python's lock.

        Returns its exit status, or minus the number of the signal that killed it, as subprocess does;
        `status` is then the wait status.  Raises EmuError where no child can be made.
        """
        if self._process is None:
            raise EmuError("the process is closed; make another Process to run the program again")
        pid = int(lib.emu_process_spawn(self._process))
        if pid < 0:
            raise EmuError(f"no process can be made: {os.strerror(-pid)}; see ulimit -u")
        self.status = os.waitpid(pid, 0)[1]
        return os.waitstatus_to_exitcode(self.status)

    def become(self) -> NoReturn:
        """Makes the calling process the program: it ends as that does, by exit or by the same signal.

        Nothing of Python's runs any more; what is buffered must have been flushed.
        """
        if self._process is None:
            raise EmuError("the process is closed; make another Process to run the program again")
        default_signals()
        lib.emu_process_die(lib.emu_process_run(self._process))
        raise AssertionError("a process that has died goes on")

    def close(self) -> None:
        """Frees the guest's memory and engine."""
        if self._process is not None:
            lib.emu_process_free(self._process)
            self._process = None

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def isa_of(path: str, sysroot: str | None = None) -> str:
    """The isa's name of the program at a guest path, by its ELF header; "" for anything else.

    A script's is that of its interpreter.
    """
    from isa.arch import UnknownArch, name_by_elf

    for _ in range(5):
        found = _find(path, sysroot)
        if not os.path.isfile(found):  # opening a FIFO would wait for its other end
            return ""
        try:
            with open(found, "rb") as file:
                head = file.read(256)
        except OSError:
            return ""
        if head[:4] == b"\x7fELF" and len(head) >= 20:
            machine = int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")
            try:
                return name_by_elf(machine, head[4], head[5])
            except UnknownArch:
                return ""
        words = head[2:].split(b"\n", 1)[0].split()
        if head[:2] != b"#!" or not words:
            return ""
        path = os.fsdecode(words[0])
    return ""


def search(program: str, sysroot: str | None, path: str) -> str:
    """The guest path of a program: itself, or for a bare name that is no file here the first in PATH."""
    if not program or "/" in program or os.path.exists(program):
        return program
    for folder in path.split(":"):
        candidate = f"{folder}/{program}"
        found = _find(candidate, sysroot)
        if folder.startswith("/") and os.path.isfile(found) and os.access(found, os.X_OK):
            return candidate
    return program


def _find(path: str, sysroot: str | None) -> str:
    """A guest path on the host; links in the sysroot are the C side's to follow."""
    inside = f"{sysroot}{path}"
    return inside if sysroot is not None and path.startswith("/") and os.path.exists(inside) else path


def _exists(path: str, sysroot: str | None) -> bool:
    return os.path.exists(_find(path, sysroot))


def _engines(name: str) -> list[object]:
    """Tables of functions: the engine of that name first, then one for children that it cannot run."""
    from accel.tcg import user as tcg

    if name == "kvm":
        from accel.errors import Unavailable
        from accel.kvm import user as kvm

        addresses = [kvm.user_engine()]
        try:
            addresses.append(tcg.user_engine(later=True))
        except Unavailable:
            pass  # children of other ISAs are then refused, as on a host without emu
    else:
        addresses = [tcg.user_engine()]
    return [ffi.cast("const emu_engine_ops *", address) for address in addresses]


def _line(text: object) -> str:
    return os.fsdecode(ffi.string(text))


def _strings(words: Sequence[str]) -> tuple[object, object]:
    """A NULL-terminated char *[], and what must live as long."""
    kept = []
    for word in words:
        raw = os.fsencode(word)
        if b"\0" in raw:
            raise EmuError("an argument or a variable has a NUL byte, which a program cannot be given")
        kept.append(ffi.new("char[]", raw))
    return ffi.new("char *[]", [*kept, ffi.NULL]), kept


def own_environ() -> Mapping[str, str]:
    """The environment that we were started with: Python adds LC_CTYPE=C.UTF-8 (PEP 538)."""
    if os.environ.get("LC_CTYPE") != "C.UTF-8":
        return os.environ
    try:
        with open("/proc/self/environ", "rb") as file:
            if b"LC_CTYPE=C.UTF-8" in file.read().split(b"\0"):
                return os.environ
    except OSError:
        return os.environ
    return {name: value for name, value in os.environ.items() if name != "LC_CTYPE"}


def default_signals() -> None:
    """Gives back to a program what Python takes for itself: SIGPIPE, SIGXFSZ, SIGINT."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

"""A Linux program of any ISA, run as a process: the runtime of native/, from Python.

The guest's process is this process, or a child of it: its descriptors, working directory and user are ours;
its memory is a reserved range of our address space, and its children are forks of us that never come back to
Python.
"""

from __future__ import annotations

import errno
import os
import time

from accel.errors import BadImage, EmuError
from emu.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from threading import Thread
    from types import TracebackType
    from typing import IO, Any, NoReturn

    from emu.linux.stops import Hit, Stops
    from emu.linux.watch import Hook, Watch

PIPE, STDOUT = -1, -2  # as in subprocess
# Seconds between two looks at a program that is waited for with a time-out, where the host has no pidfd.
_LOOK = 0.05


class NoProgram(EmuError):
    """The program is not there."""

    status = 127


class Process:
    """A program that is loaded and can be run.

    program: path as the guest names it: absolute ones are looked up in the sysroot first; a bare name that is
    no file here is searched in PATH.  argv: all arguments, the program's own name included; None: only that.
    sysroot: a directory whose files have precedence over the host's, None: the host's alone.  root: a
    directory that the program and its children see as "/", and nothing outside it; not together with
    sysroot.  enter: called when what is the host's has been opened; it makes the root "/" for this process,
    and then nobody has to confine the program.  accel: as --accel (accel.choice).  engine: which translates
    (accel.tcg.user.ENGINES), None: the usual one.  environ: None: ours.  stdin, stdout, stderr: a file or a
    descriptor, or PIPE: what is written there is in `stdout` and `stderr` when the program has ended, and
    stdin is run()'s `input`; None: ours.  stderr may be STDOUT: where stdout goes.

    The program is run by run(), or by start() and wait(); on_syscall() tells of its system calls:

    >>> import errno
    >>> def no_network(call):
    ...     call.refuse(errno.EACCES)
    >>> with Process(program, stdout=PIPE) as process:
    ...     process.on_syscall("socket", no_network)
    ...     process.run()
    0

    Raises NoProgram (status 127), BadImage (126) for what cannot be executed, AccelError for an accelerator
    that cannot be had, EmuError for a sysroot or root that is no directory.
    """

    def __init__(
        self,
        program: str | os.PathLike[str],
        argv: Sequence[str] | None = None,
        *,
        sysroot: str | os.PathLike[str] | None = None,
        root: str | os.PathLike[str] | None = None,
        enter: Callable[[], None] | None = None,
        accel: str = "auto",
        engine: str | None = None,
        environ: Mapping[str, str] | None = None,
        stdin: IO[Any] | int | None = None,
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | int | None = None,
    ) -> None:
        self._process = None
        self._watch: Watch | None = None
        self._stops: Stops | None = None
        self._streams = (stdin, stdout, stderr)
        self._pipes: list[Pipe] = []
        self._feed: Feed | None = None
        self.pid: int | None = None
        self.status: int | None = None
        self.stdout: bytes | None = None
        self.stderr: bytes | None = None
        self.note = ""
        files = self.files = Files(sysroot, root)
        environ = own_environ() if environ is None else environ
        path = files.search(os.fspath(program), environ.get("PATH", ""))
        self.path = path
        name, self.note = self._choose(accel, path, files)
        engines = _engines(name, engine)
        text = ffi.new("char[]", len(os.fsencode(path)) + 1024)  # the path, and what is wrong with it
        process = lib.emu_process_new(engines[0], files.sysroot, text, len(text))
        if process == ffi.NULL:
            raise EmuError(_line(text))
        lib.emu_process_keep_fds(process)
        if enter is not None:
            from accel.tcg.library import library

            library()
            enter()
            self.files = files = Files()
        elif files.root != ffi.NULL and lib.emu_process_confine(process, files.root, text, len(text)):
            lib.emu_process_free(process)
            raise EmuError(_line(text))
        for ops in engines[1:]:
            lib.emu_process_engine(process, ops)
        words = self.args = [os.fspath(program)] if argv is None else list(argv)
        args, keep_args = _strings(words)
        variables, keep_variables = _strings([f"{name}={value}" for name, value in environ.items()])
        error = lib.emu_process_start(process, os.fsencode(path), args, variables, text, len(text))
        del keep_args, keep_variables
        if error:
            lib.emu_process_free(process)
            if -error in (errno.ENOENT, errno.ENOTDIR) and not files.has(path):
                remedy = "or give the root of its system with -L" if root is None else "it begins in the root"
                raise NoProgram(f"{_line(text)}; check the path, {remedy}")
            raise BadImage(_line(text))
        self._process = process

    @staticmethod
    def _choose(accel: str, path: str, files: Files) -> tuple[str, str]:
        """Lets accel.choice decide where something is to be decided: the name, and its line for the user."""
        if accel == "tcg":
            return "tcg", ""
        from accel.choice import choose, host

        arch = isa_of(path, files)
        if accel == "auto" and arch != host():
            return "tcg", ""
        return choose(accel, arch or "foreign", "program")

    def on_syscall(self, name: str, before: Hook | None = None, after: Hook | None = None) -> None:
        """Calls a function before or after each system call of a name ("openat"; "*": all), of any ISA.

        It gets the Call (emu.linux.watch): its name, arguments, memory and registers.  Before the call it may
        change call.args, answer the call itself by setting call.result, or call.refuse(errno.EPERM); after
        it, call.result may be changed.  A call that a signal interrupts may have no result: it is told of
        again when it is begun again.  exit, and execve that succeeds, return to nobody.

            process.on_syscall("openat", lambda call: print(call.memory.string(call.args[1])))

        Hooks run here, in the thread that is in run() or wait(), also for the threads and children of the
        program, one at a time; what one raises kills the program and is raised from there.  When the program
        itself has ended, children that it has left are no longer told of.  A native program that it executes
        (on x86-64 hosts: any for x86-64) is the host kernel's, and not told of.  Other calls cost nothing.
        """
        self.watch().hook(name, before, after)

    def on_address(self, where: int | str, hook: Callable[[Hit], object]) -> None:
        """Calls a function when a thread is about to execute the instruction at an address.

        where: an address, of a Thumb instruction plus 1; or the name of a function of the program, if that
        has symbols.  The hook gets a Hit (emu/linux/stops.py): registers and memory, which it may change, and
        stop().  It runs as those of on_syscall do, while all threads stand; what it raises kills the program
        and is raised from run().  It is to be named before the start.

            process.on_address("parse", lambda hit: print(hit.memory.string(hit.registers["x0"])))

        Children that the program forks are not told of any more then, and after execve there are no hooks on
        addresses.  Nothing is slower away from the address.
        """
        if self._stops is None:
            from emu.linux.stops import Stops

            self._stops = Stops(self)
        self._stops.hook(where, hook)

    def watch(self) -> Watch:
        """Who is told of what the program does; made by the first call, which must be before the start."""
        if self._watch is None:
            from emu.linux.watch import Watch

            self._watch = Watch()
            lib.emu_process_watch(self._opened(), self._watch.pointer)
        return self._watch

    def native(self) -> object:
        """The `emu_process *` (native/process.h), for who adds to it before the start."""
        return self._opened()

    def _opened(self) -> object:
        if self._process is None:
            raise EmuError("the process is closed; make another Process to run the program again")
        return self._process

    def start(self, input: bytes | None = None) -> int:
        """Starts the program in a child of this process; returns its pid.  wait() must follow.

        input: as for run().  Raises EmuError where no child can be made.
        """
        process = self._opened()
        if self.pid is not None:
            raise EmuError("the program runs already; wait() for its end")
        if input is not None and self._streams[0] != PIPE:
            raise EmuError("the program's standard input is no pipe; make its Process with stdin=PIPE")
        self.status = None
        if self._stops is not None:
            self._stops.begin()
        if self._watch is not None:
            self._watch.open()
        streams = [-1, -1, -1]
        for number, stream in enumerate(self._streams):
            if stream == PIPE and number:
                self._pipes.append(Pipe(number))
                streams[number] = self._pipes[-1].end
            elif stream == PIPE:
                self._feed = Feed(input)
                streams[0] = self._feed.end
            elif stream == STDOUT and number == 2:
                streams[2] = streams[1] if streams[1] >= 0 else 1
            elif stream is not None:
                streams[number] = stream if isinstance(stream, int) else stream.fileno()
        pid = int(lib.emu_process_spawn(process, ffi.new("int[3]", streams)))
        for pipe in self._pipes:
            pipe.start(pid > 0)
        if self._feed is not None:
            self._feed.start(pid > 0)
        if pid < 0:
            self._forget()
            raise EmuError(f"no process can be made: {os.strerror(-pid)}; see ulimit -u")
        self.pid = pid
        return pid

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the program's end, without Python's lock, and calls the hooks meanwhile.

        Returns its exit status, or minus the number of the signal that killed it, as subprocess does;
        `status` is then the wait status.  After `timeout` seconds it raises subprocess.TimeoutExpired; the
        program runs on then, and can be waited for again.
        """
        if self.pid is None:
            raise EmuError("the program does not run; start() it first")
        end = None if timeout is None else time.monotonic() + timeout
        try:
            if self._stops is not None:
                status = self._stops.follow(self.pid, end)
            elif self._watch is not None:
                status = self._watch.follow(self.pid, end=end)
            else:
                status = _reap(self.pid, end)
        except KeyboardInterrupt:
            if self._watch is None:
                raise  # it can be waited for again
            self._forget()
            raise
        except BaseException:
            self._forget()
            raise
        if status is None:
            from subprocess import TimeoutExpired

            assert timeout is not None
            raise TimeoutExpired(self.args, timeout)
        self.status = status
        self._keep(end)
        self._forget()
        return os.waitstatus_to_exitcode(status)

    def _keep(self, end: float | None) -> None:
        for pipe in self._pipes:
            setattr(self, ("", "stdout", "stderr")[pipe.number], pipe.content(end))

    @property
    def returncode(self) -> int | None:
        """What wait() returned; None before the program's end."""
        return None if self.status is None else os.waitstatus_to_exitcode(self.status)

    def kill(self) -> None:
        """Kills the program, if it runs; wait() then returns -9."""
        if self.pid is not None:
            os.kill(self.pid, 9)

    def release(self) -> None:
        """Frees our copy of the memory of a program that has been started: it has its own."""
        if self._process is not None and self.pid is not None:
            lib.emu_process_free(self._process)
            self._process = None

    def ended(self, status: int) -> None:
        """Its wait status is known to who has waited in place of wait()."""
        self.status = status
        self._forget()

    def _end(self) -> None:
        """Ends a program that nobody waits for any more."""
        if self.pid is None:
            return
        if self._watch is not None:
            lib.emu_watch_close(self._watch.pointer, 1)
        try:
            self.kill()
            self.status = os.waitpid(self.pid, 0)[1]
        except (ChildProcessError, ProcessLookupError):
            pass
        self._keep(time.monotonic() + _LOOK)
        self._forget()

    def _forget(self) -> None:
        """The program has ended."""
        self.pid = None
        self._pipes.clear()
        self._feed = None

    def run(self, input: bytes | None = None, timeout: float | None = None) -> int:
        """Runs the program to its end: start() and wait().

        input: what it reads from its standard input, which must be PIPE; None: nothing.  What is raised here
        (subprocess.TimeoutExpired after `timeout` seconds, KeyboardInterrupt, what a hook raised) finds the
        program killed.
        """
        self.start(input)
        try:
            return self.wait(timeout)
        except BaseException:
            self._end()
            raise

    def become(self) -> NoReturn:
        """Makes the calling process the program: it ends as that does, by exit or by the same signal.

        Nothing of Python's runs any more; what is buffered must have been flushed.
        """
        process = self._opened()
        default_signals()
        lib.emu_process_become(process)
        raise AssertionError("a process that has died goes on")

    def close(self) -> None:
        """Frees the guest's memory and engine; a program that runs is killed."""
        self._end()
        if self._process is not None:
            lib.emu_process_free(self._process)
            self._process = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Pipe:
    """What a program writes to one of its streams, kept by a thread of ours."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._read, self.end = os.pipe()
        self._pieces: list[bytes] = []
        self._thread: Thread | None = None

    def start(self, wanted: bool) -> None:
        """Once the program has its end."""
        os.close(self.end)
        if not wanted:
            os.close(self._read)
            return
        from threading import Thread

        self._thread = Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        with open(self._read, "rb", buffering=0) as file:
            while piece := file.read(65536):
                self._pieces.append(piece)

    def content(self, end: float | None) -> bytes:
        """All of it, when the last process that could write has closed its end; or what has come by `end`."""
        assert self._thread is not None
        self._thread.join(None if end is None else max(0, end - time.monotonic()))
        return b"".join(self._pieces)


class Feed:
    """What a program reads from its standard input, written by a thread of ours."""

    def __init__(self, data: bytes | None) -> None:
        self._data = data or b""
        self.end, self._write = os.pipe()

    def start(self, wanted: bool) -> None:
        """Once the program has its end."""
        os.close(self.end)
        if not wanted or not self._data:
            os.close(self._write)
            return
        from threading import Thread

        Thread(target=self._give, daemon=True).start()

    def _give(self) -> None:
        try:
            with open(self._write, "wb", buffering=0) as file:
                left = memoryview(self._data)
                while left:
                    left = left[file.write(left) :]
        except BrokenPipeError:
            pass  # it has read enough, or has ended


def _reap(pid: int, end: float | None) -> int | None:
    """The wait status of a child that has ended, by that time; else None."""
    if end is None:
        return os.waitpid(pid, 0)[1]
    import select

    try:
        fd = os.pidfd_open(pid)
    except OSError:
        fd = -1
    try:
        poll = select.poll()
        if fd >= 0:
            poll.register(fd, select.POLLIN)
        while True:
            left = end - time.monotonic()
            poll.poll(max(0, min(left, 86400 if fd >= 0 else _LOOK)) * 1000 + 1)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
            if left <= 0:
                return None
    finally:
        if fd >= 0:
            os.close(fd)


class Files:
    """Where guest paths are looked up: the host's files, under a sysroot, or in a root alone."""

    def __init__(
        self, sysroot: str | os.PathLike[str] | None = None, root: str | os.PathLike[str] | None = None
    ) -> None:
        if sysroot is not None and root is not None:
            raise EmuError("-L and --root exclude each other: --root DIR shows the files of DIR alone")
        for path, kind, option in ((sysroot, "sysroot", "-L"), (root, "root", "--root")):
            if path is not None and not os.path.isdir(path):
                text = f"{kind} {os.fspath(path)} is no directory"
                raise EmuError(f"{text}; give the root of the guest's files with {option}")
        self.sysroot = ffi.NULL if sysroot is None else ffi.new("char[]", os.fsencode(sysroot))
        self.root = ffi.NULL if root is None else ffi.new("char[]", os.fsencode(root))

    def peek(self, path: str) -> int:
        """A descriptor, for reading, of a regular file of the guest's; negative: there is none."""
        if "\0" in path:
            return -errno.ENOENT
        return int(lib.emu_process_peek(self.sysroot, self.root, os.fsencode(path)))

    def has(self, path: str) -> bool:
        """Whether the guest has a regular file of that name."""
        fd = self.peek(path)
        if fd >= 0:
            os.close(fd)
        return fd >= 0 or -fd not in (errno.ENOENT, errno.ENOTDIR)

    def search(self, program: str, path: str) -> str:
        """The guest path of a program: itself, or for a bare name that is no file here the first in PATH."""
        found = ffi.new("char[4096]")
        if "\0" in program or lib.emu_process_search(
            self.sysroot, self.root, os.fsencode(program), os.fsencode(path), found
        ):
            return program
        return os.fsdecode(ffi.string(found))


def isa_of(path: str, files: Files | None = None) -> str:
    """The isa's name of the program at a guest path, by its ELF header; "" for anything else.

    A script's is that of its interpreter.
    """
    from isa.arch import UnknownArch, name_by_elf

    files = files or Files()
    for _ in range(5):
        fd = files.peek(path)
        if fd < 0:
            return ""
        try:
            head = os.pread(fd, 256, 0)
        except OSError:
            return ""
        finally:
            os.close(fd)
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


def _engines(name: str, engine: str | None) -> list[object]:
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
        addresses = tcg.user_engines(engine)
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
    import _signal as signal  # type: ignore[import-not-found]  # `signal` costs milliseconds: it makes enums

    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

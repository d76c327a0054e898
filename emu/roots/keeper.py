"""Who waits for a program in namespaces of its own, so that it ends, stops and is signalled as if it were
the caller's own child.

    emu shell        in the namespace where it was started: what the caller's shell knows
      keeper         process 1 of the program's: adopts what is left over, and takes all with it when it ends
        program

All three are in one process group, so the terminal's keys reach the program by themselves.
"""

from __future__ import annotations

import os
import select
import signal
import struct

from emu.roots import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

# What somebody may send to who waits, for the program.
PASSED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGCONT, signal.SIGALRM, signal.SIGWINCH,
)  # fmt: skip
WORD = struct.Struct("=i")


class Keeper:
    """Two forks: keep() returns in the program's process alone."""

    def __init__(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, (*PASSED, signal.SIGCHLD))
        self._terminal, self._foreground = _terminal()

    def keep(self, set_up: Callable[[], None]) -> None:
        """Forks the keeper, which calls set_up() and forks the program.

        It never returns in the caller, which ends as the program does.
        """
        read, write = os.pipe()
        first = os.fork()
        if first:
            os.close(write)
            self._wait(first, read)
        os.close(read)
        kernel.die_with_parent(signal.SIGKILL)
        poll = select.poll()
        poll.register(write, 0)
        if poll.poll(0):  # it has ended before
            os._exit(1)
        _close_inherited()
        set_up()
        program = os.fork()
        if program:
            self._attend(program, write)
        os.close(write)
        kernel.die_with_parent(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _attend(self, program: int, write: int) -> NoReturn:
        """What the keeper does: the wait status goes to who waits outside."""
        signals = kernel.Signals((*PASSED, signal.SIGCHLD))
        while True:
            number, by_process = signals.read()
            if number != signal.SIGCHLD:
                if by_process:
                    os.kill(program, number)
                continue
            while True:
                try:
                    child, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                except ChildProcessError:
                    os._exit(1)
                if child == 0:
                    break
                if child != program:
                    continue
                if os.WIFSTOPPED(status):
                    # By the terminal's key the one outside is stopped, too.
                    if os.WSTOPSIG(status) == signal.SIGSTOP:
                        os.write(write, WORD.pack(status))
                    continue
                os.write(write, WORD.pack(status))
                os._exit(0)

    def _wait(self, keeper: int, read: int) -> NoReturn:
        """What the caller's child does."""
        from emu.native import lib

        signals = kernel.Signals((*PASSED, signal.SIGCHLD))
        poll = select.poll()
        for fd in (signals.fd, read):
            poll.register(fd, select.POLLIN)
        status = None
        while status is None:
            for fd, _ in poll.poll():
                if fd == signals.fd:
                    number, by_process = signals.read()
                    if number != signal.SIGCHLD and by_process:
                        os.kill(keeper, number)
                    continue
                word = os.read(read, WORD.size)
                if not word:  # it has ended without a program, and said why
                    status = os.waitpid(keeper, 0)[1]
                elif os.WIFSTOPPED(WORD.unpack(word)[0]):
                    self._stop(keeper)
                else:
                    status = WORD.unpack(word)[0]
                    os.waitpid(keeper, 0)  # and with it all the others have ended
        if self._terminal >= 0:
            self._take(self._foreground)
        os.close(read)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        lib.emu_process_die(status)
        raise AssertionError("a process that has died goes on")

    def _stop(self, keeper: int) -> None:
        """The program has stopped itself: so the caller's shell goes on, until it lets us."""
        group = os.tcgetpgrp(self._terminal) if self._terminal >= 0 else 0
        if group:
            self._take(self._foreground)
        os.kill(os.getpid(), signal.SIGSTOP)
        if group:
            self._take(group)
        os.kill(keeper, signal.SIGCONT)

    def _take(self, group: int) -> None:
        """Gives the terminal to a process group, from the background, too."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
        try:
            os.tcsetpgrp(self._terminal, group)
        except OSError:
            pass  # the group has ended, or the terminal
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _close_inherited() -> None:
    """What the caller has left open: a folder of the host's among it would be a way out of the root."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd > 2 and os.get_inheritable(fd):
                os.close(fd)
        except OSError:
            pass  # that of the listing itself


def _terminal() -> tuple[int, int]:
    """The controlling terminal, if this process group has it: its descriptor and the group; else -1, 0."""
    for fd in (0, 1, 2):
        try:
            if os.tcgetpgrp(fd) == os.getpgrp():
                return fd, os.getpgrp()
        except OSError:
            continue
    return -1, 0

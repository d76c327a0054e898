"""The event loop of a machine: host descriptors, the guest's timers, and calls from other threads.

One thread runs it, the one that called Machine.run(); vCPUs are in threads of their own.  poll(2) is used
because it takes regular files too.
"""

from __future__ import annotations

import os
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Handler = Callable[[], None]
# poll(2) takes no longer waits; a guest may set an alarm for the year 10000.
LONGEST = 86_400.0


class Loop:
    """Waits for descriptors, deadlines and calls.

    call(), call_later() and wake() from any thread, the rest from the loop's.
    """

    def __init__(self) -> None:
        self._selector = selectors.PollSelector()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._event, selectors.EVENT_READ)
        self._handlers: dict[int, dict[int, Handler]] = {}
        self._calls: deque[Handler] = deque()
        self._later: list[tuple[float, Handler]] = []
        self._lock = threading.Lock()
        self._signal, self._signalled = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._signal, read=self._forget_signals)

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Within it a signal ends the step that waits, whichever thread the kernel gave it to.

        Python's handlers run in the main thread alone; in another this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._signalled, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def watch(self, fd: int, *, read: Handler | None = None, write: Handler | None = None) -> None:
        """Calls `read` while the descriptor is readable (or hung up) and `write` while it is writable; both
        None forgets it."""
        wanted: dict[int, Handler] = {}
        if read is not None:
            wanted[selectors.EVENT_READ] = read
        if write is not None:
            wanted[selectors.EVENT_WRITE] = write
        mask = sum(wanted)
        if fd in self._handlers:
            if mask:
                self._selector.modify(fd, mask)
            else:
                self._selector.unregister(fd)
                del self._handlers[fd]
        elif mask:
            self._selector.register(fd, mask)
        if mask:
            self._handlers[fd] = wanted

    def call(self, function: Handler) -> None:
        """Calls `function` in the loop's thread soon."""
        self._calls.append(function)
        self.wake()

    def call_later(self, seconds: float, function: Handler) -> None:
        """Calls `function` in the loop's thread after a delay of host time."""
        with self._lock:
            self._later.append((time.monotonic() + seconds, function))
        self.wake()

    def wake(self) -> None:
        """Ends the step that is waiting, or the next one at once."""
        try:
            os.eventfd_write(self._event, 1)
        except BlockingIOError:
            pass  # full: it is awake already

    def _forget_signals(self) -> None:
        os.read(self._signal, 4096)  # their handlers have run, or do so at once

    def step(self, timeout: float | None) -> None:
        """Waits at most `timeout` seconds (None: for ever) and serves what has come."""
        with self._lock:
            if self._later:
                soonest = max(0.0, min(due for due, _ in self._later) - time.monotonic())
                timeout = soonest if timeout is None else min(timeout, soonest)
        if timeout is not None:
            timeout = min(timeout, LONGEST)
        for key, events in self._selector.select(timeout):
            if key.fd == self._event:
                os.eventfd_read(self._event)
                continue
            for event, handler in list(self._handlers.get(key.fd, {}).items()):
                # A handler may have forgotten or changed the descriptor.
                if events & event and self._handlers.get(key.fd, {}).get(event) == handler:
                    handler()
        with self._lock:
            now = time.monotonic()
            ready = [function for due, function in self._later if due <= now]
            self._later = [entry for entry in self._later if entry[0] > now]
        for function in ready:
            function()
        for _ in range(len(self._calls)):
            self._calls.popleft()()

    def close(self) -> None:
        """Forgets everything; the watched descriptors stay open."""
        self._selector.close()
        for fd in (self._event, self._signal, self._signalled):
            os.close(fd)
        self._event = self._signal = self._signalled = -1
        self._handlers.clear()

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

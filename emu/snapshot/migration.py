"""A machine that is steered goes to another process, by a stream: QMP's migrate and migrate-incoming.

    out   the run state goes to finish-migrate, where nothing runs, then to postmigrate; back where it fails
    in    from inmigrate to running or paused; a stream that does not fit ends the process

The guest stands still from the beginning: what is sent is sent once.  Streams are written and read in a
thread, so that monitors are answered; everything else happens in the loop's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from accel.errors import EmuError
from emu.snapshot import ram
from emu.snapshot.channel import Cancelled, Channel, Door, outgoing, parts
from emu.snapshot.errors import SnapshotError
from emu.snapshot.save import Loaded, apply, flush_disks, read, write
from emu.snapshot.state import State, check, regions, take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.run_state import RunState

BUSY = ("setup", "active")


class Migration:
    """One migration of a machine, either way.  status: QMP's word; error: why it failed, or ""."""

    def __init__(self, run: RunState) -> None:
        self.run = run
        self.machine = run.machine
        self.status = "none"
        self.error = ""
        self.incoming = False
        self.started = self.ended = self.held = 0.0
        self.transferred = self.done = self.expected = 0
        self._cancelled = threading.Event()
        self._thread: threading.Thread | None = None
        self._before: Any = "paused"
        self._channel: Channel | None = None

    @property
    def busy(self) -> bool:
        """Whether it goes on."""
        return self.status in BUSY

    def _enter(self, status: str) -> None:
        self.status = status
        if not self.busy:
            self.ended = time.monotonic()
        self.run.tell("MIGRATION", {"status": status})

    def _begin(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, name="migration", daemon=True)
        self._thread.start()

    def _told(self, done: int) -> None:
        self.done = done
        if self._cancelled.is_set():
            raise Cancelled

    def cancel(self) -> None:
        """Gives it up; a machine that was on its way out goes on where it was."""
        if self.busy and not self.incoming:
            self._cancelled.set()
            self._join()
            self._failed("cancelled", "")

    def end(self) -> None:
        """The machine ends: the thread that looks at its memory does, too."""
        self._cancelled.set()
        self._join()

    def _join(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    # -- out ------------------------------------------------------------------------

    def send(self, uri: str, fd: int | None) -> None:
        """Sends the machine away.  Raises SnapshotError for an end that cannot be had."""
        scheme, rest = parts(uri)
        self._channel = outgoing(scheme, rest, fd, self._cancelled.is_set)
        self.started = time.monotonic()
        self._enter("setup")
        # Behind the reply of the command.
        self.machine.loop.call(self._send)

    def _send(self) -> None:
        run, machine = self.run, self.machine
        if self.status != "setup":
            return
        run.tell("MIGRATION_PASS", {"pass": 1})
        self._enter("active")
        self._before, self.held = run.status, time.monotonic()
        machine.power_on()
        if run.running:
            run.stop("finish-migrate")
        else:
            run.enter("finish-migrate")
        more = {"running": self._before == "running", "status": self._before}
        try:
            flush_disks(machine)
            state = take(machine)
            chunks = sum(sum(1 for _ in ram.used_chunks(region)) for region in regions(machine))
            self.expected = chunks * ram.CHUNK
        except EmuError as error:
            self._failed("failed", str(error))
            return
        self._begin(lambda: self._write(state, more))

    def _write(self, state: State, more: dict[str, Any]) -> None:
        """In a thread."""
        channel, error = self._channel, ""
        assert channel is not None

        def out(data: bytes) -> None:
            channel.write(data)
            self.transferred += len(data)

        try:
            write(self.machine, out, state=state, more=more, told=self._told)
            channel.finish()
        except Cancelled:
            return
        except OSError as failure:
            error = failure.strerror or str(failure)
        except EmuError as failure:
            error = str(failure)
        finally:
            channel.close()
        self.machine.loop.call(lambda: self._sent(error))

    def _sent(self, error: str) -> None:
        if self.status != "active":
            return
        self._join()
        if error:
            self._failed("failed", error)
            return
        self.run.enter("postmigrate")
        self._enter("completed")

    def _failed(self, status: str, error: str) -> None:
        self.error = error
        if self._channel is not None:
            self._channel.close()
        if self.run.status == "finish-migrate":
            if self._before == "running":
                self.machine.start()
                self.run.enter("running")
                self.run.tell("RESUME")
            else:
                self.run.enter(self._before)
        self._enter(status)

    # -- in ---------------------------------------------------------------------------

    def receive(self, uri: str, fd: int | None, *, start: bool) -> None:
        """Waits for a machine from there.  start: it runs then, if it did.  Raises SnapshotError."""
        scheme, rest = parts(uri)
        self.incoming = True
        door = Door(scheme, rest, fd, self._cancelled.is_set)
        fresh = self.machine.prepare_to_load()
        self.started = self.held = time.monotonic()
        self._enter("setup")
        self._begin(lambda: self._read(door, fresh, start))

    def _read(self, door: Door, fresh: bool, start: bool) -> None:
        """In a thread."""
        loop, loaded, error = self.machine.loop, None, ""
        try:
            channel = self._channel = door.open()
            loop.call(lambda: self._enter("active"))

            def source(size: int) -> bytes:
                data = channel.read(size)
                self.transferred += len(data)
                return data

            loaded = read(self.machine, source, at_once=fresh, checked=self._check, told=self._told)
        except Cancelled:
            return
        except OSError as failure:
            error = f"the snapshot cannot be read: {failure.strerror or failure}"
        except EmuError as failure:
            error = str(failure)
        finally:
            door.close()
            if self._channel is not None:
                self._channel.close()
        loop.call(lambda: self._received(loaded, fresh, start, error))

    def _check(self, state: State) -> None:
        """check() in the loop's thread, which alone may ask the machine's parts."""
        done = threading.Event()
        found: list[EmuError] = []

        def ask() -> None:
            try:
                check(self.machine, state)
            except EmuError as error:
                found.append(error)
            done.set()

        self.machine.loop.call(ask)
        while not done.wait(0.2):
            if self._cancelled.is_set():
                raise Cancelled
        if found:
            raise found[0]

    def _received(self, loaded: Loaded | None, fresh: bool, start: bool, error: str) -> None:
        self._join()
        run = self.run
        if loaded is not None:
            try:
                apply(self.machine, loaded, at_once=fresh)
            except SnapshotError as refused:
                error = str(refused)
        if error or loaded is None:
            self.error = error
            self._enter("failed")
            run.fail(SnapshotError(f"the machine did not come over: {error}"))
            return
        self.machine.loaded()
        goes_on = start and bool(loaded.state.head.get("running"))
        if not goes_on:
            run.enter("paused")
        self._enter("completed")
        if goes_on:
            run.cont()

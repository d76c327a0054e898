"""Run states: what a machine that is steered from outside does, by QMP's names, and what it tells of that.

    prelaunch --cont--> running <--stop, cont--> paused       reset: running goes on, all others: prelaunch
    running --the guest's end--> shutdown (the process ends, or stays for who asked for --no-shutdown)
    running --what no engine can continue from--> internal-error

RunState is the main loop of such a machine and the only one that moves it; commands call its methods in the
loop's thread.  Machine.run() knows nothing of this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

from accel.errors import DeviceError, EmuError, GuestFault
from emu.machine import Result
from emu.monitor.events import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine
    from emu.monitor.jobs import Job
    from emu.snapshot.core_dump import Dump
    from emu.snapshot.migration import Migration

Status = Literal[
    "debug", "inmigrate", "internal-error", "io-error", "paused", "postmigrate", "prelaunch",
    "finish-migrate", "restore-vm", "running", "save-vm", "shutdown", "suspended", "watchdog",
    "guest-panicked", "colo",
]  # fmt: skip
# Where each state may lead to.  Those of a machine that is saved or loaded are emu/snapshot's to enter.
NEXT: dict[str, tuple[str, ...]] = {
    "prelaunch": (
        "running",
        "paused",
        "inmigrate",
        "finish-migrate",
        "restore-vm",
        "shutdown",
        "internal-error",
    ),
    "running": ("paused", "shutdown", "internal-error", "finish-migrate", "save-vm", "restore-vm", "debug"),
    "paused": (
        *("running", "prelaunch", "shutdown", "internal-error", "postmigrate", "finish-migrate"),
        *("save-vm", "restore-vm"),
    ),
    "shutdown": ("prelaunch", "finish-migrate", "restore-vm"),
    "internal-error": ("prelaunch", "finish-migrate", "restore-vm"),
    "debug": ("running", "paused", "prelaunch", "shutdown", "internal-error"),
    "inmigrate": ("running", "paused", "prelaunch", "postmigrate", "shutdown", "internal-error"),
    "finish-migrate": ("running", "paused", "postmigrate", "prelaunch", "shutdown", "internal-error"),
    "postmigrate": ("running", "prelaunch", "finish-migrate", "restore-vm"),
    "save-vm": ("running", "paused"),
    "restore-vm": ("running", "paused", "prelaunch"),
}
# Nanoseconds within which a triple fault after a reset by one means that there will be no end of them.
AT_ONCE = 1_000_000_000
NEEDS_RESET = ("shutdown", "internal-error")


class RunState:
    """The states of one machine.

    no_shutdown: the process stays when the guest has ended; no_reboot: a guest's reset ends it; steered:
    somebody may be connected, so a fault of the guest's stops it but does not end the process.  told: takes
    lines for the person who started it.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        no_shutdown: bool = False,
        no_reboot: bool = False,
        steered: bool = False,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.machine = machine
        self.status: Status = "prelaunch"
        self.listeners: list[Callable[[Event], None]] = []
        self.no_shutdown = no_shutdown
        self.no_reboot = no_reboot
        self.steered = steered
        self.told = told
        self._end: Result | None = None
        self._failure: EmuError | None = None
        # The last one, if there was one; emu/snapshot/migration.py.
        self.migration: Migration | None = None
        self.dump: Dump | None = None
        self.jobs: dict[str, Job] = {}
        self.starts = True  # a machine that comes in runs on, if it did
        self._started = 0  # guest time of the last reset
        self._faulted = False

    @property
    def running(self) -> bool:
        return self.status == "running"

    def tell(self, name: str, data: Any = None) -> None:
        """Sends an event to everybody who listens."""
        event = Event(name, data)
        for listener in list(self.listeners):
            listener(event)

    def enter(self, status: Status) -> None:
        """Goes to another state; which may follow which stands in NEXT."""
        assert status in NEXT[self.status], (self.status, status)
        self.status = status

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it no vCPU runs, so registers can be looked at; nobody is told."""
        running = self.machine.state == "running"
        self.machine.pause()
        try:
            yield
        finally:
            if running:
                self.machine.start()

    # -- what commands do ------------------------------------------------------

    def stop(self, status: Status = "paused") -> None:
        """Holds vCPUs and time, if they run."""
        if self.running:
            self.machine.pause()
            self.enter(status)
            self.tell("STOP")

    def cont(self) -> None:
        """Lets the machine run.  Raises DeviceError where only a reset leads on."""
        if self.status in NEEDS_RESET:
            raise DeviceError(f"the machine is in state {self.status}; reset it first (system_reset)")
        self.free()
        if "running" in NEXT[self.status]:
            self.machine.start()
            self.enter("running")
            self.tell("RESUME")
        elif not self.running:
            raise DeviceError(f"the machine is in state {self.status}; wait until it is left")

    def reset(self, reason: str = "host-qmp-system-reset", *, guest: bool = False) -> None:
        """Back to power-on; a machine that runs goes on from there."""
        self.free()
        self.tell("RESET", {"guest": guest, "reason": reason})
        running = self.running
        self.machine.reset()
        self._started = self.machine.clock.now()
        if running:
            self.machine.start()
        else:
            self.machine.power_on()
            if self.status != "prelaunch":
                self.enter("prelaunch")

    def free(self) -> None:
        """Raises DeviceError while somebody's work needs the machine to stand as it does."""
        if self.dump is not None and self.dump.busy:
            raise DeviceError("a dump is under way; wait for its end (query-dump)")
        if self.migration is not None and self.migration.busy:
            raise DeviceError("a migration is under way; wait for its end, or cancel it (migrate_cancel)")

    def fail(self, error: EmuError) -> None:
        """Ends the process soon, by what serve() raises."""
        self._failure = error

    def powerdown(self) -> None:
        """Presses the power button.  Raises DeviceError where there is none."""
        self.machine.powerdown()
        self.tell("POWERDOWN")

    def quit(self, reason: str = "host-qmp-quit") -> None:
        """Ends the process soon, whatever --no-shutdown says."""
        if self._end is None:
            self.tell("SHUTDOWN", {"guest": False, "reason": reason})
            self._end = Result(reason)

    # -- the main loop -------------------------------------------------------------

    def serve(self, *, timeout: float | None = None, until: Callable[[], bool] | None = None) -> Result:
        """Serves guest and clients until one of them ends it; the machine is stopped then, or paused after a
        timeout.

        `until` is asked after everything that happens, and ends it as a signal does.  Raises as
        Machine.run(), if the machine is not steered.
        """
        end = None if timeout is None else time.monotonic() + timeout
        machine = self.machine
        try:
            with machine.loop.hearing():
                while True:
                    if until is not None and until():
                        self.quit("host-signal")
                    if self._end is not None:
                        machine.stop()
                        return self._end
                    if self._failure is not None:
                        raise self._failure
                    wait = None if end is None else end - time.monotonic()
                    if wait is not None and wait <= 0:
                        self.stop()
                        return Result("timeout")
                    self._turn(wait)
        except BaseException:
            machine.stop()
            raise
        finally:
            for work in (self.migration, self.dump, *self.jobs.values()):
                if work is not None:
                    work.end()

    def _turn(self, wait: float | None) -> None:
        try:
            ended = self.machine.turn(wait)
            if ended is not None:
                self._ended(ended)
        except EmuError as error:
            if isinstance(error, GuestFault) and error.cpu is not None:
                self.machine.stop()
                error.report = self.machine.describe(error.cpu)
            if not self.steered:
                raise
            self._failed(error)
        except Exception as error:
            self.machine.stop()
            for number in range(len(self.machine.cpus)):
                with suppress(Exception):  # it may be what has failed
                    error.add_note(f"CPU {number}:\n{self.machine.describe(number)}")
            raise

    def _failed(self, error: EmuError) -> None:
        """The guest did what no engine can continue from, or a device what it must not."""
        self.told(f"{error}\n{getattr(error, 'report', '')}".rstrip())
        running = self.running
        self.machine.stop()
        self.enter("internal-error")
        if running:
            self.tell("STOP")

    def _ended(self, result: Result) -> None:
        """What the guest, or the person at the console, has asked for."""
        ends = result.reason != "guest-reset" or self.no_reboot
        if ends and result.cpu is not None and not self.steered:
            raise GuestFault(result.text, cpu=result.cpu)
        if result.text:
            self.told(f"the guest {'ended' if ends else 'reset'}: {result.text}")
        if not ends:
            again = result.cpu is not None and self.machine.clock.now() - self._started < AT_ONCE
            if again and self._faulted:
                raise GuestFault(f"{result.text}, at once after every reset", cpu=result.cpu)
            self._faulted = again
            self.reset(result.reason, guest=True)
            return
        guest = result.reason.startswith("guest-")
        self.tell("SHUTDOWN", {"guest": guest, "reason": result.reason})
        self.enter("shutdown")
        if self.no_shutdown and guest:
            self.tell("STOP")
        else:
            self._end = result

"""Client: who a command comes from, and what it may reach: the machine, its run state and surroundings."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any

from accel.errors import EmuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine
    from emu.monitor.server import Monitors
    from emu.run_state import RunState


class Control:
    """What all clients of a machine share.

    name: of the machine, for people; uuid: of 36 characters; began: when, in seconds since 1970; monitors:
    the ends that clients connect to; migration_events, migration_parameters: as clients have set them.
    """

    def __init__(self, run: RunState, *, name: str = "", uuid: str = "") -> None:
        self.run = run
        self.name = name
        self.uuid = uuid or "00000000-0000-0000-0000-000000000000"
        self.monitors: Monitors | None = None
        self.began = time.time()
        self.migration_events = False
        self.migration_parameters: dict[str, int] = {"max-bandwidth": 128 << 20, "downtime-limit": 300}

    @property
    def machine(self) -> Machine:
        return self.run.machine


class Client:
    """One conversation.

    descriptors: those that were passed and named (getfd); passed: those that came and have no name yet.
    """

    # A client that passes more than it names loses the oldest.
    PASSED_LIMIT = 16

    def __init__(self, control: Control) -> None:
        self.control = control
        self.run = control.run
        self.machine = control.machine
        self.descriptors: dict[str, int] = {}
        self.passed: deque[int] = deque()

    def take(self, descriptors: list[int]) -> None:
        """Descriptors that came with the bytes of a command."""
        self.passed.extend(descriptors)
        while len(self.passed) > self.PASSED_LIMIT:
            os.close(self.passed.popleft())

    def close(self) -> None:
        """Closes what nobody took over."""
        for fd in (*self.descriptors.values(), *self.passed):
            os.close(fd)
        self.descriptors.clear()
        self.passed.clear()

    def execute(self, name: str, arguments: dict[str, Any]) -> Any:
        """Does a command; what takes long is a Later.

        Raises CommandError.  Another exception is a bug of ours: it is shown, and the machine runs on.
        """
        from emu.monitor.command import Later, find

        try:
            value = find(name)(self, arguments)
        except Exception as error:
            raise failure(name, error) from None
        if isinstance(value, Later):
            value.failed = lambda error: failure(name, error)
        return value


def failure(name: str, error: Exception) -> Exception:
    """What a client is told of an exception in a command."""
    from emu.monitor.command import CommandError

    if isinstance(error, CommandError):
        return error
    if isinstance(error, EmuError):
        return CommandError(str(error))
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return CommandError(f"{where}{error.strerror or error}")
    from traceback import print_exception

    print_exception(error)
    return CommandError(f"{name} failed inside emu: {type(error).__name__}: {error}")

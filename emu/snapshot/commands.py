"""What monitors do with a machine's migration; QMP's and people's commands end here."""

from __future__ import annotations

import os

from accel.errors import DeviceError
from emu.snapshot.channel import parts
from emu.snapshot.errors import SnapshotError
from emu.snapshot.migration import Migration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.run_state import RunState
    from emu.snapshot.core_dump import Dump

# Where a machine can be sent away from.
DUMPED_FROM = ("running", "paused", "prelaunch", "postmigrate", "shutdown", "internal-error")
SENT_FROM = ("running", "paused", "prelaunch", "postmigrate", "shutdown")


def send(run: RunState, uri: str, descriptors: dict[str, int] | None = None) -> None:
    """Sends the machine to `uri`; descriptors: those that the client has named.  Raises SnapshotError."""
    if run.migration is not None and run.migration.busy:
        raise SnapshotError("There's a migration process in progress")
    run.free()
    if run.status not in SENT_FROM:
        raise DeviceError(f"the machine is in state {run.status}, in which it cannot be sent away")
    migration = Migration(run)
    migration.send(uri, _descriptor(uri, descriptors))
    run.migration = migration


def receive(run: RunState, uri: str, descriptors: dict[str, int] | None = None) -> None:
    """Has the machine come from `uri`.  Raises SnapshotError."""
    if run.status != "inmigrate":
        raise SnapshotError("'-incoming' was not specified on the command line")
    if run.migration is not None:
        raise SnapshotError("The incoming migration has already been started")
    migration = Migration(run)
    migration.receive(uri, _descriptor(uri, descriptors), start=run.starts)
    run.migration = migration


def dump(
    run: RunState,
    protocol: str,
    descriptors: dict[str, int],
    begin: int = 0,
    length: int | None = None,
) -> Dump:
    """Begins to write memory and CPUs to file:PATH or fd:NAME.  Raises SnapshotError, DeviceError."""
    from emu.snapshot.core_dump import Dump, memory

    run.free()
    if run.status not in DUMPED_FROM:
        raise DeviceError(f"the machine is in state {run.status}, in which it cannot be dumped")
    scheme, _, rest = protocol.partition(":")
    if scheme not in ("file", "fd") or not rest:
        raise SnapshotError(f"{protocol}: use file:PATH or fd:NAME")
    pieces = memory(run.machine, begin, length)
    run.dump = Dump(run, scheme, rest, _descriptor(protocol, descriptors), pieces)
    return run.dump


def _descriptor(uri: str, descriptors: dict[str, int] | None) -> int | None:
    """The descriptor of fd:, which is ours from then on; None for other schemes."""
    scheme, rest = parts(uri)
    if scheme != "fd":
        return None
    named = {} if descriptors is None else descriptors
    if rest in named:
        return named.pop(rest)
    if rest.isascii() and rest.isdigit() and len(rest) < 10 and int(rest) > 2:
        try:
            os.set_inheritable(int(rest), False)
            return int(rest)
        except OSError:
            pass
    raise SnapshotError(f"File descriptor named '{rest}' has not been found")

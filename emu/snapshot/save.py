"""A machine into a stream and back; into a file, which is whole or is not there.

Of a stream everything is read and checked before the machine is touched, and a machine that has run already
gets back what it had should its parts refuse what they are given.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from emu.snapshot import ram
from emu.snapshot.changes import Followed
from emu.snapshot.errors import SnapshotError
from emu.snapshot.state import State, check, put, regions, take
from emu.snapshot.stream import Writer, sections
from emu.snapshot.values import pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.memory import Region
    from emu.machine import Machine

Progress = Callable[[int], None]
# Sections, in the order they are written in; memory comes last, so that what does not fit is known early.
KINDS = ("machine", "clock", "cpu", "device", "board", "ram")
SECTION_VERSION = 1
# Snapshots that stand on one another, each with the changes since the one before.
LONGEST_CHAIN = 1000


def silent(done: int) -> None:
    """Nobody wants to know."""


# -- out ---------------------------------------------------------------------------


def flush_disks(machine: Machine) -> None:
    """What the guest wrote to its disks is on them."""
    from emu.snapshot.store import disks

    for disk in disks(machine):
        disk.image.flush()


def write(
    machine: Machine,
    out: Callable[[bytes], None],
    *,
    state: State | None = None,
    more: dict[str, Any] | None = None,
    changes: Followed | None = None,
    told: Progress = silent,
) -> int:
    """Writes a machine that stands still; returns how many bytes.

    more: goes into the head; changes: of memory only what was written since that snapshot.
    """
    state = take(machine) if state is None else state
    writer = Writer(out)
    writer.section("machine", SECTION_VERSION, pack(state.head | (more or {})))
    writer.section("clock", SECTION_VERSION, pack(state.clock))
    for cpu in state.cpus:
        writer.section("cpu", SECTION_VERSION, pack(cpu))
    for name, device in state.devices.items():
        writer.section("device", SECTION_VERSION, pack([name, device]))
    writer.section("board", SECTION_VERSION, pack(state.board))
    ram.write(writer, _chunks(machine) if changes is None else changes.chunks(), told)
    writer.end()
    return writer.written


def _chunks(machine: Machine) -> Iterator[tuple[int, Region, int, int | None]]:
    for number, region in enumerate(regions(machine)):
        for chunk in ram.used_chunks(region):
            yield number, region, chunk, None


def save_file(
    machine: Machine,
    path: str | os.PathLike[str],
    more: dict[str, Any] | None = None,
    *,
    changes: Followed | None = None,
) -> int:
    """Writes a machine that stands still into a file; returns its size.

    It is written aside and put in the place of what was there when it is whole and on the disk.
    """
    target = Path(path)
    if changes is not None:
        if target.resolve() == changes.path.resolve():
            raise SnapshotError(f"{path}: it is what the changes are of; name another file")
        if target.resolve().parent != changes.path.resolve().parent:
            raise SnapshotError(f"{path}: it needs {changes.path} beside it; name a file in that folder")
        changes.collect()
        base = {"id": changes.ident, "name": changes.path.name}
        more = {**(more or {}), "base": base}
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        flush_disks(machine)
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb", buffering=0) as file:
                out = partial(_write_all, file.fileno())
                written = write(machine, out, more=more, changes=changes)
                os.fsync(file.fileno())
            aside.replace(target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}; name a file that can be written") from None
    return written


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- in ----------------------------------------------------------------------------


class Loaded:
    """A snapshot that was read: its state, and its memory unless that is where it belongs already."""

    __slots__ = ("chunks", "state")

    def __init__(self, state: State, chunks: list[ram.Chunk]) -> None:
        self.state = state
        self.chunks = chunks


def read(
    machine: Machine,
    source: Callable[[int], bytes],
    *,
    at_once: bool = False,
    over: bool = False,
    checked: Callable[[State], None] | None = None,
    told: Progress = silent,
) -> Loaded:
    """Reads a whole stream and checks that it fits the machine.  Raises SnapshotError.

    at_once: memory is loaded as it comes, into a machine that has nothing to lose; over: on top of what was
    loaded before; checked: called in place of check().
    """
    head: dict[str, Any] | None = None
    state = State({}, 0, [], {}, None)
    chunks: list[ram.Chunk] = []
    places = regions(machine)
    fits, done, last = False, 0, 0

    def compare() -> None:
        nonlocal fits
        fits = True
        check(machine, state) if checked is None else checked(state)
        for region in places if at_once and not over else ():
            ram.blank(region)

    for section in sections(source):
        if section.name not in KINDS:
            raise SnapshotError(f"the snapshot has a part {section.name!r}, which this release does not know")
        if section.version != SECTION_VERSION:
            raise SnapshotError(
                f"part {section.name} of the snapshot has version {section.version}, and this release reads"
                f" {SECTION_VERSION}; restore it with the release that saved it"
            )
        order = KINDS.index(section.name)
        if order < last or (head is None) != (section.name == "machine"):
            raise SnapshotError("the parts of the snapshot are not in their order; it is damaged")
        last = order
        if section.name == "ram":
            if not fits:
                compare()
            chunk = ram.decoded(section.data, places)
            if at_once:
                chunk.apply()
            else:
                chunks.append(chunk)
            done += ram.CHUNK
            told(done)
            continue
        value = unpack(section.data)
        if section.name == "machine":
            if not isinstance(value, dict):
                raise SnapshotError("the snapshot does not say what machine it is of; it is damaged")
            head = state.head = value
            if value.get("base") is not None and not over:
                raise SnapshotError("the snapshot holds changes only; load it from its file")
        elif section.name == "clock":
            state.clock = _typed(value, int)
        elif section.name == "cpu":
            state.cpus.append(value)
        elif section.name == "device":
            name, saved = _typed(value, list)
            state.devices[name] = saved
        else:
            state.board = value
    if not fits:
        compare()
    return Loaded(state, chunks)


def _typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (kind is list and (len(value) != 2 or not isinstance(value[0], str))):
        raise SnapshotError("a part of the snapshot makes no sense; it is damaged")
    if kind is int and not 0 <= value < 1 << 63:
        raise SnapshotError("the time of the snapshot makes no sense; it is damaged")
    return value


def apply(machine: Machine, loaded: Loaded, *, at_once: bool = False) -> None:
    """Gives the machine what was read; if a part refuses it, what it had before, unless that was nothing."""
    before = None if at_once else (take(machine), kept_memory(machine))
    try:
        if not at_once:
            fill(machine, loaded.chunks)
        put(machine, loaded.state)
    except SnapshotError:
        if before is not None:
            fill(machine, before[1])
            put(machine, before[0])
        raise
    for region in regions(machine):
        if region.tracked:
            machine.memory.written(region.base, region.size)


def kept_memory(machine: Machine) -> list[ram.Chunk]:
    """A copy of the memory that is in use."""
    copies = []
    for region in regions(machine):
        for chunk in ram.used_chunks(region):
            base = chunk * ram.CHUNK
            data = bytes(region.buffer[base : base + ram.CHUNK])
            copies.append(ram.Chunk(region, base, (1 << -(-len(data) // ram.PAGE)) - 1, data))
    return copies


def fill(machine: Machine, chunks: list[ram.Chunk]) -> None:
    """Makes memory what the chunks say, and zero elsewhere."""
    for region in regions(machine):
        ram.blank(region)
    for chunk in chunks:
        chunk.apply()


def load_file(machine: Machine, path: str | os.PathLike[str], *, at_once: bool = False) -> State:
    """Reads a file into a machine that stands still, and first those that it holds the changes of.

    Raises SnapshotError; the machine is then as it was.
    """
    try:
        loaded = _read_chain(machine, _chain(Path(path)), at_once)
        apply(machine, loaded, at_once=at_once)
    except SnapshotError:
        if at_once:  # it is as before its first start
            fill(machine, [])
        raise
    return loaded.state


def _read_chain(machine: Machine, chain: list[Path], at_once: bool) -> Loaded:
    chunks: list[ram.Chunk] = []
    loaded, before = None, None
    for number, each in enumerate(chain):
        loaded = _read_file(machine, each, at_once, over=number > 0)
        chunks += loaded.chunks
        wanted = {} if number == 0 else loaded.state.head["base"]
        if number and wanted["id"] != before:
            wrong = chain[number - 1].name
            raise SnapshotError(f"{each}: {wrong} is not the snapshot that it holds changes of")
        before = loaded.state.head.get("id")
    assert loaded is not None
    return Loaded(loaded.state, chunks)


def _chain(path: Path) -> list[Path]:
    """The files of a snapshot, the one that holds everything first."""
    chain = [path]
    while True:
        with _opened(chain[0]) as file, _named(chain[0]):
            first = next(sections(file.read), None)
            head = unpack(first.data) if first is not None and first.name == "machine" else None
            base = head.get("base") if isinstance(head, dict) else None
            if base is None:
                return chain
            name = base.get("name") if isinstance(base, dict) else None
            if not isinstance(name, str) or not isinstance(base.get("id"), str) or name != Path(name).name:
                raise SnapshotError("it does not say what it holds the changes of; it is damaged")
            if len(chain) == LONGEST_CHAIN:
                raise SnapshotError(f"more than {LONGEST_CHAIN} snapshots stand on one another")
        chain.insert(0, chain[0].with_name(name))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of a file say which."""
    try:
        yield
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}") from None
    except SnapshotError as error:
        raise SnapshotError(f"{path}: {error}") from None


def _opened(path: Path) -> IO[bytes]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}; name a file that save wrote") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SnapshotError(f"{path} is no regular file; name a file that save wrote")
    return open(fd, "rb", buffering=0)


def _read_file(machine: Machine, path: Path, at_once: bool, *, over: bool) -> Loaded:
    with _opened(path) as file, _named(path):
        loaded = read(machine, file.read, at_once=at_once, over=over)
        if file.read(1):
            raise SnapshotError("something follows the end of the snapshot; it is damaged")
    return loaded

"""The memory map against a slow model: one Python function per byte, written from core.h's contract."""

from __future__ import annotations

import os
import select
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import EmuError, MapError, Overlap
from accel.memory import AddressSpace, Range, Region, Register

WIDTHS = (1, 2, 4, 8)


@pytest.fixture
def space():
    with AddressSpace() as space:
        yield space


def ones(width: int) -> int:
    return (1 << (8 * width)) - 1


# ---- layout, against a model that asks every region about every byte -----------------------------------

SPAN = 96  # small, so that random regions meet


@dataclass
class Piece:
    """A region as the model knows it."""

    region: Region
    base: int
    size: int
    priority: int
    content: bytes


def seen_at(pieces: list[Piece], address: int) -> Piece | None:
    covering = [p for p in pieces if p.base <= address < p.base + p.size]
    return max(covering, key=lambda p: p.priority, default=None)


def collides(pieces: list[Piece], base: int, size: int, priority: int, me: Piece | None = None) -> bool:
    return any(
        p is not me and p.priority == priority and p.base < base + size and base < p.base + p.size
        for p in pieces
    )


ACTIONS = st.one_of(
    st.tuples(
        st.just("add"), st.integers(0, SPAN + 4), st.integers(1, 40), st.integers(-2, 2), st.booleans()
    ),
    st.tuples(st.just("move"), st.integers(0, 9), st.integers(0, SPAN + 4)),
    st.tuples(st.just("remove"), st.integers(0, 9)),
    st.tuples(st.just("place"), st.integers(0, 9), st.integers(0, SPAN + 4)),
)


class Follower:
    """A listener that keeps the map by deltas alone, as an engine's slots do."""

    def __init__(self) -> None:
        self.pieces: dict[int, Range] = {}

    def range_removed(self, piece: Range) -> None:
        assert self.pieces.pop(piece.base).key() == piece.key()

    def range_added(self, piece: Range) -> None:
        for other in self.pieces.values():
            assert piece.base >= other.base + other.size or other.base >= piece.base + piece.size
        self.pieces[piece.base] = piece


@settings(max_examples=250, deadline=None)
@given(st.lists(ACTIONS, max_size=24), st.integers(0, SPAN + 8), st.sampled_from(WIDTHS))
def test_random_layouts_are_seen_as_the_model_sees_them(actions, address, width):
    with AddressSpace("model", SPAN) as space:
        follower = Follower()
        space.subscribe(follower)
        mapped: list[Piece] = []
        removed: list[Piece] = []
        for number, action in enumerate(actions):
            if action[0] == "add":
                _, base, size, priority, readonly = action
                content = bytes((number * 37 + i * 5 + 1) & 0xFF for i in range(size))
                fits = base + size <= SPAN
                if not fits or collides(mapped, base, size, priority):
                    with pytest.raises(MapError if not fits else Overlap):
                        space.add_ram(f"r{number}", base, size, readonly=readonly, priority=priority)
                    continue
                region = space.add_ram(f"r{number}", base, size, readonly=readonly, priority=priority)
                region.buffer[:] = content
                mapped.append(Piece(region, base, size, priority, content))
            elif action[0] == "move" and mapped:
                piece = mapped[action[1] % len(mapped)]
                base = action[2]
                if base + piece.size > SPAN or collides(mapped, base, piece.size, piece.priority, piece):
                    with pytest.raises(MapError):
                        space.move(piece.region, base)
                else:
                    space.move(piece.region, base)
                    piece.base = base
            elif action[0] == "remove" and mapped:
                piece = mapped.pop(action[1] % len(mapped))
                space.remove(piece.region)
                removed.append(piece)
            elif action[0] == "place" and removed:
                piece = removed[action[1] % len(removed)]
                base = action[2]
                if base + piece.size > SPAN or collides(mapped, base, piece.size, piece.priority):
                    with pytest.raises(MapError):
                        space.place(piece.region, base)
                else:
                    space.place(piece.region, base)
                    piece.base = base
                    removed.remove(piece)
                    mapped.append(piece)

        flat = space.flat()
        assert {r.key() for r in flat} == {r.key() for r in follower.pieces.values()}
        assert [r.base for r in flat] == sorted(r.base for r in flat)
        for at in range(SPAN):
            piece, found = seen_at(mapped, at), space.find(at)
            if piece is None:
                assert found is None
                assert space.read(at, 1) == 0xFF
                assert space.peek(at, 4) == b""
            else:
                assert found is not None
                assert found.region is piece.region
                assert found.offset + (at - found.base) == at - piece.base
                assert space.read(at, 1) == piece.content[at - piece.base]
        # one wide read at any address, across whatever lies there
        model = b"".join(
            bytes([p.content[a - p.base]]) if (p := seen_at(mapped, a)) else b"\xff"
            for a in range(address, address + width)
        )
        assert space.read(address, width) == int.from_bytes(model, "little")
        # one wide write: RAM takes it, ROM and holes do not
        value = 0x8877_6655_4433_2211 & ones(width)
        space.write(address, width, value)
        for i, a in enumerate(range(address, address + width)):
            if p := seen_at(mapped, a):
                rom = p.region.kind == 2
                assert space.read(a, 1) == (p.content[a - p.base] if rom else value >> (8 * i) & 0xFF)


# ---- registers, against a model of bytes ---------------------------------------------------------------


@dataclass
class ModelRegister:
    register: Register
    value: int


@dataclass
class ModelDevice:
    """What core.h promises of an I/O region, one access at a time, as slowly as it can be said."""

    size: int
    registers: list[ModelRegister]
    calls: list[tuple] = field(default_factory=list)

    def at(self, offset: int) -> ModelRegister | None:
        for entry in self.registers:
            if entry.register.offset <= offset < entry.register.offset + entry.register.width:
                return entry
        return None

    def parts(self, offset: int, width: int):
        """(position in the access, register or None, offset, width) of each part of an access."""
        done = 0
        while done < width:
            entry, at = self.at(offset + done), offset + done
            if entry is not None:
                n = min(width - done, entry.register.offset + entry.register.width - at)
            else:
                n = 8
                while n > width - done or at % n != 0 or any(self.at(at + i) is not None for i in range(n)):
                    n //= 2
            yield done, entry, at, n
            done += n

    def read(self, offset: int, width: int) -> int:
        result = 0
        for done, entry, at, n in self.parts(offset, width):
            if entry is None:
                self.calls.append(("read", at, n))
                word = answer(at, n)
            else:
                r = entry.register
                if r.read_hook:
                    self.calls.append(("read", r.offset, r.width))
                    word = answer(r.offset, r.width)
                else:
                    word = entry.value
                    if r.clear_on_read:
                        entry.value = 0
                word >>= 8 * (at - r.offset)
            result |= (word & ones(n)) << (8 * done)
        return result

    def write(self, offset: int, width: int, value: int) -> None:
        for done, entry, at, n in self.parts(offset, width):
            part = value >> (8 * done) & ones(n)
            if entry is None:
                self.calls.append(("write", at, n, part))
                continue
            r, old = entry.register, entry.value
            new = list(old.to_bytes(r.width, "little"))
            told = list(old.to_bytes(r.width, "little"))
            for i in range(n):
                byte = at - r.offset + i
                given = part >> (8 * i) & 0xFF
                mask = r.write_mask >> (8 * byte) & 0xFF
                w1c = r.w1c >> (8 * byte) & 0xFF
                new[byte] = ((new[byte] & ~mask) | (given & mask)) & ~(given & w1c) & 0xFF
                told[byte] = given
            entry.value = int.from_bytes(bytes(new), "little")
            if r.write_hook:
                self.calls.append(("write", r.offset, r.width, int.from_bytes(bytes(told), "little")))


def answer(offset: int, width: int) -> int:
    """What the hook of both says; more bits than asked, which nobody may see."""
    return (offset * 0x0101_0101_0101_0101 + 0x1122_3344_5566_7788 * width) & ones(8)


@st.composite
def register_sets(draw):
    registers, at = [], 0
    for _ in range(draw(st.integers(0, 8))):
        width = draw(st.sampled_from(WIDTHS))
        at += draw(st.sampled_from([0, 0, 0, 1, 3, 8, 5000]))
        at = -(-at // width) * width
        value = st.integers(0, ones(width))
        registers.append(
            Register(
                at,
                width,
                reset=draw(value),
                write_mask=draw(st.one_of(value, st.just(ones(width)))),
                w1c=draw(st.one_of(st.just(0), value)),
                read_hook=draw(st.booleans()),
                write_hook=draw(st.booleans()),
                clear_on_read=draw(st.booleans()),
            )
        )
        at += width
    return registers, at + draw(st.integers(1, 24))


@settings(max_examples=300, deadline=None)
@given(register_sets(), st.data())
def test_random_registers_answer_as_a_model_of_bytes(layout, data):
    registers, size = layout
    model = ModelDevice(size, [ModelRegister(r, r.reset) for r in registers])
    calls: list[tuple] = []

    def read(offset: int, width: int) -> int:
        calls.append(("read", offset, width))
        return answer(offset, width)

    def write(offset: int, width: int, value: int) -> None:
        calls.append(("write", offset, width, value))

    with AddressSpace() as space:
        region = space.new_io("device", size)
        order = data.draw(st.permutations(range(len(registers))))
        live = region.registers([registers[i] for i in order])
        region.ops(read, write)
        base = data.draw(st.sampled_from([0, 0x1003, 0xFFFF_FFFF_FFFF_0000]))
        space.place(region, base)
        near = [r.offset for r in registers] or [0]
        for _ in range(data.draw(st.integers(1, 12))):
            width = data.draw(st.sampled_from(WIDTHS))
            offset = data.draw(st.sampled_from(near)) + data.draw(st.integers(-8, 8))
            if not 0 <= offset <= size - width:
                continue
            if data.draw(st.booleans()):
                assert space.read(base + offset, width) == model.read(offset, width)
            else:
                value = data.draw(st.one_of(st.integers(0, ones(width)), st.just(ones(width))))
                space.write(base + offset, width, value)
                model.write(offset, width, value)
            assert calls == model.calls
        for number, i in enumerate(order):
            assert live[number].value == model.registers[i].value
            assert live[number].offset == registers[i].offset
        before = list(calls)
        shadow = bytearray(size)
        for entry in model.registers:
            r = entry.register
            shadow[r.offset : r.offset + r.width] = entry.value.to_bytes(r.width, "little")
        assert space.peek(base, size) == shadow
        assert calls == before, "looking touched"


@pytest.mark.parametrize(
    ("base", "value", "parts"),
    [
        (0x1010, 0xAABBCCDD_11223344, [("l", 0xC, 4), ("r", 0, 4)]),
        # `right` hides half of the register: its six bytes are asked for in aligned pieces
        (0x100E, 0xCCDD_AABBCCDD_3344, [("l", 0xC, 4), ("r", 0, 4), ("r", 4, 2)]),
    ],
)
def test_a_hooked_register_is_called_once_for_its_part_of_a_crossing_access(space, base, value, parts):
    calls = []
    left = space.add_io("left", 0x1000, 0x10)
    left.trap(0xC, 4, read=lambda o, w: calls.append(("l", o, w)) or 0x11223344)
    right = space.add_io("right", base, 0x10, priority=1)
    right.ops(lambda o, w: calls.append(("r", o, w)) or 0xAABBCCDD, None)
    assert space.read(0x100C, 8) == value
    assert calls == parts


def test_a_write_across_a_hole_reaches_both_sides(space):
    space.add_ram("a", 0x1000, 0x11)
    space.add_ram("b", 0x1013, 0x10)
    space.write(0x100F, 8, 0x0807_0605_0403_0201)
    assert space.peek(0x100F, 8) == b"\x01\x02"
    assert space.peek(0x1013, 4) == b"\x05\x06\x07\x08"
    assert space.read(0x100F, 8) == 0x08070605_FFFF_0201


# ---- the kinds of registers, each said once in plain words ---------------------------------------------


def test_write_mask_keeps_the_other_bits(space):
    region = space.add_io("dev", 0, 8)
    region.registers([Register(0, 4, reset=0xF0F0_F0F0, write_mask=0x0000_FFFF)])
    space.write(0, 4, 0x1234_5678)
    assert space.read(0, 4) == 0xF0F0_5678


def test_writing_one_clears_and_zero_keeps(space):
    region = space.add_io("dev", 0, 8)
    region.registers([Register(0, 4, reset=0xFF, w1c=0x0F)])
    space.write(0, 4, 0xA5)
    assert space.read(0, 4) == 0xFA
    space.write(1, 1, 0xFF)  # another byte of the register
    assert space.read(0, 4) == 0xFA


def test_reading_clears_where_declared(space):
    region = space.add_io("dev", 0, 8)
    region.registers([Register(0, 4, reset=0x1234, clear_on_read=True)])
    assert space.peek(0, 4) == b"\x34\x12\x00\x00"
    assert space.read(0, 4) == 0x1234
    assert space.read(0, 4) == 0


def test_a_register_without_hooks_never_enters_python(space):
    region = space.add_io("dev", 0, 16)
    region.registers([Register(0, 4, reset=7, write_mask=ones(4)), Register(4, 4, read_hook=True)])
    entered = []
    region.ops(lambda o, w: entered.append(o) or 1, lambda o, w, v: entered.append(o))
    space.write(0, 4, 8)
    assert space.read(0, 4) == 8
    assert entered == []
    assert space.read(4, 4) == 1
    assert entered == [4]


def test_a_device_changes_its_register_without_a_lock(space):
    region = space.add_io("dev", 0, 4)
    (live,) = region.registers([Register(0, 4, write_mask=0)])
    live.value = 0xCAFE
    assert space.read(0, 4) == 0xCAFE
    space.write(0, 4, 1)
    assert space.read(0, 4) == 0xCAFE


def test_a_narrow_write_is_merged_into_the_word_a_hook_sees(space):
    seen = []
    region = space.add_io("dev", 0x100, 0x10)
    region.trap(4, 4, write=lambda o, w, v: seen.append((o, w, v)))
    space.write(0x104, 4, 0x11223344)
    space.write(0x106, 1, 0xEE)
    assert seen == [(4, 4, 0x11223344), (4, 4, 0x11EE3344)]


def test_a_wide_access_is_split_into_the_registers_it_covers(space):
    seen = []
    region = space.add_io("dev", 0, 0x10)
    region.registers([Register(0, 4, write_hook=True), Register(4, 2, write_hook=True)])
    region.ops(None, lambda o, w, v: seen.append((o, w, v)))
    space.write(0, 8, 0x8877_6655_4433_2211)
    assert seen == [(0, 4, 0x44332211), (4, 2, 0x6655), (6, 2, 0x8877)]


def test_an_offset_no_register_claims_reads_zero_without_hooks(space):
    region = space.add_io("dev", 0, 0x10)
    region.registers([Register(0, 4, reset=ones(4))])
    assert space.read(0, 8) == 0xFFFF_FFFF
    space.write(8, 8, ones(8))
    assert space.read(8, 8) == 0


# ---- memory, ROM, holes --------------------------------------------------------------------------------


def test_ram_is_one_host_mapping_that_everybody_shares(space):
    ram = space.add_ram("ram", 0x8000_0000, 0x1000)
    space.write(0x8000_0010, 4, 0xDEAD_BEEF)
    assert bytes(ram.buffer[0x10:0x14]) == b"\xef\xbe\xad\xde"
    ram.buffer[0x20] = 0x5A
    assert space.read(0x8000_0020, 1) == 0x5A
    with os.fdopen(os.dup(ram.fd), "rb") as file:
        assert file.read(0x21)[0x20] == 0x5A


def test_a_guest_write_to_rom_is_told_or_dropped(space):
    rom = space.add_ram("flash", 0, 0x1000, readonly=True)
    space.load(0, b"\x01\x02\x03\x04\x05\x06\x07\x08")
    space.write(0, 4, 0)
    assert space.read(0, 4) == 0x04030201
    seen = []
    rom.ops(None, lambda o, w, v: seen.append((o, w, v)))
    space.write(4, 4, 0x55)
    space.write(6, 4, 0x4433_2211)
    assert space.read(0, 8) == 0x0807_0605_0403_0201
    assert seen == [(4, 4, 0x55), (6, 2, 0x2211), (8, 2, 0x4433)]


def test_a_hole_reads_all_ones_and_swallows_writes(space):
    for width in WIDTHS:
        assert space.read(0x1234, width) == ones(width)
        space.write(0x1234, width, 0)


@pytest.mark.parametrize("size", [1 << 64, 0x1_0000])
def test_nothing_lies_beyond_the_last_address_and_nothing_wraps(size):
    with AddressSpace("edge", size) as space:
        space.add_ram("low", 0, 0x10)
        space.add_ram("high", size - 0x10, 0x10)
        space.load(0, bytes(range(0x10)))
        space.load(size - 0x10, bytes(range(0x80, 0x90)))
        assert space.read(size - 4, 8) == 0xFFFF_FFFF_8F8E_8D8C
        space.write(size - 4, 8, 0x1111_1111_2222_2222)
        assert space.peek(0, 16) == bytes(range(0x10))
        assert space.peek(size - 4, 16) == b"\x22" * 4
        with pytest.raises(MapError, match="do not fit"):
            space.load(size - 4, bytes(8))


def test_a_region_may_end_at_the_last_address_but_not_beyond(space):
    space.add_io("last", (1 << 64) - 0x1000, 0x1000)
    with pytest.raises(MapError, match="does not fit"):
        space.add_io("over", (1 << 64) - 0x1000, 0x1001, priority=1)
    with pytest.raises(MapError, match="does not fit"):
        space.add_ram("far", 1 << 64, 0x1000)


def test_load_says_where_the_memory_ends(space):
    space.add_ram("ram", 0x1000, 0x1000)
    with pytest.raises(MapError, match=r"no RAM or ROM at 0x2000"):
        space.load(0x1F00, bytes(0x200))
    space.load(0x1F00, memoryview(b"abcd"))
    assert space.peek(0x1F00, 4) == b"abcd"


# ---- errors name both sides ----------------------------------------------------------------------------


def test_an_overlap_names_both_regions_and_both_ranges(space):
    space.add_io("uart", 0x0900_0000, 0x1000)
    with pytest.raises(Overlap) as caught:
        space.add_io("rtc", 0x0900_0800, 0x1000)
    text = str(caught.value)
    for part in ("rtc", "0x9000800-0x90017ff", "uart", "0x9000000-0x9000fff", "priority"):
        assert part in text
    assert "\n" not in text
    assert isinstance(caught.value, MapError)
    assert isinstance(caught.value, EmuError)


def test_a_move_onto_another_region_names_both_and_changes_nothing(space):
    a = space.add_io("a", 0x1000, 0x100)
    space.add_io("b", 0x2000, 0x100)
    with pytest.raises(Overlap, match=r"a at 0x20ff-0x21fe overlaps b at 0x2000-0x20ff"):
        space.move(a, 0x20FF)
    assert a.base == 0x1000
    assert space.find(0x1000).region is a


def test_a_region_is_placed_once(space):
    a = space.add_io("a", 0x1000, 0x100)
    with pytest.raises(MapError, match="mapped already at 0x1000-0x10ff"):
        space.place(a, 0x9000)
    assert a.base == 0x1000
    space.remove(a)
    assert not a.mapped
    with pytest.raises(MapError, match="not mapped here"):
        space.remove(a)
    with pytest.raises(MapError, match="not mapped here"):
        space.move(a, 0x5000)
    space.place(a, 0x9000)
    assert space.find(0x9000).region is a


def test_a_region_belongs_to_one_map(space):
    with AddressSpace("other") as other:
        foreign = other.new_io("foreign", 0x10)
        with pytest.raises(MapError, match="belongs to other"):
            space.place(foreign, 0)


@pytest.mark.parametrize("size", [0, -1, 1 << 64])
def test_a_region_of_no_possible_size_is_refused(space, size):
    with pytest.raises(MapError):
        space.add_ram("bad", 0, size)
    with pytest.raises(MapError):
        space.add_io("bad", 0, size)
    assert space.flat() == []


def test_more_memory_than_the_host_can_reserve_is_an_error_in_one_line(space):
    with pytest.raises(MapError, match=r"cannot reserve 0x4000000000000000 bytes .*; ask for less"):
        space.add_ram("ram", 0, 1 << 62)


def test_a_long_or_strange_name_is_no_reason_to_fail(space):
    ram = space.add_ram("r\0m" + "x" * 1000, 0, 16)
    assert len(ram.buffer) == 16


@pytest.mark.parametrize(
    ("registers", "text"),
    [
        ([Register(2, 4)], "not aligned"),
        ([Register(0x10, 4)], "outside"),
        ([Register(0x0, 8), Register(4, 4)], "overlap"),
        ([Register(0, 3)], "width 3"),
        ([Register(0, 4, reset=-1)], "none is negative"),
        ([Register(1 << 32, 4)], "32 bits"),
    ],
)
def test_registers_that_cannot_be_are_refused(space, registers, text):
    region = space.add_io("dev", 0, 0x10)
    with pytest.raises(MapError, match=text):
        region.registers(registers)


@pytest.mark.parametrize("address", [-1, 1 << 64])
def test_an_address_outside_64_bits_is_refused(space, address):
    region = space.add_io("io", 0, 16)
    for call in (
        lambda: space.read(address, 4),
        lambda: space.write(address, 4, 0),
        lambda: space.peek(address, 4),
        lambda: space.find(address),
        lambda: space.load(address, b"x"),
        lambda: space.move(region, address),
    ):
        with pytest.raises(MapError):
            call()
    with pytest.raises(MapError, match="3 bytes"):
        space.read(0, 3)


# ---- freeze, move, listeners ---------------------------------------------------------------------------


def test_after_freeze_new_regions_are_refused_and_known_ones_move(space):
    ram = space.add_ram("ram", 0, 0x1000)
    bar = space.new_io("bar", 0x100)
    space.freeze()
    with pytest.raises(MapError, match="comes after the machine started"):
        space.add_io("late", 0x8000, 0x100)
    with pytest.raises(MapError, match="comes after the machine started"):
        space.new_io("late", 0x100)
    space.place(bar, 0x4000)
    space.move(bar, 0x5000)
    space.remove(bar)
    space.place(bar, 0x6000)
    space.remove(ram)
    space.place(ram, 0)
    assert [str(r) for r in space.flat()] == ["0x0-0xfff ram+0x0", "0x6000-0x60ff bar+0x0"]


def test_memory_keeps_its_content_when_it_moves(space):
    ram = space.add_ram("ram", 0x1000, 0x1000)
    space.load(0x1000, b"content")
    space.move(ram, 0x7000)
    assert space.peek(0x7000, 7) == b"content"
    assert space.peek(0x1000, 7) == b""
    space.remove(ram)
    space.place(ram, 0x1000)
    assert space.peek(0x1000, 7) == b"content"


class Log:
    def __init__(self) -> None:
        self.told: list[str] = []

    def range_removed(self, piece: Range) -> None:
        self.told.append(f"- {piece}")

    def range_added(self, piece: Range) -> None:
        self.told.append(f"+ {piece}")


def test_a_listener_hears_the_difference_and_removals_first(space):
    space.add_ram("ram", 0, 0x3000)
    log = Log()
    space.subscribe(log)
    assert log.told == ["+ 0x0-0x2fff ram+0x0"]
    log.told.clear()
    window = space.add_io("window", 0x1000, 0x1000, priority=1)
    assert log.told == [
        "- 0x0-0x2fff ram+0x0",
        "+ 0x0-0xfff ram+0x0",
        "+ 0x1000-0x1fff window+0x0",
        "+ 0x2000-0x2fff ram+0x2000",
    ]
    log.told.clear()
    space.move(window, 0x8000)
    assert log.told == [
        "- 0x0-0xfff ram+0x0",
        "- 0x1000-0x1fff window+0x0",
        "- 0x2000-0x2fff ram+0x2000",
        "+ 0x0-0x2fff ram+0x0",
        "+ 0x8000-0x8fff window+0x0",
    ]
    log.told.clear()
    space.unsubscribe(log)
    space.remove(window)
    assert log.told == []


# ---- hooks that raise, doorbells, the end --------------------------------------------------------------


class Mistake(Exception):
    pass


def test_what_a_hook_raises_comes_out_of_the_access(space, capfd):
    def fail(*_):
        raise Mistake("in the device")

    region = space.add_io("dev", 0, 0x10)
    region.trap(0, 4, read=fail, write=fail)
    for _ in range(2):
        with pytest.raises(Mistake, match="in the device"):
            space.read(0, 4)
        with pytest.raises(Mistake):
            space.write(2, 1, 0)
    assert space.raised is None
    assert capfd.readouterr().err == ""


def test_a_hook_that_answers_nonsense_is_an_error_of_its_own(space):
    region = space.add_io("dev", 0, 0x10)
    region.ops(lambda o, w: "zero", None)
    with pytest.raises(TypeError):
        space.read(0, 4)


def test_an_interrupt_between_c_and_the_hook_is_not_lost(space, capfd):
    """Ctrl-C may arrive before the hook has begun, or behind its end: any signal's exception comes out."""
    calls = 0

    def alarm(number, frame):
        raise Mistake

    def read_until_alarm(seconds):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        while True:
            space.read(0, 4)

    before = signal.signal(signal.SIGALRM, alarm)

    def read(offset, width):
        nonlocal calls
        calls += 1
        return 1

    space.add_io("dev", 0, 0x10).ops(read, None)
    try:
        for turn in range(100):
            with pytest.raises(Mistake):
                read_until_alarm(0.0003 + turn * 0.00001)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert calls > 0
    assert capfd.readouterr().err == ""


def test_a_wide_access_stops_at_the_part_that_raised(space):
    seen = []

    def write(offset, width, value):
        seen.append(offset)
        if offset == 4:
            raise Mistake

    region = space.add_io("dev", 0, 0x10)
    region.registers([Register(0, 4, write_hook=True), Register(4, 2, write_hook=True), Register(6, 2)])
    region.ops(None, write)
    with pytest.raises(Mistake):
        space.write(0, 8, 0)
    assert seen == [0, 4]


def rung(fd: int) -> int:
    return int.from_bytes(os.read(fd, 8), "little") if select.select([fd], [], [], 0)[0] else 0


def test_a_doorbell_counts_writes_and_runs_no_hook(space):
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        seen = []
        region = space.new_io("virtio", 0x100)
        region.doorbell(0x50, fd, width=4)
        region.ops(None, lambda o, w, v: seen.append((o, w, v)))
        space.place(region, 0x1000)
        space.write(0x1050, 4, 1)
        space.write(0x1050, 4, 2)
        assert rung(fd) == 2
        assert seen == []
        space.write(0x1050, 2, 7)  # another width
        space.write(0x1054, 4, 8)
        assert rung(fd) == 0
        assert seen == [(0x50, 2, 7), (0x54, 4, 8)]
    finally:
        os.close(fd)


def test_a_doorbell_with_a_match_takes_that_value_only(space):
    fds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
    try:
        seen = []
        region = space.add_io("virtio", 0, 0x100)
        for queue, fd in enumerate(fds):
            region.doorbell(0x10, fd, match=queue)
        region.ops(None, lambda o, w, v: seen.append(v))
        space.write(0x10, 2, 1)
        space.write(0x10, 4, 1)
        space.write(0x10, 8, 0)
        space.write(0x10, 4, 2)
        assert [rung(fd) for fd in fds] == [1, 2]
        assert seen == [2]
        assert [(b.offset, b.match, b.width) for b in region.doorbells()] == [(16, 0, 0), (16, 1, 0)]
    finally:
        for fd in fds:
            os.close(fd)


def test_a_full_doorbell_does_not_hold_the_guest(space):
    fd = os.eventfd(0xFFFF_FFFF, os.EFD_NONBLOCK)
    try:
        os.write(fd, (0xFFFF_FFFF_FFFF_FFFE - 0xFFFF_FFFF).to_bytes(8, "little"))
        region = space.add_io("virtio", 0, 0x10)
        region.doorbell(0, fd)
        space.write(0, 4, 0)
        assert rung(fd) == 0xFFFF_FFFF_FFFF_FFFE
    finally:
        os.close(fd)


@pytest.mark.parametrize(("offset", "width"), [(0x10, 4), (0xE, 4), (0, 3), (0, 16), (-1, 4), (1 << 64, 4)])
def test_a_doorbell_lies_inside_and_has_a_real_width(space, offset, width):
    region = space.add_io("virtio", 0, 0x10)
    with pytest.raises(MapError, match="no doorbell"):
        region.doorbell(offset, 0, width=width)


def test_memory_has_no_doorbells_and_io_no_buffer(space):
    ram, io = space.add_ram("ram", 0, 0x10), space.add_io("io", 0x10, 0x10)
    with pytest.raises(MapError):
        ram.doorbell(0, 0)
    with pytest.raises(MapError, match="no host memory"):
        _ = io.buffer


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_close_gives_back_every_byte_also_of_what_failed_or_was_never_placed():
    before = open_fds()
    space = AddressSpace()
    ram = space.add_ram("ram", 0, 0x1000)
    space.new_io("never", 0x100)
    for _ in range(50):
        with pytest.raises(Overlap):
            space.add_ram("clash", 0x800, 0x1000)
    assert open_fds() == before + 1, "a region that was refused kept its memory"
    gone = space.add_ram("gone", 0x10000, 0x1000)
    space.remove(gone)
    space.close()
    space.close()
    assert open_fds() == before
    assert not ram.mapped


def test_a_closed_map_refuses_instead_of_crashing():
    space = AddressSpace()
    io, ram = space.add_io("io", 0, 0x10), space.add_ram("ram", 0x100, 0x10)
    space.close()
    for call in (
        lambda: space.read(0, 4),
        lambda: space.write(0, 4, 0),
        lambda: space.peek(0, 4),
        lambda: space.load(0, b"x"),
        lambda: space.find(0),
        lambda: space.add_io("x", 0, 4),
        lambda: space.move(io, 0x20),
        lambda: space.remove(io),
        lambda: io.registers([Register(0, 4)]),
        lambda: io.ops(None, None),
        lambda: io.doorbell(0, 0),
        lambda: ram.buffer,
    ):
        with pytest.raises(MapError, match="closed"):
            call()


def test_readers_see_a_moving_region_whole_or_not_at_all(space):
    """One thread moves a region back and forth while others read: a reader gets its bytes or a hole."""
    region = space.add_io("mover", 0x1000, 0x1000)
    region.registers([Register(0, 4, reset=0x11223344)])
    stop = threading.Event()
    wrong: list[int] = []

    def read() -> None:
        while not stop.is_set():
            for base in (0x1000, 0x8000):
                value = space.read(base, 4)
                if value not in (0x11223344, 0xFFFF_FFFF):
                    wrong.append(value)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(500):
        space.move(region, 0x8000 if turn % 2 == 0 else 0x1000)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []

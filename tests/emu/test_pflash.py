"""CFI flash: command by command as Intel's data sheet has it, beside QEMU's, and by U-Boot's own driver."""

import random

import pytest

from accel.errors import DeviceError
from emu import Machine
from emu.devices.pflash import BLOCK, Pflash
from tests.emu.qtest import Qtest
from tests.emu.test_uboot import firmware

BASE = 0x0400_0000
BOTH = 0x1_0001
READY, ERASE_FAILED, PROGRAM_FAILED = 0x80 * BOTH, 0x22 * BOTH, 0x12 * BOTH


class Chip:
    """32-bit accesses to a bank."""

    def __init__(self, space, base=BASE):
        self.space = space
        self.base = base

    def read(self, offset, width=4):
        return self.space.read(self.base + offset, width)

    def write(self, offset, value, width=4):
        self.space.write(self.base + offset, width, value)

    def command(self, offset, *values):
        for value in values:
            self.write(offset, value * BOTH)

    def program(self, offset, value):
        self.command(offset, 0x40)
        self.write(offset, value)
        status = self.read(offset)
        self.command(0, 0xFF)
        return status

    def fill(self, offset, words, at=None):
        """A buffered write whose commands go to `at`, by default to where the words go; the status."""
        at = offset if at is None else at
        self.command(at, 0xE8, len(words) - 1)
        for n, word in enumerate(words):
            self.write(offset + 4 * n, word)
        self.command(at, 0xD0)
        status = self.read(offset)
        self.command(0, 0xFF)
        return status

    def erase(self, offset):
        self.command(offset, 0x20, 0xD0)
        status = self.read(offset)
        self.command(0, 0xFF)
        return status


@pytest.fixture
def chip(bench):
    bench.bus.attach("flash", Pflash(), BASE)
    return Chip(bench.space)


def kept(bench, path):
    """A bank with a file, on the same bench."""
    flash = Pflash(path)
    bench.bus.attach("kept", flash, 2 * BASE)
    return flash, Chip(bench.space, 2 * BASE)


def test_the_array_is_erased_at_first_and_programming_clears_bits(chip):
    assert chip.read(0x1000, 8) == 2**64 - 1
    assert chip.program(0x1000, 0x1234_5678) == READY
    assert chip.program(0x1000, 0xFFFF_0000) == READY
    assert chip.read(0x1000) == 0x1234_0000
    assert chip.read(0x1002, 1) == 0x34


def test_an_erase_sets_a_whole_block_and_no_other(chip):
    for offset in (0, BLOCK - 4, BLOCK, 2 * BLOCK - 4, 2 * BLOCK):
        chip.program(offset, 0)
    assert chip.erase(BLOCK + 0x1234) == READY
    assert [chip.read(n) for n in (0, BLOCK - 4, BLOCK, 2 * BLOCK - 4, 2 * BLOCK)] == [
        0,
        0,
        *[2**32 - 1] * 2,
        0,
    ]


def test_an_erase_that_is_not_confirmed_does_nothing(chip):
    chip.program(0, 0)
    chip.command(0, 0x20, 0x70)
    assert chip.read(0) == READY | 0x30 * BOTH
    chip.command(0, 0x50, 0xFF)
    assert chip.read(0) == 0


def test_the_query_tells_the_commands_and_the_sizes(chip):
    chip.command(0x55 * 4, 0x98)
    table = [chip.read(4 * n) & 0xFF for n in range(0x40)]
    assert bytes(table[0x10:0x13]) == b"QRY"
    assert table[0x13] | table[0x14] << 8 == 1
    # Two parts of 2^n bytes are the bank; blocks times their size are a part.
    assert 2 << table[0x27] == Pflash.size
    assert (table[0x2D] + 1) * (table[0x2F] << 8 | table[0x30] << 16) == 1 << table[0x27]
    assert chip.read(0x40) == ord("Q") * BOTH
    assert [chip.read(0x40 + n, 1) for n in range(4)] == [ord("Q"), 0, ord("Q"), 0]
    chip.command(0, 0xFF)
    assert chip.read(0x40) == 2**32 - 1


def test_a_buffered_write_programs_what_was_given_and_nothing_between(chip):
    assert chip.fill(0x2000, [1, 2, 3]) == READY
    assert [chip.read(0x2000 + 4 * n) for n in range(4)] == [1, 2, 3, 2**32 - 1]
    chip.command(0x3000, 0xE8, 1)
    chip.write(0x3008, 7)
    chip.write(0x3000, 5)
    chip.command(0x3000, 0xD0, 0xFF)
    assert [chip.read(0x3000 + 4 * n) for n in range(3)] == [5, 2**32 - 1, 7]
    # The first word says where, and not the command.
    assert chip.fill(0x2_1000, [8, 9], at=0) == READY
    assert [chip.read(0x2_1000 + 4 * n) for n in range(3)] == [8, 9, 2**32 - 1]


@pytest.mark.parametrize("spoil", ["outside", "unconfirmed", "too many"])
def test_a_buffered_write_that_is_wrong_programs_nothing(chip, spoil):
    chip.command(0, 0xE8, 0x400 if spoil == "too many" else 1)
    if spoil != "too many":
        chip.write(0, 0)
        chip.write(0x1000 if spoil == "outside" else 4, 0)
        chip.command(0, 0x70 if spoil == "unconfirmed" else 0xD0)
    assert chip.read(0) == READY | 0x30 * BOTH
    chip.command(0, 0x50, 0xFF)
    assert [chip.read(at) for at in (0, 4, 0x1000)] == [2**32 - 1] * 3


@pytest.mark.parametrize("seed", range(4))
def test_it_answers_like_qemus(chip, seed):
    """Whole commands at random.  QEMU programs ones over zeros, which no flash can: words are fresh here."""
    theirs = Chip(None)
    process = Qtest("aarch64", "-M", "virt")
    theirs.read = lambda offset, width=4: process.read(BASE + offset, width)
    theirs.write = lambda offset, value, width=4: process.write(BASE + offset, value, width)
    rng = random.Random(seed)
    fresh = set(range(0, 0x2000, 4))
    for one in (theirs, chip):
        one.command(0, 0x50)  # QEMU starts without "ready"
        one.erase(0)
    for step in range(120):
        kind = rng.choice(("query", "identity", "status", "program", "fill", "erase", "array", "lock"))
        at, value = 4 * rng.randrange(0x800), rng.getrandbits(32)
        words = [rng.getrandbits(32) for _ in range(rng.randrange(1, 9))]
        if kind == "program" and at not in fresh:
            continue
        if kind == "fill":
            at &= ~0x3F
            if not fresh.issuperset(range(at, at + 4 * len(words), 4)):
                continue
            fresh -= set(range(at, at + 4 * len(words), 4))
        fresh.discard(at if kind == "program" else None)
        if kind == "erase":
            fresh |= set(range(0, 0x2000, 4))
        answers = []
        for one in (theirs, chip):
            if kind == "query":
                one.command(at, 0x98)
                answers.append([one.read(4 * n) for n in range(0x34)])
                one.command(at, 0xFF)
            elif kind == "identity":
                one.command(at, 0x90)
                answers.append([one.read(n) for n in (0, 4, 8)])
                one.command(at, 0xF0)
            elif kind == "status":
                one.command(at, 0x70)
                answers.append(one.read(at) & READY)
                one.command(at, 0xFF)
            elif kind == "lock":
                one.command(at, 0x60, 0xD0 if value & 1 else 0x01)
                answers.append(one.read(at) & READY)
                one.command(at, 0xFF)
            elif kind == "array":
                answers.append([one.read(at, width) for width in (1, 2, 4)])
            elif kind == "erase":
                answers.append(one.erase(at))
            elif kind == "program":
                answers.append(one.program(at, value))
            else:
                answers.append(one.fill(at, words))
        assert answers[0] == answers[1], (step, kind, hex(at))
    assert all(theirs.read(at) == chip.read(at) for at in range(0, 0x2000, 4))
    process.close()


def test_its_state_and_contents_come_back(bench):
    flash = bench.bus.attach("flash", Pflash(), BASE)
    chip = Chip(bench.space)
    chip.program(3 * BLOCK, 0x1111_2222)
    chip.command(0, 0xE8, 1)
    chip.write(0, 5)
    saved = flash.save()
    assert eval(repr(saved)) == saved
    flash.power_on()
    chip.erase(3 * BLOCK)
    chip.program(5 * BLOCK, 0)
    flash.load(saved)
    chip.write(4, 6)
    chip.command(0, 0xD0, 0xFF)
    assert [chip.read(n) for n in (0, 4, 3 * BLOCK, 5 * BLOCK)] == [5, 6, 0x1111_2222, 2**32 - 1]


def test_a_file_keeps_what_was_programmed_at_once(bench, tmp_path):
    flash, chip = kept(bench, tmp_path / "vars")
    assert (tmp_path / "vars").read_bytes() == b""
    chip.program(0x104, 0x0403_0201)
    chip.fill(0x200, [0xAABB_CCDD])
    wanted = bytes([0xFF] * 0x104 + [1, 2, 3, 4]).ljust(0x200, b"\xff") + bytes([0xDD, 0xCC, 0xBB, 0xAA])
    assert (tmp_path / "vars").read_bytes() == wanted
    chip.erase(0)
    assert (tmp_path / "vars").read_bytes() == bytes([0xFF]) * BLOCK
    flash.close()


@pytest.mark.parametrize("full", [False, True])
def test_a_file_is_read_whatever_its_length(bench, tmp_path, full):
    data = bytes(range(256)) * 5
    with open(tmp_path / "vars", "wb") as file:
        file.write(data)
        if full:
            file.truncate(Pflash.size)
    flash, chip = kept(bench, str(tmp_path / "vars"))
    assert bytes(chip.read(n, 1) for n in range(len(data))) == data
    assert chip.read(Pflash.size - 4) == (0 if full else 2**32 - 1)
    chip.erase(BLOCK)
    chip.program(BLOCK + 8, 0x55)
    flash.close()
    after = (tmp_path / "vars").read_bytes()
    assert after[: len(data)] == data
    assert after[BLOCK + 8 : BLOCK + 12] == b"\x55\0\0\0"
    assert len(after) == (Pflash.size if full else 2 * BLOCK)


def test_a_file_that_takes_no_more_is_told_to_the_guest(bench, tmp_path):
    import resource
    import signal

    flash, chip = kept(bench, tmp_path / "vars")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0x1000, limits[1]))
    try:
        assert chip.program(0x2000, 0) == READY | 0x10 * BOTH
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    flash.close()


def test_files_that_cannot_keep_variables_are_refused_in_one_line(tmp_path):
    with open(tmp_path / "large", "wb") as file:
        file.truncate(Pflash.size + 1)
    held = Pflash(tmp_path / "held")
    causes = {
        tmp_path / "large": "have 0x4000001 bytes",
        tmp_path / "held": "are in use",
        tmp_path: "cannot be used: Is a directory",
        tmp_path / "no" / "file": "cannot be used: No such file",
        "/dev/null": "is no regular file",
    }
    for path, cause in causes.items():
        with pytest.raises(DeviceError, match=cause) as caught:
            Pflash(path)
        assert "\n" not in str(caught.value)
    held.close()
    with pytest.raises(DeviceError, match="keeps no variables"):
        Machine("microvm", accel="tcg", firmware_vars=tmp_path / "held")


def test_the_firmwares_bank_is_write_protected_and_answers_commands():
    image = random.Random(0).randbytes(3 * 4096)
    with Machine("virt", accel="tcg", firmware=image) as machine:
        machine.start()
        machine.pause()
        chip = Chip(machine.memory, 0)
        assert chip.read(0) == int.from_bytes(image[:4], "little")
        assert machine.memory.find(0).region.kind == 2  # ROM
        assert chip.program(0, 0) == READY | PROGRAM_FAILED
        chip.command(0, 0x50)
        assert chip.erase(0) == READY | ERASE_FAILED
        chip.command(0, 0x98)
        assert chip.read(0x40) == ord("Q") * BOTH
        chip.command(0, 0xFF)
        assert machine.memory.find(0).region.kind == 2
        assert machine.memory.peek(0, len(image)) == image


def test_u_boot_finds_both_banks_and_keeps_its_environment(terminal, tmp_path):
    words = ("--firmware", firmware("qemu_arm64/u-boot.bin"), "--firmware-vars", str(tmp_path / "vars"))
    boot = terminal(*words)
    boot.prompt()
    told = boot.command("flinfo")
    # Its driver sees 16 of the 32 bits, on QEMU's board too.
    assert told.count("CFI conformant flash (16 x 16)  Size: 32 MB in 256 Sectors") == 2
    assert told.count("Manufacturer ID: 0x89, Device ID: 0x0018") == 2
    boot.command("setenv kept by-the-flash")
    assert "done" in boot.command("saveenv")
    boot.type(b"\x01x")
    assert boot.ended() == 0
    boot = terminal(*words)
    boot.prompt()
    assert "kept=by-the-flash" in boot.command("printenv kept")
    boot.type(b"\x01x")
    assert boot.ended() == 0

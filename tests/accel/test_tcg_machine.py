"""What a whole machine on Unicorn promises beside guest/test_bare_metal.py: exact stops, kicks that are never
lost, a map that may change at any time, memory that does not fill pages.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from accel.api import ExitKind
from accel.errors import AccelError, Unsupported
from accel.memory import AddressSpace, Register
from tests.conftest import Engine
from tests.guest.bare import CODE, DEVICE, RAM, Bare, words

ISAS = ("aarch64", "arm", "riscv64", "x86_64")
# store to [device]; add 1 to a second register; wait.  The device's address and the registers: _start().
STORE_THEN_COUNT = {
    "aarch64": "b9000020 91000442 d503207f",
    "arm": "e5810000 e2822001 e320f003",
    "riscv64": "00a5a023 00160613 10500073",
    "x86_64": "89 03 48 ff c1 f4",
}
COUNTER = {"aarch64": "x2", "arm": "r2", "riscv64": "a2", "x86_64": "rcx"}
POINTER = {"aarch64": "x1", "arm": "r1", "riscv64": "a1", "x86_64": "rbx"}
LOOP = {"aarch64": "14000000", "arm": "eafffffe", "riscv64": "0000006f", "x86_64": "eb fe"}


@pytest.fixture(params=[*((isa, "private") for isa in ISAS), ("aarch64", "public")], ids="-".join)
def machine(request):
    """A bare machine about to run at CODE, in long mode where that is one."""
    isa, path = request.param
    bare = Bare(Engine("tcg"), isa, path=path)
    if isa == "x86_64":
        bare.load(words("f4"))
        assert bare.vcpu.run().kind == ExitKind.HALT
        bare.vcpu.set(rip=CODE[isa])
    bare.vcpu.set(**{POINTER[isa]: DEVICE, COUNTER[isa]: 0})
    yield bare
    bare.close()


def test_a_hook_that_raises_stops_before_the_next_instruction(machine):
    isa = machine.isa
    if not machine.accelerator.features & 1:
        pytest.skip("without its insides Unicorn stops at the end of the block")

    def fail(offset: int, width: int, value: int) -> None:
        raise KeyError("gone")

    machine.device.ops(None, fail)
    machine.attach()
    machine.load(words(STORE_THEN_COUNT[isa], isa))
    with pytest.raises(KeyError, match="gone"):
        machine.vcpu.run()
    assert machine.vcpu.get(machine.arch.pc, COUNTER[isa]) == (CODE[isa], 0)
    # the machine goes on once the cause is gone
    machine.device.ops(None, lambda offset, width, value: None)
    assert machine.vcpu.run().kind == ExitKind.HALT
    assert machine.vcpu.get(COUNTER[isa]) == (1,)


def test_an_access_to_nothing_is_told_with_its_address(machine):
    isa = machine.isa
    machine.load(words(STORE_THEN_COUNT[isa], isa))
    exit_ = machine.vcpu.run()
    if isa == "x86_64":
        assert exit_.kind == ExitKind.HALT
        return
    assert exit_.kind == ExitKind.FAULT
    assert exit_.address == DEVICE
    assert f"{DEVICE:#x}" in exit_.text
    assert "\n" not in exit_.text


def test_a_budget_counts_instructions_exactly(machine):
    isa = machine.isa
    step = {"aarch64": "91000442", "arm": "e2822001", "riscv64": "00160613", "x86_64": "48 ff c1"}[isa]
    machine.load(words(" ".join([step] * 50 + [LOOP[isa]]), isa))
    done = 0
    for budget in (1, 2, 7, 20):
        assert machine.vcpu.run(budget).kind == ExitKind.BUDGET
        done += budget
        assert machine.vcpu.get(COUNTER[isa]) == (done,)
    assert machine.vcpu.run(1000).kind == ExitKind.BUDGET
    with pytest.raises(AccelError, match="at least 1"):
        machine.vcpu.run(0)


def test_a_kick_before_the_run_ends_the_run_and_no_more(machine):
    machine.load(words(LOOP[machine.isa], machine.isa))
    machine.vcpu.kick()
    assert machine.vcpu.run().kind == ExitKind.KICKED
    assert machine.vcpu.run(100).kind == ExitKind.BUDGET


def test_no_kick_is_lost_in_thousands(machine):
    """Kicks at all phases of a run: each run must end, and the guest must not lose or repeat a store."""
    isa = machine.isa
    loop = {
        # str w0, [x1]; add x2, x2, #1; str x2, [x3]; b
        "aarch64": "91000442 f9000062 17fffffe",
        "arm": "e2822001 e5832000 eafffffc",
        "riscv64": "00160613 00c6b023 ff9ff06f",
        "x86_64": "48 ff c1 48 89 0e eb f8",
    }[isa]
    pointer = {"aarch64": "x3", "arm": "r3", "riscv64": "a3", "x86_64": "rsi"}[isa]
    cell = RAM[isa] + 0x40_0000
    machine.load(words(loop, isa))
    machine.vcpu.set(**{pointer: cell})
    rounds = 3000
    gate = threading.Semaphore(0)

    def kick() -> None:
        for _ in range(rounds):
            gate.acquire()
            machine.vcpu.kick()

    watchdog = threading.Timer(60, lambda: None)
    kicker = threading.Thread(target=kick)
    kicker.start()
    watchdog.start()
    for _ in range(rounds):
        gate.release()
        assert machine.vcpu.run().kind == ExitKind.KICKED
    kicker.join()
    watchdog.cancel()
    counted = machine.vcpu.get(COUNTER[isa])[0]
    stored = int.from_bytes(machine.memory.peek(cell, 8), "little")
    mask = (1 << 32) - 1 if isa == "arm" else (1 << 64) - 1
    assert (counted - stored) & mask in (0, 1)


def test_every_access_is_made_once_under_kicks(machine):
    """A device counts the guest's stores; kicks at any time neither repeat nor drop one."""
    isa = machine.isa
    if not machine.accelerator.features & 1:
        pytest.skip("without its insides Unicorn may repeat an access that a stop cut short")
    loop = {
        "aarch64": "b9000022 91000442 17fffffe",
        "arm": "e5812000 e2822001 eafffffc",
        "riscv64": "00c5a023 00160613 ff9ff06f",
        "x86_64": "89 0b 48 ff c1 eb f9",
    }[isa]
    seen: list[int] = []
    machine.device.ops(None, lambda offset, width, value: seen.append(value))
    machine.attach()
    machine.load(words(loop, isa))
    stop = threading.Event()

    def kick() -> None:
        while not stop.is_set():
            machine.vcpu.kick()

    kicker = threading.Thread(target=kick)
    kicker.start()
    for _ in range(40):
        machine.vcpu.run()
    stop.set()
    kicker.join()
    assert seen == list(range(len(seen)))


def test_a_hook_can_move_what_the_next_instruction_reads(machine):
    """The map changes while the guest is inside one block; I/O and new RAM are seen at once."""
    isa = machine.isa
    other = machine.memory.new_io("other", 0x1000)
    other.ops(None, lambda offset, width, value: told.append(("other", offset)))
    told: list[tuple[str, int]] = []

    def swap(offset: int, width: int, value: int) -> None:
        told.append(("device", offset))
        if other.mapped:
            return
        machine.memory.remove(machine.device)
        machine.memory.place(other, DEVICE)

    machine.device.ops(None, swap)
    machine.attach()
    twice = {
        "aarch64": "b9000020 b9000020 d503207f",
        "arm": "e5810000 e5810000 e320f003",
        "riscv64": "00a5a023 00a5a023 10500073",
        "x86_64": "89 03 89 03 f4",
    }[isa]
    machine.load(words(twice, isa))
    assert machine.vcpu.run().kind == ExitKind.HALT
    assert told == [("device", 0), ("other", 0)]


def test_ram_and_registers_may_share_a_page(machine):
    """Ranges of no whole page: RAM beside an 8-byte device, both in one page."""
    isa = machine.isa
    ram = machine.memory.add_ram("scrap", DEVICE + 0x100, 0x80)
    device = machine.memory.new_io("tiny", 8)
    (register,) = device.registers([Register(0, 4, write_mask=0xFFFF_FFFF)])
    machine.memory.place(device, DEVICE)
    # store the counter's register to the device, and 0x100 further
    both = {
        "aarch64": "52800aa2 b9000022 b9010022 b9410025 d503207f",
        "arm": "e3a02055 e5812000 e5812100 e5915100 e320f003",
        "riscv64": "05500613 00c5a023 10c5a023 1005a783 10500073",
        "x86_64": "b9 55 00 00 00 89 0b 89 8b 00 01 00 00 8b 93 00 01 00 00 f4",
    }[isa]
    loaded = {"aarch64": "x5", "arm": "r5", "riscv64": "a5", "x86_64": "rdx"}[isa]
    machine.load(words(both, isa))
    assert machine.vcpu.run().kind == ExitKind.HALT
    assert register.value == 0x55
    assert bytes(ram.buffer[0:4]) == b"\x55\0\0\0"
    assert machine.vcpu.get(loaded) == (0x55,)


def test_there_is_one_cpu():
    memory = AddressSpace()
    bare = Bare(Engine("tcg"), "riscv64")
    with pytest.raises(Unsupported, match="one vCPU"):
        bare.accelerator.vcpu(1)
    bare.close()
    memory.close()


@pytest.mark.parametrize("isa", ISAS)
def test_the_library_is_the_one_that_was_verified(isa):
    """Not on the public path for want of a symbol: that would be ten times slower, and would pass unseen."""
    bare = Bare(Engine("tcg"), isa)
    found = bare.accelerator.features
    bare.close()
    assert found & 7 == 7


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cpu": "pentium"}, "no CPU model"),
        ({"level": 4}, "exception level"),
        ({"path": "secret"}, "private or public"),
    ],
)
def test_a_wrong_option_is_one_line(options, text):
    with pytest.raises(AccelError, match=text) as caught:
        Bare(Engine("tcg"), "aarch64", **options)
    assert "\n" not in str(caught.value)


ENDLESS = """
import signal, sys
sys.path.insert(0, {root!r})
from tests.conftest import Engine
from tests.guest.bare import Bare, words
bare = Bare(Engine("tcg"), "aarch64")
bare.load(words("14000000", "aarch64"))
bare.device.ops(None, None)
print("ready", flush=True)
try:
    print(bare.vcpu.run())
except KeyboardInterrupt:
    bare.close()
    print("interrupted", flush=True)
"""


def test_control_c_gets_through_to_a_guest_in_the_main_thread():
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS.format(root=root)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.2)  # into the run
        child.send_signal(signal.SIGINT)
        try:
            output, _ = child.communicate(timeout=20)
        finally:
            child.kill()
    assert output == "interrupted\n"
    assert child.returncode == 0

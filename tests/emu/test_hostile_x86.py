"""No x86 guest crashes or hangs the host, whatever it does with ports, MSRs, tables and devices.

EMU_FUZZ_SECONDS in the environment sets how long each may do it, EMU_FUZZ_CASES how many accesses the board
takes from outside; a failure's text has the seed, and ends with the guest that did it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from accel.errors import DeviceError, GuestFault
from emu import Machine
from emu.virtio.rng import VirtioRng
from tests.conftest import ENGINES, usable
from tests.emu.terminal import Terminal
from tests.guest import x86_hostile

SECONDS = float(os.environ.get("EMU_FUZZ_SECONDS", "0.1"))


@pytest.fixture(params=[*ENGINES, "kvm,kernel-irqchip=off"])
def engine(request):
    usable(request.param.partition(",")[0])
    return request.param


def test_a_hostile_guest_ends_when_it_is_told_to(engine):
    seed = random.randrange(1 << 32)
    names = [name for name, _ in x86_hostile.guests(random.Random(seed))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.guest.x86_hostile", engine, str(seed), str(SECONDS)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=180 + 2 * SECONDS * len(names),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), (
        f"seed {seed}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
    )
    ends = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(ends) == names
    for name, end in ends.items():
        endless = "garbage" in name or "flood" in name or "asleep" in name or "without end" in name
        # Others may take longer than they have, on a host that is slow.
        others = () if endless else ("guest-reset", "CPU 0 stopped at pc ")
        assert end.startswith(("timeout", *others)), (name, end)


@pytest.mark.parametrize("name", ["a flood of a serial line", "garbage to every device"])
def test_an_interrupt_ends_a_hostile_guest(tmp_path, engine, name):
    rom = x86_hostile.rom(x86_hostile.code("b0 78 ba f8 03 00 00 ee\n" + x86_hostile.GUESTS[name], 1))
    (tmp_path / "rom").write_bytes(rom)
    terminal = Terminal("-M", "microvm", "--accel", engine, "--firmware", str(tmp_path / "rom"))
    try:
        terminal.wait_for(b"x", 60)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.ended(60) == -signal.SIGINT
    finally:
        terminal.close()


def places(machine: Machine) -> list[tuple[object, int, int]]:
    """Where the board has devices, with what lies around them, and everything."""
    found = [
        (bus.space, max(0, attachment.base - 8), attachment.device.size + 16)
        for bus in (machine.bus, machine.ports)
        for attachment in bus.attached.values()
    ]
    return [*found, (machine.memory, 0, 1 << 48), (machine.ports.space, 0, 1 << 16)]


def plug_or_pull(machine: Machine) -> None:
    """Fills the slots, and asks for what is in one; the guest may let go of any at any time."""
    with contextlib.suppress(DeviceError):  # no slot, or none is left
        machine.plug(VirtioRng())
        late = [entry.virtio for entry in machine.inventory.devices if entry.virtio is not None]
        machine.unplug(random.choice(late))


@pytest.mark.parametrize("board", ["microvm", "pc"])
def test_a_board_at_work_takes_accesses_of_any_width_anywhere(board, engine, tmp_path):
    """As other CPUs' would come, while a guest takes interrupts and does the same; devices come and go."""
    seed, cases = random.randrange(1 << 32), int(os.environ.get("EMU_FUZZ_CASES", "10000"))
    rng = random.Random(seed)
    firmware = x86_hostile.rom(x86_hostile.code("fb\n" + x86_hostile.DEVICES, seed))
    failed = []
    with (
        x86_hostile.virtio(tmp_path) as devices,
        Machine(board, accel=engine, firmware=firmware, virtio=devices, serial="null") as machine,
    ):

        def hammer() -> None:
            reachable = places(machine)
            try:
                for _ in range(cases):
                    space, base, size = rng.choice(reachable)
                    width = rng.choice((1, 2, 4, 8))
                    address = (base + rng.randrange(size)) % (space.size - 8)
                    if rng.random() < 0.4:
                        space.read(address, width)
                    else:
                        value = rng.choice(
                            (0, (1 << 8 * width) - 1, rng.getrandbits(8 * width), rng.getrandbits(8))
                        )
                        space.write(address, width, value)
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=hammer)
        thread.start()
        try:
            while thread.is_alive():
                # What ends the machine, or asks for a reset, is among the accesses.
                with contextlib.suppress(GuestFault):
                    machine.run(timeout=0.1)
                if machine.state == "shutdown":
                    machine.reset()
                if machine.plugs:
                    plug_or_pull(machine)
        finally:
            thread.join()
        assert not failed, f"seed {seed}: {failed}"

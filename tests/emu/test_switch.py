"""A running x86 machine moves between kvm and tcg: a guest that checks itself, and U-Boot."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from accel.errors import AccelError, Unsupported
from emu.device import Device, Irq, Reg
from emu.machine import Machine, Result
from tests.conftest import usable
from tests.emu.linux_guest import Screen, image, initrd
from tests.emu.test_uboot import firmware
from tests.guest.assemble import assemble, output_on_host

BASE, REFERENCE, COUNTS = 0x10_0000, 0x10_5000, 0x10_6000
NAMES = ("rounds", "pit", "apic", "backwards", "tsc", "wrong", "vector", "where", "pc", "wire")
WIRE, INPUT = 0xD000_0000, 11
# How fast the local APIC's timer counts: the board's own, and the kernel's.
APIC_HZ = {"board": 10_000_000, "kernel": 1_000_000_000}
PIT_HZ = 1_193_182
RATE = 100  # interrupts a second, of either timer
CONTROLLERS = {
    "kernel": "kvm,kernel-irqchip=on",
    "board": "kvm,kernel-irqchip=off",
}


class Wire(Device):
    """A line that the guest sets low."""

    output = Irq()

    LEVEL = Reg(0)

    def write_LEVEL(self, value: int) -> None:
        self.output.set(value)


def guest(controllers: str, **defines: str) -> bytes:
    """The image of tests/guest/pc/moves.S, with what its computation gives on the host's own CPU."""
    hz = APIC_HZ["board" if controllers == "board" else "kernel"]
    image = bytearray(
        assemble("pc/moves.S", BASE, APIC_PERIOD=str(hz // RATE), PIT_PERIOD=str(PIT_HZ // RATE), **defines)
    )
    reference = output_on_host("pc/moves.S", BASE, **defines)
    image[REFERENCE - BASE : REFERENCE - BASE + len(reference)] = reference
    return bytes(image)


def counts(machine: Machine) -> dict[str, int]:
    """What the guest has counted so far."""
    return dict(zip(NAMES, struct.unpack("<10Q", machine.memory.peek(COUNTS, 80)), strict=True))


def run_until_all_go_on(machine: Machine, before: dict[str, int]) -> dict[str, int]:
    """Runs until the guest has completed a round and taken both timers' interrupts since `before`."""

    def goes_on() -> bool:
        now = counts(machine)
        return bool(now["wrong"]) or all(now[name] > before[name] for name in ("rounds", "pit", "apic"))

    # Asked again at every event: the board's clock gives none while the kernel has the timers.
    for _ in range(2000):
        if goes_on() or machine.run(timeout=0.01).reason not in ("timeout", "until"):
            break
    now = counts(machine)
    assert goes_on(), (machine.accel_name, before, now)
    assert (now["wrong"], now["backwards"]) == (0, 0), (machine.accel_name, now)
    return now


@pytest.mark.parametrize("board", ["microvm", "pc"])
@pytest.mark.parametrize("controllers", CONTROLLERS)
def test_a_guest_computes_rightly_wherever_it_is_moved(controllers: str, board: str) -> None:
    usable("kvm")
    move_at_random(controllers, moves=20, seed=6, board=board)


def move_at_random(controllers: str, moves: int, seed: int, board: str = "microvm") -> None:
    draw = random.Random(seed)
    wire = Wire()
    with Machine(
        board,
        accel=CONTROLLERS[controllers],
        kernel=guest(controllers),
        devices=[(wire, WIRE, INPUT)],
    ) as machine:
        run_until_all_go_on(machine, dict.fromkeys(NAMES, 0))
        for move in range(moves):
            machine.run(timeout=draw.random() * 0.02)
            seen, raised = counts(machine), draw.random() < 0.5
            wire.output.set(raised)  # here it is taken to the CPU, there the CPU takes it
            machine.switch(("tcg", "kvm")[move % 2])
            assert machine.accel_name == ("tcg", "kvm")[move % 2]
            now = run_until_all_go_on(machine, seen)
            # Under KVM a level may interrupt once more while its end is on the way.
            assert (now["wire"] > seen["wire"], wire.output.level) == (raised, 0), machine.accel_name


def host_has(*flags: str) -> bool:
    return set(flags) <= set(Path("/proc/cpuinfo").read_text().split())


def test_wide_vectors_go_on_where_the_host_cpu_must_do_them() -> None:
    usable("kvm")
    if not host_has("avx"):
        pytest.skip("this host's CPU has no AVX")
    move_with_avx(moves=8, seed=8)


def move_with_avx(moves: int, seed: int) -> None:
    draw = random.Random(seed)
    defines = {"AVX": "1", **({"AVX2": "1"} if host_has("avx2", "fma", "bmi2") else {})}
    with Machine("microvm", accel="kvm", kernel=guest("board", STEPS="300", **defines)) as machine:
        run_until_all_go_on(machine, dict.fromkeys(NAMES, 0))
        for move in range(moves):
            machine.run(timeout=draw.random() * 0.02)
            machine.switch(("tcg", "kvm")[move % 2])
            run_until_all_go_on(machine, counts(machine))
        done = "\n".join(machine.done())
        assert " vsqrtpd" in done, done
        assert " vaddpd" in done, done


def test_a_guest_that_begins_under_tcg_has_no_avx_until_it_has_moved() -> None:
    usable("kvm")
    with Machine("microvm", accel="tcg", kernel=guest("board", AVX="1")) as machine:
        for _ in range(2):
            machine.run(timeout=60, until=lambda: bool(counts(machine)["wrong"]))
            assert counts(machine)["vector"] == 6  # its XSETBV
            machine.switch("kvm")
            machine.switch("tcg")
            machine.reset()


def test_it_moves_while_it_runs_in_another_thread() -> None:
    usable("kvm")
    with Machine("microvm", accel="kvm", kernel=guest("board")) as machine:
        runs = threading.Event()
        server = threading.Thread(target=machine.run, kwargs={"until": lambda: runs.set() or False})
        server.start()
        assert runs.wait(60)
        try:
            for name in ("tcg", "kvm", "kvm", "tcg"):
                machine.switch(name)
                assert (machine.accel_name, machine.state) == (name, "running")
        finally:
            machine.end(Result("host-ui"))
            server.join()
        machine.reset()
        assert run_until_all_go_on(machine, dict.fromkeys(NAMES, 0))["rounds"] < 1000  # it began anew


def test_pages_that_are_tracked_are_so_on_either_side() -> None:
    usable("kvm")
    with Machine("microvm", accel="kvm", kernel=guest("board")) as machine:
        run_until_all_go_on(machine, dict.fromkeys(NAMES, 0))
        ram = next(region for region in machine.memory.regions if region.name == "ram")
        machine.accel.track(ram)
        page = COUNTS // 4096
        for name in ("tcg", "kvm", "tcg"):
            machine.accel.dirty(ram)
            run_until_all_go_on(machine, counts(machine))
            machine.switch(name)
            written = machine.accel.dirty(ram)
            assert written[page // 8] >> page % 8 & 1, name
            assert sum(byte.bit_count() for byte in written) < 100


def test_a_paused_machine_stays_so_and_one_that_was_not_started_starts_there() -> None:
    usable("kvm")
    with Machine("microvm", accel="tcg", kernel=guest("board")) as machine:
        machine.switch("kvm")
        assert machine.state == "prelaunch"
        seen = run_until_all_go_on(machine, dict.fromkeys(NAMES, 0))
        machine.switch("tcg")
        assert machine.state == "paused"
        assert counts(machine) == seen


def test_what_cannot_move_says_why_and_stays() -> None:
    usable("kvm")
    with Machine("microvm", accel="kvm", cpus=2) as machine:
        with pytest.raises(AccelError, match="2 CPUs cannot move to tcg: tcg has one; use cpus=1"):
            machine.switch("tcg")
        assert machine.accel_name == "kvm"
    with Machine("microvm", accel="kvm") as machine, pytest.raises(AccelError, match="'xen'"):
        machine.switch("xen")
    with Machine("microvm", accel=CONTROLLERS["kernel"]) as machine:
        cpu = machine.cpus[0].vcpu
        cpu.load({"lapic": cpu.save()["lapic"] | {"lvt_timer": 0x4_00EF}})
        with pytest.raises(AccelError, match="kernel-irqchip=off"):
            machine.switch("tcg")
        assert machine.accel_name == "kvm"
    with Machine("microvm", accel="kvm,kernel-irqchip=split") as machine:
        with pytest.raises(AccelError, match="kernel-irqchip=on or off"):
            machine.switch("tcg")
        assert machine.accel_name == "kvm"
    with Machine("microvm", accel=CONTROLLERS["board"]) as machine:
        # KVM takes the bit where the host has it and the guest is in 64-bit mode: told here without it.
        state = machine.cpus[0].vcpu.save() | {"cr4": 1 << 17}
        with pytest.raises(AccelError, match="--cpu host,-pcid"):
            machine.board.may_hand_over(machine._seat("tcg").engine, state)
    with Machine("virt", accel="tcg") as machine, pytest.raises(Unsupported, match="kvm runs only guests"):
        machine.switch("kvm")


PROMPT = "\n=> "
# Each makes U-Boot compute or look something up; what must be in its answer.
COMMANDS = (
    ("version", "U-Boot 20"),
    ("mw 200000 cafebabe 4", ""),
    ("md 200000 4", "cafebabe cafebabe cafebabe cafebabe"),
    ("setenv x moved", ""),
    ("echo $x $x", "moved moved"),
    ("crc32 200000 10", "0df582b3"),  # zlib's, of the same 16 bytes
    ("bdinfo", "relocaddr"),
)


def answer(machine: Machine, screen: Screen, command: str, between: Callable[[], None]) -> str:
    """What U-Boot prints for a command, `between` being called between the keys."""
    screen.sent.clear()
    for key in command + "\r":
        screen.type(key.encode())
        between()
        shown = "\n" if key == "\r" else key
        wait(machine, lambda shown=shown: shown in screen.text)
    wait(machine, lambda: screen.text.endswith(PROMPT))
    return screen.text


def wait(machine: Machine, until: Callable[[], bool]) -> None:
    result = machine.run(timeout=60, until=until)
    assert result.reason == "until", result


@pytest.mark.parametrize("first", ["tcg", "kvm"])
def test_u_boot_goes_on_wherever_it_is_moved_between_keys(first: str) -> None:
    usable("kvm")
    move_u_boot(first, moves=10, seed=7)


def move_u_boot(first: str, moves: int, seed: int) -> None:
    draw = random.Random(seed)
    screen, done = Screen(), 0
    with Machine("microvm", accel=first, firmware=firmware("qemu-x86/u-boot.rom"), serial=screen) as machine:

        def move() -> None:
            nonlocal done
            if draw.random() < 0.2:
                machine.switch({"tcg": "kvm", "kvm": "tcg"}[machine.accel_name])
                done += 1

        wait(machine, lambda: "U-Boot 20" in screen.text)
        machine.switch("tcg")
        wait(machine, lambda: "autoboot" in screen.text)
        screen.type(b" ")
        wait(machine, lambda: screen.text.endswith(PROMPT))
        while done < moves:
            for command, expected in COMMANDS:
                assert expected in answer(machine, screen, command, move), screen.text


PLACES = ("Memory:", "Mount-cache", "clocksource: tsc-early", "NET: Registered PF_INET protocol")


def test_linux_that_boots_under_tcg_is_moved_to_kvm_and_back() -> None:
    """Its kernel alone: not every host's KVM executes SYSCALL as a CPU does (accel.kvm.probe)."""
    usable("kvm")
    screen = Screen()
    with Machine(
        "microvm",
        accel="tcg",
        ram=256 << 20,
        kernel=image("amd64"),
        initrd=initrd("echo $((6*7)) is right", (), "amd64"),
        append="console=ttyS0 earlyprintk=ttyS0",
        serial=screen,
    ) as machine:
        for place in PLACES:
            result = machine.run(timeout=120, until=lambda place=place: place in screen.text)
            assert result.reason == "until", screen.text[-2000:]
            machine.switch("kvm")
            assert machine.run(timeout=0.2).reason == "timeout", screen.text[-2000:]
            machine.switch("tcg")
        result = machine.run(timeout=300)
    assert result.reason == "guest-shutdown", screen.text[-2000:]
    assert "42 is right" in screen.text, screen.text[-2000:]
    assert not any(word in screen.text for word in ("BUG:", "WARNING", "nstable", "Oops")), screen.text

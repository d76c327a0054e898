"""microvm's interrupt controllers under kvm (in the kernel, split, outside) and under tcg: one guest."""

from __future__ import annotations

import pytest

from emu.boards.pc_interrupts import PcInterrupts
from emu.device import Device, Irq, Reg
from emu.devices.apic import LOCAL_BASE
from emu.devices.native import lib
from emu.machine import Machine
from emu.virtio.rng import VirtioRng
from tests.conftest import obstacle
from tests.guest.assemble import assemble

DEVICE, INPUT = 0xD000_0000, 15
KINDS = ("kvm,kernel-irqchip=on", "kvm,kernel-irqchip=split", "kvm,kernel-irqchip=off", "tcg")


class Wire(Device):
    """A register that is a line's level."""

    output = Irq()

    LEVEL = Reg(0)

    def write_LEVEL(self, value: int) -> None:
        self.output.set(value)


@pytest.fixture(params=KINDS)
def accel(request):
    reason = obstacle(request.param.split(",")[0])
    if reason:
        pytest.skip(reason)
    return request.param


class Messenger(Device):
    """A register whose writes are messages for vector 60h, as a PCI function sends them."""

    SEND = Reg(0)
    controllers: PcInterrupts

    def write_SEND(self, value: int) -> None:
        name, apic = self.controllers.apic.msi
        getattr(lib, name)(apic, 0, LOCAL_BASE, 0x4060)


def outcome(accel: str, case: str, cpus: int = 1) -> int:
    """What the guest of tests/guest/pc/interrupts.S says: 1 for right."""
    code = assemble("pc/interrupts.S", 0x10_0000, CASE=case)
    with Machine(
        "microvm",
        accel=accel,
        cpus=cpus,
        kernel=code,
        devices=[(Wire(), DEVICE, INPUT)],
        virtio=[VirtioRng()],
    ) as machine:
        result = machine.run(timeout=60)
        where = [cpu.vcpu.get("rip", "rbx") for cpu in machine.cpus]
        assert result.reason == "guest-shutdown", (result, where)
        return result.code >> 1


# "lines" waits without HLT: where KVM emulates kernel mode, a HLT just behind an end of interrupt keeps split
# local APICs from telling that end until the next interrupt.
@pytest.mark.parametrize("case", ["pit", "timer", "lines", "priority"])
def test_interrupts_come_as_the_controllers_manuals_say(accel, case):
    assert outcome(accel, case) == 1


@pytest.mark.parametrize("case", ["itself", "entropy"])
def test_interrupts_of_its_own_and_of_a_virtio_device_come_each_once(accel, case):
    assert outcome(accel, case) == 1


def test_messages_come_each_once(accel):
    code, device = assemble("pc/interrupts.S", 0x10_0000, CASE="message"), Messenger()
    with Machine("pc", accel=accel, kernel=code, devices=[(device, DEVICE)]) as machine:
        device.controllers = machine.board.controllers
        result = machine.run(timeout=60)
    assert (result.reason, result.code >> 1) == ("guest-shutdown", 1)


def test_cr8_is_the_task_priority(accel):
    if accel == "tcg":
        pytest.skip("Unicorn keeps CR8 to itself")
    assert outcome(accel, "cr8") == 1


def test_the_apic_s_base_register_switches_it_off(accel):
    if not accel.endswith("off"):
        pytest.skip(
            "KVM's own local APIC, switched off, answers as its version likes; tcg has no base register"
        )
    assert outcome(accel, "base") == 1


def test_a_second_processor_starts_and_interrupts_go_to_and_fro(accel):
    if accel == "tcg":
        pytest.skip("tcg has one vCPU")
    assert outcome(accel, "processors", cpus=2) == 1


def test_after_a_reset_the_second_processor_waits_for_its_start_again(accel):
    if accel == "tcg":
        pytest.skip("tcg has one vCPU")
    code = assemble("pc/interrupts.S", 0x10_0000, CASE="processors")
    with Machine("microvm", accel=accel, cpus=2, kernel=code) as machine:
        for _ in range(3):
            assert machine.run(timeout=60).code >> 1 == 1
            assert machine.memory.read(0x5000, 4) == 1  # it began once
            machine.reset()
            machine.memory.write(0x5000, 4, 0)


def test_init_starts_the_first_processor_anew(accel):
    if accel == "tcg":
        pytest.skip("Unicorn knows no INIT")
    assert outcome(accel, "init", cpus=2) == 1


def test_processors_that_interrupt_each_other_can_be_paused_at_any_moment(accel):
    if accel == "tcg":
        pytest.skip("tcg has one vCPU")
    code = assemble("pc/interrupts.S", 0x10_0000, CASE="processors")
    with Machine("microvm", accel=accel, cpus=2, kernel=code) as machine:
        result = machine.run(timeout=0.01)
        while machine.state != "shutdown":
            states = [cpu.vcpu.save() for cpu in machine.cpus]
            for cpu, state in zip(machine.cpus, states, strict=True):
                cpu.vcpu.load(state)  # as it is: nothing is lost by it
            result = machine.run(timeout=0.01)
        assert result.code >> 1 == 1

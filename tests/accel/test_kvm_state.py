"""State under KVM, the vCPU's and the interrupt controllers': by name, saved, taken up elsewhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accel.api import ExitKind, open_accelerator
from accel.errors import AccelError, Unavailable
from accel.kvm.device import open_device
from accel.kvm.vcpu import KvmVcpu
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace
from isa.arch import find

CODE = 0x7000
UBOOT = Path("/usr/lib/u-boot/qemu-x86/u-boot.rom")


def why_not() -> str:
    try:
        os.close(open_device())
    except Unavailable as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "kvm is here")


class Machine:
    def __init__(self, ram: int = 1 << 20) -> None:
        self.memory = AddressSpace()
        self.ports = AddressSpace("ports", 1 << 16)
        self.ram = self.memory.add_ram("ram", 0, ram)

    def start(self, *, irqchip: bool = False) -> KvmVcpu:
        self.kvm = KvmAccelerator(find("x86_64"), self.memory, self.ports)
        self.chip = self.kvm.irqchip("pc") if irqchip else None
        return self.kvm.vcpu(0)

    def close(self) -> None:
        self.kvm.close()
        self.memory.close()
        self.ports.close()


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    made: list[Machine] = []
    yield made
    for machine in made:
        machine.close()


def start(machines: list[Machine], *, irqchip: bool = False) -> KvmVcpu:
    machines.append(Machine())
    return machines[-1].start(irqchip=irqchip)


def test_a_vcpu_begins_at_the_reset_vector(machines: list[Machine]) -> None:
    """Intel SDM vol. 3, table 9-1."""
    vcpu = start(machines)
    assert vcpu.get("rip", "cs", "cs_base", "cs_limit", "eflags", "cr0") == (
        0xFFF0,
        0xF000,
        0xFFFF_0000,
        0xFFFF,
        2,
        0x6000_0010,
    )
    assert vcpu.get("cs_attr")[0] & 0x9F in (0x9B, 0x93)
    assert vcpu.get("ds_base", "ds_limit", "gdtr_limit", "idtr_limit") == (0, 0xFFFF, 0xFFFF, 0xFFFF)
    assert vcpu.get("cr4", "efer", "dr7", "xcr0", "mxcsr", "fctrl") == (0, 0, 0x400, 1, 0x1F80, 0x37F)


def test_every_register_that_isa_names_can_be_read(machines: list[Machine]) -> None:
    vcpu = start(machines)
    arch = find("x86_64")
    for register in (*arch.registers, *arch.system_registers):
        if register.name == "orig_rax":
            continue
        assert 0 <= vcpu.get(register.name)[0] < 1 << register.width, register.name


def test_registers_read_back_what_was_set(machines: list[Machine]) -> None:
    vcpu = start(machines)
    values = {
        **{name: 0x1111_2222_3333_0000 + n for n, name in enumerate(("rax", "rsp", "r8", "r15", "rip"))},
        **{f"xmm{n}": (n << 120) + n + 1 for n in range(16)},
        **{f"st{n}": 0x4000_8000_0000_0000_0000 + n for n in range(8)},
        **{"mxcsr": 0x1FA0, "fctrl": 0x27F, "dr0": 0x1234, "dr7": 0x401, "fs_base": 0x7FFF_1234_5000},
        **{"star": 0x23_0010 << 32, "lstar": 0xFFFF_8000_0000_1000, "kernel_gs_base": 0x1234_5000},
        **{"cr2": 0xDEAD_B000, "cr3": 0x5000, "gdtr_base": 0x6000, "gdtr_limit": 0x37, "tr_limit": 0x67},
    }
    vcpu.set(**values)
    for name, value in values.items():
        assert vcpu.get(name) == (value,), name


def test_an_unknown_register_is_a_key_error_and_sets_nothing(machines: list[Machine]) -> None:
    vcpu = start(machines)
    with pytest.raises(KeyError):
        vcpu.get("x0")
    with pytest.raises(KeyError):
        vcpu.set(rax=5, elr_el1=1)
    assert vcpu.get("rax") == (0,)


def test_a_control_register_that_kvm_refuses_is_an_error_in_one_line(machines: list[Machine]) -> None:
    vcpu = start(machines)
    with pytest.raises(AccelError, match="control registers"):
        vcpu.set(cr4=1 << 63)


def test_sse_values_go_in_and_come_out_of_a_guest(machines: list[Machine]) -> None:
    vcpu = start(machines)
    # movups [0x7100],xmm0; movups xmm1,[0x7110]; hlt; CR4.OSFXSR on, CR0.EM off
    machines[0].memory.load(CODE, bytes.fromhex("0f11060071 0f100e1071 f4"))
    machines[0].memory.load(0x7110, bytes(range(16)))
    vcpu.set(cs=0, cs_base=0, rip=CODE, cr4=0x200, xmm0=0x0F0E_0D0C_0B0A_0908_0706_0504_0302_0100)
    exit = vcpu.run()
    if exit.kind == ExitKind.FAULT:
        pytest.skip(f"this host's KVM emulates kernel mode and not this: {exit.data.hex()}")
    assert machines[0].memory.peek(0x7100, 16) == bytes(range(16))
    assert vcpu.get("xmm1") == (int.from_bytes(bytes(range(16)), "little"),)


@pytest.mark.parametrize("irqchip", [False, True])
def test_a_saved_state_is_plain_and_the_same_after_loading_it_elsewhere(
    machines: list[Machine], irqchip: bool
) -> None:
    first = start(machines, irqchip=irqchip)
    first.set(
        cs=0,
        cs_base=0,
        rip=CODE,
        rbx=77,
        xmm7=7 << 100,
        st3=0x3FFF_8000_0000_0000_0000,
        dr1=0x55,
        lstar=0x1000,
    )
    state = json.loads(json.dumps(first.save()))
    second = start(machines, irqchip=irqchip)
    second.load(state)
    assert second.passed_over == ()
    again = second.save()
    # Counters run on.
    moving = {"tsc", "msr_10", "msr_3b", "msr_6e0", "msr_e7", "msr_e8", "msr_c00000e7", "msr_c00000e8"}
    moving |= {name for name in state if name.startswith("msr_4b564d") or name.startswith("msr_4000")}
    assert {k: v for k, v in again.items() if k not in moving} == {
        k: v for k, v in state.items() if k not in moving
    }


def test_a_guest_goes_on_in_another_vm_where_it_was_saved(machines: list[Machine]) -> None:
    """Saved in the middle of a counting loop, with its memory, it counts on to the same end."""
    first = start(machines)
    values: list[int] = []
    # mov dx,0x500; mov cx,0; again: mov ax,cx; out dx,ax; inc cx; cmp cx,100; jb again; hlt
    code = bytes.fromhex("ba0005 b90000 89c8 ef 41 83f964 72f7 f4")
    machines[0].memory.load(CODE, code)
    machines[0].ports.add_io("count", 0x500, 2).ops(None, lambda offset, width, value: values.append(value))
    first.set(cs=0, cs_base=0, rip=CODE)
    assert first.run(budget=40).kind == ExitKind.BUDGET
    state = json.loads(json.dumps(first.save()))
    second = start(machines)
    machines[1].ram.buffer[:] = machines[0].ram.buffer
    machines[1].ports.add_io("count", 0x500, 2).ops(None, lambda offset, width, value: values.append(value))
    second.load(state)
    assert second.run().kind == ExitKind.HALT
    assert values == list(range(100))


@pytest.mark.parametrize(("first", "second"), [("tcg", "kvm"), ("kvm", "tcg")])
def test_a_count_begun_under_one_accelerator_ends_under_the_other(first: str, second: str) -> None:
    """The loop of the test above, half under each."""
    values: list[int] = []
    code = bytes.fromhex("ba0005 b90000 89c8 ef 41 83f964 72f7 f4")
    state: dict[str, Any] = {}
    ram = b""
    for name in (first, second):
        with AddressSpace() as memory, AddressSpace("ports", 1 << 16) as ports:
            region = memory.add_ram("ram", 0, 1 << 20)
            ports.add_io("count", 0x500, 2).ops(None, lambda offset, width, value: values.append(value))
            accelerator = open_accelerator(name, find("x86_64"), memory, ports)
            vcpu = accelerator.vcpu(0)
            if name == first:
                memory.load(CODE, code)
                vcpu.set(cs=0, cs_base=0, rip=CODE, xmm5=5 << 90)
                # kvm counts exits, tcg instructions
                assert vcpu.run(budget=40 if name == "kvm" else 200).kind == ExitKind.BUDGET
                state, ram = json.loads(json.dumps(vcpu.save())), bytes(region.buffer)
                assert 10 < len(values) < 90
            else:
                region.buffer[:] = ram
                vcpu.load(state)
                assert vcpu.run().kind == ExitKind.HALT
                assert vcpu.get("xmm5") == (5 << 90,)
            accelerator.close()
    assert values == list(range(100))


def test_a_state_saved_while_a_hook_raised_has_the_access_done(machines: list[Machine]) -> None:
    def refuse(*_: int) -> int:
        raise LookupError

    first = start(machines)
    machines[0].memory.add_io("device", 0xD000_0000, 16).ops(refuse, None)
    # mov eax,[0xd0000000]; hlt
    machines[0].memory.load(CODE, bytes.fromhex("6667a1000000d0 f4"))
    first.set(cs=0, cs_base=0, rip=CODE, rax=9, ds_limit=0xFFFF_FFFF, ds_attr=0xC093)
    with pytest.raises(LookupError):
        first.run()
    state = first.save()
    assert (state["rip"], state["rax"]) == (CODE + 7, 0)


def test_a_halted_cpu_is_halted_after_loading_and_wakes(machines: list[Machine]) -> None:
    first = start(machines)
    machines[0].memory.load(CODE, bytes.fromhex("fb f4 f4"))  # sti; hlt; hlt
    first.set(cs=0, cs_base=0, rip=CODE, rsp=0x6000)
    assert first.run().kind == ExitKind.HALT
    state = first.save()
    assert state["halted"] is True
    second = start(machines)
    machines[1].ram.buffer[:] = machines[0].ram.buffer
    machines[1].memory.load(0x7100, bytes.fromhex("cf"))  # iret
    machines[1].memory.load(4 * 0x20, bytes.fromhex("00710000"))
    second.load(state)
    assert second.run().pc == CODE + 2
    second.interrupt(0, 0x21)
    assert second.run().pc == CODE + 3


def test_the_kernels_interrupt_controllers_and_timer_come_back_as_they_were(machines: list[Machine]) -> None:
    start(machines, irqchip=True)
    first = machines[0].chip
    assert first is not None
    state = json.loads(json.dumps(first.save()))
    state["pic0"]["imr"] = 0xFB
    state["pic1"]["irq_base"] = 0x28
    state["ioapic"]["redirections"][4] = 0x0001_0000_0000_0031 | 1 << 16
    state["pit"]["channels"][0].update(count=1000, mode=2, rw_mode=3, gate=1)
    start(machines, irqchip=True)
    second = machines[1].chip
    assert second is not None
    second.load(state)
    again = second.save()
    assert again["clock"] >= state["clock"]
    again["clock"] = state["clock"]
    for saved in (state, again):
        for channel in saved["pit"]["channels"]:
            assert channel.pop("elapsed") >= 0  # since its count began, which loading it does anew
    assert again == state


def test_an_irq_line_of_the_kernels_chip_interrupts_the_guest(machines: list[Machine]) -> None:
    vcpu = start(machines, irqchip=True)
    machine = machines[0]
    assert machine.chip is not None
    printed: list[int] = []
    machine.ports.add_io("debug", 0x402, 1).ops(None, lambda offset, width, value: printed.append(value))
    # the PIC as PCs set it up: ICW1-4 to both, vectors from 0x20, all masked but line 4
    code = "b011 e620 e6a0 b020 e621 b028 e6a1 b004 e621 b002 e6a1 b001 e621 e6a1 b0ef e621 b0ff e6a1 "
    # mov dx,0x402; mov al,1; out dx,al; sti; hlt; mov al,2; out dx,al
    machine.memory.load(CODE, bytes.fromhex(code + "ba0204 b001 ee fb f4 b002 ee"))
    # vector 0x24: mov dx,0x402; mov al,'!'; out dx,al; mov al,0x20; out 0x20,al; iret
    machine.memory.load(0x7200, bytes.fromhex("ba0204 b021 ee b020 e620 cf"))
    machine.memory.load(4 * 0x24, bytes.fromhex("00720000"))
    vcpu.set(cs=0, cs_base=0, rip=CODE, rsp=0x6000)
    assert vcpu.run(budget=1).kind == ExitKind.BUDGET
    machine.chip.line(4).pulse()
    assert vcpu.run(budget=2).kind == ExitKind.BUDGET
    assert printed == [1, 0x21, 2]


def test_lines_beyond_the_chip_and_late_chips_are_refused(machines: list[Machine]) -> None:
    start(machines, irqchip=True)
    chip = machines[0].chip
    assert chip is not None
    assert chip.line(4) is chip.line(4)
    with pytest.raises(AccelError, match="no line 24"):
        chip.line(24)
    start(machines)
    with pytest.raises(AccelError, match="before the first vCPU"):
        machines[1].kvm.irqchip("pc")
    assert machines[1].kvm.irqchip("gicv2") is None


class UBoot(Machine):
    """U-Boot for QEMU's PC: RAM, ROM below 4 GiB, CMOS with the memory's size, an idle UART."""

    SIZE = 128 << 20

    def __init__(self) -> None:
        super().__init__(self.SIZE)
        rom = UBOOT.read_bytes()
        self.memory.add_ram("rom", (1 << 32) - len(rom), len(rom), readonly=True).buffer[:] = rom
        self.console = bytearray()
        self.typed = bytearray()
        self.cmos_index = 0
        self.divisor = 0
        self.ports.add_io("uart", 0x3F8, 8).ops(self.read_uart, self.write_uart)
        self.ports.add_io("cmos", 0x70, 2).ops(self.read_cmos, self.write_cmos)

    def read_uart(self, offset: int, width: int) -> int:
        if offset == 0 and self.typed:
            return self.typed.pop(0)
        return 0x60 | bool(self.typed) if offset == 5 else 0

    def write_uart(self, offset: int, width: int, value: int) -> None:
        if offset == 3:
            self.divisor = value & 0x80
        elif offset == 0 and not self.divisor:
            self.console.append(value)

    def read_cmos(self, offset: int, width: int) -> int:
        units = (self.SIZE - (16 << 20)) >> 16
        return {0x34: units & 0xFF, 0x35: units >> 8}.get(self.cmos_index, 0) if offset else 0xFF

    def write_cmos(self, offset: int, width: int, value: int) -> None:
        if offset == 0:
            self.cmos_index = value & 0x7F

    def run_until(self, vcpu: KvmVcpu, text: bytes, exits: int) -> None:
        while text not in self.console and exits > 0:
            exit = vcpu.run(budget=50)
            assert exit.kind == ExitKind.BUDGET, exit
            exits -= 50
        assert text in self.console, bytes(self.console[-400:])


@pytest.mark.skipif(not UBOOT.exists(), reason=f"{UBOOT} is missing; install Debian's u-boot-qemu")
def test_u_boot_saved_while_it_boots_reaches_its_prompt_in_another_vm(machines: list[Machine]) -> None:
    first = UBoot()
    machines.append(first)
    vcpu = first.start(irqchip=True)
    first.run_until(vcpu, b"Core:", 20_000)
    assert b"DRAM:  128 MiB" in first.console
    assert first.chip is not None
    state = json.loads(json.dumps([vcpu.save(), first.chip.save()]))

    second = UBoot()
    machines.append(second)
    vcpu = second.start(irqchip=True)
    second.ram.buffer[:] = first.ram.buffer
    second.divisor = first.divisor
    second.cmos_index = first.cmos_index
    assert second.chip is not None
    second.chip.load(state[1])
    vcpu.load(state[0])
    second.run_until(vcpu, b"Hit any key", 40_000)
    second.typed += b" "
    second.run_until(vcpu, b"=> ", 40_000)
    second.typed += b"version\r"
    second.run_until(vcpu, b"U-Boot 20", 20_000)


def test_a_guest_of_4_gib_costs_what_it_touches(machines: list[Machine]) -> None:
    """Resident memory grows by a few pages' worth, not by the guest's RAM."""

    def resident() -> int:
        fields = Path("/proc/self/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    machine = Machine(3 << 30)
    machines.append(machine)
    machine.memory.add_ram("high", 1 << 32, 1 << 30)
    vcpu = machine.start(irqchip=True)
    machine.memory.load(CODE, bytes.fromhex("ba0204 b021 ee"))
    vcpu.set(cs=0, cs_base=0, rip=CODE)
    assert vcpu.run(budget=1).kind == ExitKind.BUDGET
    assert resident() - before < 16 << 20, sys.platform

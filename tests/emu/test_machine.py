"""Machine: states, what ends a run, and bare-metal guests under every accelerator."""

import gc
import os
import signal
import struct
import threading
import time

import pytest

from accel.errors import AccelError, BadImage, DeviceError, EmuError, GuestFault, MapError
from emu import Board, Device, Irq, Machine, Part, Reg
from emu.backends.chardev import MemoryChardev
from emu.devices.test_exit import SifiveTest
from emu.devices.uart16550 import Uart16550
from tests.conftest import usable

EXIT = 0x0B00_1000

ASLEEP = struct.pack("<II", 0x10500073, 0xFFDFF06F)  # wfi; j .-4
SPINNING = struct.pack("<I", 0x0000006F)  # j .
# lui t0, 0xb001; lui t1, 5; addi t1, t1, 0x555; sw t1, 0(t0); j .
FINISHING = struct.pack("<5I", 0x0B0012B7, 0x00005337, 0x55530313, 0x0062A023, 0x0000006F)


def riscv(kernel, **options):
    return Machine("virt", arch="riscv64", accel="tcg", kernel=kernel, **options)


def finishing():
    return riscv(FINISHING, devices=[(SifiveTest(), EXIT)])


def test_the_states_are_qmps():
    with finishing() as machine:
        assert machine.state == "prelaunch"
        result = machine.run(timeout=20)
        assert (result.reason, result.code, machine.state) == ("guest-shutdown", 0, "shutdown")
        machine.reset()
        assert machine.state == "prelaunch"
        assert machine.run(timeout=20).reason == "guest-shutdown"


def test_a_machine_that_was_shut_down_must_be_reset_first():
    with finishing() as machine:
        machine.run(timeout=20)
        with pytest.raises(DeviceError, match="this one is shutdown"):
            machine.run()


def test_a_timeout_pauses_and_the_next_run_goes_on():
    with riscv(SPINNING) as machine:
        result = machine.run(timeout=0.1)
        assert (result.reason, machine.state) == ("timeout", "paused")
        now = machine.clock.now()
        time.sleep(0.02)
        assert machine.clock.now() == now
        assert machine.run(timeout=0.1).reason == "timeout"
        assert machine.clock.now() > now


def test_run_ends_when_until_is_true():
    with riscv(SPINNING) as machine:
        happened = []
        threading.Timer(0.1, lambda: machine.loop.call(lambda: happened.append(1))).start()
        result = machine.run(timeout=20, until=lambda: bool(happened))
        assert (result.reason, machine.state) == ("until", "paused")


def test_start_pause_and_resume_without_run():
    with riscv(SPINNING) as machine:
        machine.start()
        assert machine.state == "running"
        machine.pause()
        assert machine.state == "paused"
        machine.resume()
        machine.stop()
        assert machine.state == "shutdown"


def test_a_waiting_guest_is_not_entered_again_and_again():
    with riscv(ASLEEP) as machine:
        vcpu = machine.cpus[0].vcpu
        entries = []
        run = vcpu.run
        vcpu.run = lambda: entries.append(1) or run()
        machine.run(timeout=0.5)
        assert 1 <= len(entries) < 5


@pytest.mark.parametrize("accel", ["kvm", "tcg"])
def test_a_guest_can_be_paused_and_resumed_at_any_time(accel):
    usable(accel)
    # inc qword [0x5000]; jmp .-10
    counting = b"\x48\xff\x04\x25\x00\x50\x00\x00\xeb\xf6"
    with Machine("microvm", accel=accel, kernel=counting) as machine:
        seen = 0
        for _ in range(100):
            machine.start()
            machine.pause()
            now = machine.memory.read(0x5000, 8)
            assert now >= seen
            assert machine.memory.read(0x5000, 8) == now
            seen = now
        machine.run(timeout=0.5)
        assert machine.memory.read(0x5000, 8) > seen


def test_cpus_that_nobody_starts_wait_under_kvm():
    usable("kvm")
    code = b"\xb0\x00\xe6\xf4\xf4\xeb\xfd"  # mov al, 0; out 0xf4, al; hlt; jmp .-1
    with Machine("microvm", accel="kvm", cpus=3, kernel=code) as machine:
        result = machine.run(timeout=20)
    assert (result.reason, result.code) == ("guest-shutdown", 1)


def test_tcg_says_how_many_cpus_it_has():
    with pytest.raises(AccelError, match="2 CPUs: tcg has at most 1"):
        Machine("microvm", accel="tcg", cpus=2)


def test_ram_is_reserved_and_not_touched():
    with riscv(ASLEEP, ram=16 << 30) as machine:
        machine.run(timeout=0.1)
        with open("/proc/self/statm") as statm:
            resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        assert resident < 1 << 30


class Touchy(Device):
    size = 4
    GO = Reg(0)

    def __init__(self, act):
        super().__init__()
        self.act = act

    def write_GO(self, value):
        self.act()


def test_an_exception_in_a_hook_is_raised_from_run():
    def act():
        raise ZeroDivisionError("from the hook")

    with riscv(FINISHING, devices=[(Touchy(act), EXIT)]) as machine:
        with pytest.raises(ZeroDivisionError, match="from the hook"):
            machine.run(timeout=20)
        assert machine.state == "shutdown"


def test_an_exception_in_a_timer_is_raised_from_run():
    class Late(Device):
        size = 4

        def realize(self, context):
            self.alarm = self.timer(self.ring)

        def reset(self):
            self.alarm.arm(self.context.clock.now() + 1_000_000)

        def ring(self):
            raise ZeroDivisionError("from the timer")

    with (
        riscv(SPINNING, devices=[(Late(), EXIT)]) as machine,
        pytest.raises(ZeroDivisionError, match="timer"),
    ):
        machine.run(timeout=20)


def test_what_no_engine_can_continue_from_is_one_line():
    # lui t0, 0x40000; lw t1, 0(t0): nothing is there
    with riscv(struct.pack("<II", 0x400002B7, 0x0002A303)) as machine:
        with pytest.raises(GuestFault, match=r"CPU 0 stopped at pc 0x80000004.*0x40000000") as caught:
            machine.run(timeout=20)
        assert "\n" not in str(caught.value)
        assert machine.state == "shutdown"


def test_a_hook_that_waits_for_its_own_cpu_is_told_so():
    made = []
    machine = riscv(FINISHING, devices=[(Touchy(lambda: made[0].pause()), EXIT)])
    made.append(machine)
    with machine, pytest.raises(DeviceError, match="cannot wait for its own CPU"):
        machine.run(timeout=20)


def test_keyboard_interrupt_pauses_the_machine_and_is_raised():
    with riscv(SPINNING) as machine:
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            machine.run(timeout=20)
        assert machine.state == "paused"
        assert machine.run(timeout=0.1).reason == "timeout"


def test_closing_twice_or_early_does_no_harm():
    machine = riscv(SPINNING)
    machine.close()
    machine.close()
    with pytest.raises(DeviceError, match="closed"):
        machine.start()


def test_nothing_stays_behind_after_close():
    def descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    with finishing() as machine:
        machine.run(timeout=20)
    before, threads = descriptors(), threading.active_count()
    for _ in range(3):
        with finishing() as machine:
            machine.run(timeout=20)
    assert (descriptors(), threading.active_count()) == (before, threads)


def test_serial_output_and_input_pass_through_a_guest():
    # Echoes until it reads a Q: lui a0, 0x10000; lbu a1, 5(a0); andi a1, a1, 1; beqz a1, .-8; lbu a2, 0(a0);
    # sb a2, 0(a0); li a3, 'Q'; bne a2, a3, .-24; then FINISHING.
    echo = struct.pack(
        "<8I",
        *(0x10000537, 0x00554583, 0x0015F593, 0xFE058CE3, 0x00054603, 0x00C50023, 0x05100693, 0xFED614E3),
    )
    serial = MemoryChardev()
    with riscv(echo + FINISHING, devices=[(SifiveTest(), EXIT)], serial=serial) as machine:
        text = "The quick brown fox" * 20 + "Q"
        serial.type(text)
        assert machine.run(timeout=30).reason == "guest-shutdown"
        assert serial.text == text


class Little(Board):
    arch = "riscv64"
    ram_base = 0x8000_0000
    default_ram = 1 << 20
    parts = (Part("serial0", Uart16550, 0x1000_0000, serial=0), Part("exit", SifiveTest, EXIT))

    def load(self, machine):
        machine.memory.load(self.ram_base, FINISHING)

    def start_cpu(self, machine, index, vcpu):
        vcpu.set(pc=self.ram_base)


def test_a_board_is_a_table_of_parts():
    with Machine(Little(), accel="tcg") as machine:
        assert machine.run(timeout=20).reason == "guest-shutdown"
        assert [device.name for device in machine.devices()] == ["serial0", "exit"]


def test_a_board_that_lies_over_itself_names_both_parts():
    class Wrong(Little):
        parts = (*Little.parts, Part("other", Uart16550, 0x1000_0004))

    with pytest.raises(MapError, match="other at 0x10000004-0x1000000b overlaps serial0 at 0x10000000"):
        Machine(Wrong(), accel="tcg")


def elf(machine=243, entry=0x8000_0000, paddr=0x8000_0000, data=FINISHING):
    header = struct.pack(
        "<4sBBB9xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 2, machine, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0x1000, entry, paddr, len(data), len(data) + 64, 0x1000)
    return (header + segment).ljust(0x1000, b"\0") + data


def test_an_elf_kernel_goes_to_its_physical_address():
    kernel = elf(entry=0xFFFF_FFC0_0010_0000, paddr=0x8010_0000)
    with riscv(kernel, devices=[(SifiveTest(), EXIT)]) as machine:
        assert machine.run(timeout=20).reason == "guest-shutdown"
        assert machine.memory.peek(0x8010_0000, len(FINISHING)) == FINISHING


def test_attached_devices_are_in_the_device_tree():
    from emu.loader.fdt import flatten
    from tests.emu.test_fdt import unflatten

    class Lamp(Device):
        compatible = "emu,lamp"
        size = 0x100
        irq = Irq()

    with riscv(SPINNING, devices=[(Lamp(), 0x0B00_0000, 40)]) as machine:
        soc = unflatten(flatten(machine.board.fdt(machine)))["soc"]
    assert soc["lamp0@b000000"] == {
        "compatible": b"emu,lamp\0",
        "reg": struct.pack(">4I", 0, 0x0B00_0000, 0, 0x100),
        "interrupts": struct.pack(">I", 40),
    }


WRONG = {
    "2 serial lines were given, and this board has 1": {"serial": ["null", "null"]},
    "no board is called 'nothing'": {"board": "nothing"},
    "board virt is not made for x86_64": {"arch": "x86_64"},
    "unknown architecture 'z80'": {"arch": "z80"},
    "0 CPUs": {"cpus": 0},
    "99 CPUs": {"cpus": 99},
    "1000 bytes of RAM": {"ram": 1000},
    "no accelerator is called 'fast'": {"accel": "fast"},
    "firmware /nonexistent does not exist": {"firmware": "/nonexistent"},
    "kernel / is a directory": {"kernel": "/"},
    "kernel /dev/null is no regular file": {"kernel": "/dev/null"},
    "firmware has 0x4000001 bytes": {"firmware": bytes((64 << 20) + 1)},
    "no serial line is called 'modem'": {"serial": "modem"},
    "is for x86_64, and this board is aarch64; use --arch x86_64": {"kernel": elf(machine=62)},
    "does not fit: no memory at": {"kernel": elf(machine=183, paddr=0x9000_0000_0000)},
}


@pytest.mark.parametrize("cause", WRONG)
def test_what_cannot_be_had_as_asked_is_one_line(cause):
    with (
        pytest.raises(EmuError) as caught,
        Machine(**({"board": "virt", "accel": "tcg"} | WRONG[cause])) as machine,
    ):
        machine.run(timeout=1)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_kernel_is_refused(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(BadImage, match="is empty"), riscv(str(tmp_path / "empty")) as machine:
        machine.run(timeout=1)


@pytest.mark.parametrize("accel", ["kvm", "tcg"])
def test_x86_starts_its_kernel_in_64_bit_mode_with_memory_below_4_gib(accel):
    usable(accel)
    # mov eax, 0xf0001000 is not RAM; 64-bit arithmetic; push and pop; out 0xf4
    code = b"".join(
        (
            b"\x48\xb8\x00\x00\x00\x00\x01\x00\x00\x00",  # mov rax, 1 << 32
            b"\x50\x5b",  # push rax; pop rbx
            b"\x48\xc1\xeb\x1f",  # shr rbx, 31
            b"\x88\xd8",  # mov al, bl
            b"\xe6\xf4",  # out 0xf4, al
            b"\xf4\xeb\xfd",  # hlt; jmp .-1
        )
    )
    with Machine("microvm", accel=accel, kernel=code) as machine:
        result = machine.run(timeout=20)
    assert (result.reason, result.code) == ("guest-shutdown", 2 * 2 + 1)


def test_aarch64_sleeps_until_its_generic_timer_interrupts_through_the_gic():
    words = (
        0xD2A16001,  # mov  x1, #0x0b000000
        0xD2A10005,  # mov  x5, #0x08000000     distributor
        0x914040A6,  # add  x6, x5, #0x10000    CPU interface
        0x52800022,  # mov  w2, #1
        0xB90000A2,  # str  w2, [x5]            GICD_CTLR
        0x52A10003,  # mov  w3, #1 << 27
        0xB90100A3,  # str  w3, [x5, #0x100]    GICD_ISENABLER0
        0x52801FE3,  # mov  w3, #0xff
        0xB90004C3,  # str  w3, [x6, #4]        GICC_PMR
        0xB90000C2,  # str  w2, [x6]            GICC_CTLR
        0xD53BE004,  # mrs  x4, cntfrq_el0
        0xD2807D03,  # mov  x3, #1000
        0x9AC30884,  # udiv x4, x4, x3
        0xD51BE304,  # msr  cntv_tval_el0, x4   1 ms
        0xD51BE322,  # msr  cntv_ctl_el0, x2
        0xD503207F,  # wfi
        0xB9400CC3,  # ldr  w3, [x6, #0xc]      GICC_IAR
        0x71006C7F,  # cmp  w3, #27
        0x54FFFFA1,  # b.ne wfi
        0xD51BE33F,  # msr  cntv_ctl_el0, xzr
        0xB90010C3,  # str  w3, [x6, #0x10]     GICC_EOIR
        0x52866662,  # mov  w2, #0x3333
        0x2A034042,  # orr  w2, w2, w3, lsl #16
        0x91400424,  # add  x4, x1, #0x1000
        0xB9000082,  # str  w2, [x4]            exit
        0x14000000,  # b    .
    )
    kernel = struct.pack(f"<{len(words)}I", *words)
    with Machine("virt", accel="tcg", kernel=kernel, devices=[(SifiveTest(), EXIT)]) as machine:
        result = machine.run(timeout=20)
    assert (result.reason, result.code) == ("guest-shutdown", 27)


def test_a_host_without_threads_is_told_in_one_line(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with Machine("virt", accel="tcg", kernel=bytes.fromhex("00000014")) as machine:
        monkeypatch.setattr("threading.Thread.start", refuse)
        with pytest.raises(AccelError, match="the host gives no thread for a vCPU; see ulimit -u"):
            machine.run(timeout=5)

"""Device: declared registers, hooks, interrupts, state, and what is refused when the class is made."""

import pytest

from accel.errors import DeviceError, Overlap
from emu.device import Device, Irq, Reg


class Blinker(Device):
    size = 0x100
    state = ("count", "log", "fifo", "tick")
    irq = Irq()
    CTRL = Reg(0x00, write=0xFF1, fields={"enable": 0, "rate": (11, 4)})
    COUNT = Reg(0x04, reset=7)
    STATUS = Reg(0x08, w1c=0xFF)
    PLAIN = Reg(0x0C, reset=5, write=0xFFFF_FFFF)
    NARROW = Reg(0x10, 1, write=0xFF)
    EVENTS = Reg(0x14, clear_on_read=True)
    WIDE = Reg(0x18, 8, write=0xFFFF_FFFF_FFFF_FFFF)
    VALUE = Reg(0x20)

    def __init__(self):
        super().__init__()
        self.count = 0
        self.log = []
        self.fifo = bytearray()

    def realize(self, context):
        self.tick = self.timer(lambda: self.irq.set(1))

    def write_CTRL(self, value):
        self.log.append((int(value), value.enable, value.rate, int(self.CTRL)))

    def read_VALUE(self):
        self.count += 1
        return 0x1_2345_6789


def test_a_register_without_hooks_follows_its_masks(bench):
    bench.attach(Blinker())
    assert bench.read(4) == 7
    bench.write(4, 99)
    assert bench.read(4) == 7
    bench.write(0x0C, 0xDEADBEEF)
    assert bench.read(0x0C) == 0xDEADBEEF
    bench.write(0x10, 0x1FF, 1)
    assert bench.read(0x10, 1) == 0xFF


def test_a_live_register_is_what_the_guest_sees_and_the_other_way_round(bench):
    device = bench.attach(Blinker())
    device.COUNT = 0x1_0000_0005
    assert bench.read(4) == 5
    bench.write(0x0C, 77)
    assert device.PLAIN == 77


def test_fields_are_read_from_the_value_and_assigned_in_the_live_register(bench):
    device = bench.attach(Blinker())
    bench.write(0, 0xAB1)
    assert (device.CTRL, device.CTRL.enable, device.CTRL.rate) == (0xAB1, 1, 0xAB)
    device.CTRL.rate = 0x1CD
    assert bench.read(0) == 0xCD1
    device.CTRL.enable = 0
    assert bench.read(0) == 0xCD0


def test_a_write_hook_is_told_the_word_as_written_after_the_masks_were_applied(bench):
    device = bench.attach(Blinker())
    bench.write(0, 0xFFFF_FFFF)
    assert device.log == [(0xFFFF_FFFF, 1, 0xFF, 0xFF1)]


def test_a_narrow_write_to_a_hooked_register_is_told_as_a_whole_word(bench):
    device = bench.attach(Blinker())
    bench.write(0, 0x120)
    bench.write(1, 0x0F, 1)
    assert device.log[-1] == (0xF20, 0, 0xF2, 0xF20)


def test_a_read_hook_answers_and_is_cut_to_the_width_of_the_access(bench):
    device = bench.attach(Blinker())
    assert bench.read(0x20) == 0x2345_6789
    assert bench.read(0x20, 1) == 0x89
    assert device.count == 2


def test_write_one_to_clear_and_clear_on_read_need_no_hook(bench):
    device = bench.attach(Blinker())
    device.STATUS = 0xF5
    bench.write(8, 0x05)
    assert bench.read(8) == 0xF0
    device.EVENTS = 3
    assert (bench.read(0x14), bench.read(0x14)) == (3, 0)


def test_a_register_of_eight_bytes_can_be_accessed_in_halves(bench):
    device = bench.attach(Blinker())
    bench.write(0x18, 0x1111_1111)
    bench.write(0x1C, 0x2222_2222)
    assert device.WIDE == 0x2222_2222_1111_1111


def test_a_device_without_hooks_never_enters_python(bench, monkeypatch):
    class Plain(Device):
        size = 8
        A = Reg(0, write=1)

    def entered(*_):
        raise AssertionError

    monkeypatch.setattr(Device, "_serve_read", entered)
    monkeypatch.setattr(Device, "_serve_write", entered)
    bench.attach(Plain(), irq=False)
    bench.write(0, 1)
    bench.write(4, 1)
    assert (bench.read(0), bench.read(4)) == (1, 0)


def test_offsets_without_a_register_reach_read_and_write(bench):
    class Window(Device):
        size = 0x10
        seen = None

        def read(self, offset, width):
            return offset * 0x100 + width

        def write(self, offset, width, value):
            self.seen = (offset, width, value)

    device = bench.attach(Window(), irq=False)
    assert bench.read(6, 2) == 0x602
    bench.write(8, 0x55, 1)
    assert device.seen == (8, 1, 0x55)


def test_a_hook_can_be_switched_while_the_machine_runs(bench):
    device = bench.attach(Blinker())
    device.hook("VALUE", read=False)
    assert (bench.read(0x20), device.count) == (0, 0)
    device.hook("VALUE", read=True)
    assert (bench.read(0x20), device.count) == (0x2345_6789, 1)


def test_the_interrupt_output_ends_where_the_board_says(bench):
    device = bench.attach(Blinker())
    device.irq.set(1)
    device.irq.set(1)
    device.irq.set(0)
    assert bench.edges == [1, 0]


def test_an_exception_in_a_hook_comes_out_of_the_access(bench):
    class Broken(Device):
        size = 4
        A = Reg(0)

        def write_A(self, value):
            raise ZeroDivisionError("in the hook")

    bench.attach(Broken(), irq=False)
    with pytest.raises(ZeroDivisionError, match="in the hook"):
        bench.write(0, 1)


def test_power_on_brings_back_registers_lines_and_timers(bench):
    device = bench.attach(Blinker())
    bench.write(0x0C, 9)
    device.tick.arm(100)
    device.irq.set(1)
    device.power_on()
    assert (bench.read(0x0C), bench.irq.level, bench.clock.next_deadline()) == (5, 0, None)


def test_a_timer_fires_at_its_guest_time(bench):
    device = bench.attach(Blinker())
    device.tick.arm(100)
    bench.advance(99)
    assert bench.edges == []
    bench.advance(1)
    assert bench.edges == [1]


def test_a_saved_state_restores_without_an_edge(bench):
    device = bench.attach(Blinker())
    bench.write(0, 0x121)
    device.irq.set(1)
    device.fifo += b"abc"
    device.tick.arm(500)
    saved = device.save()
    device.power_on()
    device.fifo.clear()
    bench.edges.clear()
    device.load(saved)
    assert device.CTRL == 0x121
    assert device.fifo == b"abc"
    assert (bench.irq.level, bench.edges) == (1, [])
    assert bench.clock.next_deadline() == 500
    assert device.save() == saved


def test_a_saved_state_holds_plain_values_only(bench):
    saved = bench.attach(Blinker()).save()
    assert eval(repr(saved)) == saved


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"version": 2}, "version 2"),
        ({"registers": {}}, "CTRL"),
        ({"state": {}}, "fifo"),
        ({"irqs": {"irq": 0, "other": 0}}, "other"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(bench, change, cause):
    device = bench.attach(Blinker())
    with pytest.raises(DeviceError, match=cause):
        device.load(device.save() | change)


# Each body makes a class that cannot work; the message names the cause.
WRONG = {
    "there is no register CTLR": {"CTRL": Reg(0), "write_CTLR": lambda self, value: None},
    "A at 0x0 and B at 0x2 overlap": {"A": Reg(0), "B": Reg(2, 2)},
    "is outside the 0x10 bytes": {"size": 0x10, "A": Reg(0x10)},
    "not a multiple of its width": {"A": Reg(2)},
    "use 1, 2, 4 or 8 bytes": {"A": Reg(0, 3)},
    "does not fit into 8 bits": {"A": Reg(0, 1, reset=0x100)},
    "bits 32 to 0 are no field": {"A": Reg(0, fields={"all": (32, 0)})},
    "share bit 3": {"A": Reg(0, fields={"low": (3, 0), "high": (7, 3)})},
    "int has an attribute of that name": {"A": Reg(0, fields={"real": 0})},
    "at least 1 byte": {"size": 0},
    "every Device has a method": {"save": lambda self: None},
}


@pytest.mark.parametrize("cause", WRONG)
def test_a_class_that_cannot_work_is_refused_when_it_is_made(cause):
    with pytest.raises(DeviceError, match=cause) as caught:
        type("Wrong", (Device,), WRONG[cause])
    assert "\n" not in str(caught.value)
    assert "Wrong" in str(caught.value)


def test_a_subclass_inherits_and_overrides_registers(bench):
    class More(Blinker):
        COUNT = Reg(0x04, reset=8)
        EXTRA = Reg(0x40, reset=1)

    bench.attach(More())
    assert (bench.read(4), bench.read(0x40), bench.read(0x0C)) == (8, 1, 5)


def test_a_register_of_an_unattached_device_says_so():
    with pytest.raises(DeviceError, match="attach it"):
        _ = Blinker().COUNT


def test_a_device_is_attached_once(bench):
    device = bench.attach(Blinker())
    with pytest.raises(DeviceError, match="attached already as blinker"):
        bench.bus.attach("again", device, 0x8000)


def test_names_on_a_bus_are_unique(bench):
    bench.attach(Blinker())
    with pytest.raises(DeviceError, match="two devices are called 'blinker'"):
        bench.bus.attach("blinker", Blinker(), 0x8000)


def test_overlapping_devices_are_named_with_their_ranges(bench):
    bench.attach(Blinker())
    with pytest.raises(Overlap, match=r"second at 0x1080-0x117f overlaps blinker at 0x1000-0x10ff"):
        bench.bus.attach("second", Blinker(), 0x1080)


def test_an_interrupt_that_a_device_has_not_is_refused(bench):
    with pytest.raises(DeviceError, match="has no interrupt 'ack'; it has irq"):
        bench.bus.attach("a", Blinker(), 0x8000, irq={"ack": 1})

    class Quiet(Device):
        size = 4

    with pytest.raises(DeviceError, match="has no interrupt; attach it without irq"):
        bench.bus.attach("b", Quiet(), 0x9000, irq=1)


def test_what_is_no_device_is_refused(bench):
    with pytest.raises(DeviceError, match="is no Device"):
        bench.bus.attach("a", object(), 0x8000)

"""8254: the PC's programmable interval timer, with its gate and speaker in port 61h.

Counters are computed from the guest's time when they are looked at; only counter 0, whose output is an
interrupt, sets a timer.  Source: Intel 8254 data sheet (231164), "Mode definitions".
"""

from __future__ import annotations

from emu.device import Context, Device, Irq, Reg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.clock import Timer

HZ = 1_193_182
SECOND = 1_000_000_000


class Counter:
    """One of the three counters."""

    FIELDS = (
        *("mode", "access", "bcd", "reload", "start", "gate", "loaded", "write_low", "read_high"),
        *("latch", "latch_left", "status"),
    )

    def __init__(self) -> None:
        self.gate = 1
        self.clear()

    def clear(self) -> None:
        """As after power-on: nothing is loaded."""
        self.mode = 3
        self.access = 3
        self.bcd = 0
        self.reload = 0x10000
        self.start = 0  # tick at which counting began
        self.loaded = 0
        self.write_low = -1  # the low byte of a count that is half written
        self.read_high = 0
        self.latch = 0
        self.latch_left = 0  # bytes of the latch still to be read
        self.status = -1  # a latched status byte

    def periodic(self) -> bool:
        """Whether the count begins anew by itself."""
        return self.mode in (2, 3)

    def count(self, now: int) -> int:
        """The counting element at tick `now`."""
        if not self.loaded:
            return 0
        gone = max(0, now - self.start)
        if self.mode == 3:
            value = self.reload - (2 * gone) % self.reload
        elif self.mode == 2:
            value = self.reload - gone % self.reload
        else:
            value = self.reload - gone
        value &= 0xFFFF
        return int(f"{value % 10000:04d}", 16) if self.bcd else value

    def out(self, now: int) -> int:
        """The output at tick `now`."""
        if not self.loaded:
            return 0 if self.mode == 0 else 1
        gone = max(0, now - self.start)
        if self.mode == 2:
            return int(gone % self.reload != self.reload - 1)
        if self.mode == 3:
            return int(gone % self.reload < (self.reload + 1) // 2)
        if self.mode in (0, 1):
            return int(gone >= self.reload)
        return int(gone != self.reload)  # 4, 5: low for one tick

    def next_change(self, now: int) -> int | None:
        """The tick of the next change of the output after `now`; None when there is none."""
        if not self.loaded or (not self.gate and self.mode in (0, 2, 3, 4)):
            return None
        if self.periodic():
            gone = max(0, now - self.start)
            begin = self.start + gone // self.reload * self.reload
            half = (self.reload + 1) // 2 if self.mode == 3 else self.reload - 1
            return begin + half if begin + half > now else begin + self.reload
        end = self.start + self.reload
        return end if end > now else None


class I8254(Device):
    """The timer; its interrupt is counter 0's output.  PortB is its other half."""

    size = 4
    width = 1
    state = ("saved", "tick")

    irq = Irq()

    COUNTER0 = Reg(0, state=False)
    COUNTER1 = Reg(1, state=False)
    COUNTER2 = Reg(2, state=False)
    CONTROL = Reg(3, state=False)

    tick: Timer

    def __init__(self) -> None:
        super().__init__()
        self.counters = [Counter() for _ in range(3)]

    @property
    def saved(self) -> list[int]:
        """All counters' fields, for snapshots."""
        return [getattr(counter, field) for counter in self.counters for field in Counter.FIELDS]

    @saved.setter
    def saved(self, values: list[int]) -> None:
        given = iter(values)
        for counter in self.counters:
            for field in Counter.FIELDS:
                setattr(counter, field, next(given))

    def realize(self, context: Context) -> None:
        self.clock_now = context.clock.now
        self.tick = self.timer(self._due)

    def reset(self) -> None:
        for counter in self.counters:
            counter.clear()
        self.counters[2].gate = 0

    def ticks(self) -> int:
        """Guest time in periods of the timer's clock."""
        return self.clock_now() * HZ // SECOND

    # -- registers ----------------------------------------------------------

    def read_COUNTER0(self) -> int:
        return self._read(0)

    def read_COUNTER1(self) -> int:
        return self._read(1)

    def read_COUNTER2(self) -> int:
        return self._read(2)

    def write_COUNTER0(self, value: int) -> None:
        self._write(0, value)

    def write_COUNTER1(self, value: int) -> None:
        self._write(1, value)

    def write_COUNTER2(self, value: int) -> None:
        self._write(2, value)

    def write_CONTROL(self, value: int) -> None:
        select = value >> 6
        if select == 3:
            for number, counter in enumerate(self.counters):
                if value >> number + 1 & 1:
                    if not value & 0x20:
                        self._latch(counter)
                    if not value & 0x10 and counter.status < 0:
                        now = self.ticks()
                        counter.status = (
                            counter.out(now) << 7
                            | (not counter.loaded) << 6
                            | counter.access << 4
                            | counter.mode << 1
                            | counter.bcd
                        )
            return
        counter = self.counters[select]
        access = value >> 4 & 3
        if access == 0:
            self._latch(counter)
            return
        mode = value >> 1 & 7
        gate = counter.gate
        counter.clear()
        counter.gate = gate
        counter.access = access
        counter.mode = mode - 4 if mode > 5 else mode
        counter.bcd = value & 1
        if select == 0:
            self._changed()

    def _latch(self, counter: Counter) -> None:
        if not counter.latch_left:
            counter.latch = counter.count(self.ticks())
            counter.latch_left = 2 if counter.access == 3 else 1

    def _read_counter(self, counter: Counter) -> int:
        if counter.status >= 0:
            status, counter.status = counter.status, -1
            return status
        if counter.latch_left:
            value = counter.latch
            high = counter.access == 2 or (counter.access == 3 and counter.latch_left == 1)
            counter.latch_left -= 1
        else:
            value = counter.count(self.ticks())
            high = counter.access == 2 or (counter.access == 3 and bool(counter.read_high))
            counter.read_high ^= 1
        return value >> 8 & 0xFF if high else value & 0xFF

    def _read(self, number: int) -> int:
        return self._read_counter(self.counters[number])

    def _write(self, number: int, value: int) -> None:
        counter = self.counters[number]
        if counter.access == 3:
            if counter.write_low < 0:
                counter.write_low = value
                return
            count, counter.write_low = counter.write_low | value << 8, -1
        else:
            count = value << 8 if counter.access == 2 else value
        if counter.bcd:
            count = int(f"{count:x}") if f"{count:x}".isdigit() else 0
        counter.reload = count or (10000 if counter.bcd else 0x10000)
        counter.start = self.ticks()
        counter.loaded = 1
        if number == 0:
            self._changed()

    # -- outputs ----------------------------------------------------------------

    def gate2(self, level: int) -> None:
        """Drives counter 2's gate: a rising edge begins the count anew."""
        counter = self.counters[2]
        if level and not counter.gate:
            counter.start = self.ticks()
        counter.gate = level

    def out2(self) -> int:
        """Counter 2's output."""
        return self.counters[2].out(self.ticks())

    def _due(self) -> None:
        if self.counters[0].mode in (4, 5):
            # Low for one tick, which is over before the host gets here.
            self.irq.set(0)
            self.irq.set(1)
        else:
            self._changed()

    def _changed(self) -> None:
        """Drives the interrupt, and comes again when the output changes."""
        counter = self.counters[0]
        now = self.ticks()
        self.irq.set(counter.out(now))
        if counter.periodic() and counter.loaded:
            # The edge is what counts: one short low at the end of each period.
            self.irq.set(0)
            self.irq.set(1)
        self._arm(now)

    def go_on(self) -> None:
        """After load(), where another timer did the counting until now: no edge for what has been."""
        now = self.ticks()
        self.irq.restore(self.counters[0].out(now))
        self._arm(now)

    def _arm(self, now: int) -> None:
        counter = self.counters[0]
        if counter.periodic() and counter.loaded:
            gone = max(0, now - counter.start)
            due: int | None = counter.start + (gone // counter.reload + 1) * counter.reload
        else:
            due = counter.next_change(now)
        if due is None:
            self.tick.cancel()
        else:
            self.tick.arm(-(-due * SECOND // HZ))


class PortB(Device):
    """Port 61h: gate and output of the timer's counter 2, and the speaker."""

    size = 1
    width = 1

    NMI_SC = Reg(0, write=0x0F)

    def __init__(self, timer: I8254) -> None:
        super().__init__()
        self.pit = timer

    def read_NMI_SC(self) -> int:
        with self.pit.lock:
            refresh = self.pit.ticks() // 18 & 1  # toggles every 15 us
            return self.NMI_SC | self.pit.out2() << 5 | refresh << 4

    def write_NMI_SC(self, value: int) -> None:
        with self.pit.lock:
            self.pit.gate2(value & 1)

"""Fuzzes a function of a bare-metal arm64 guest: hypothesis makes inputs, each gets a copy of the machine.

    python examples/fuzz_parser.py [EXAMPLES]

The guest's parser takes records of a type, a length and as many bytes: 0 ends, 1 is a name, which goes to
16 bytes on the stack, others are numbers, whose sum it returns.  It has a mistake, which this finds and makes
small.
"""

import sys
import time

from hypothesis import Phase, Verbosity, given, settings
from hypothesis import strategies as st

from emu import Machine
from emu.samples import from_words, places
from emu.stops import Hit

LISTING = """
          start:
100003c9    adr    x9, input
9140213f    add    sp, x9, #8, lsl #12
          ready:
10000380    adr    x0, input
94000002    bl     parse
          done:
14000000    b      done
          parse:
a9bf7bfd    stp    x29, x30, [sp, #-16]!
d10043ff    sub    sp, sp, #16
52800002    mov    w2, #0
          next:
38401403    ldrb   w3, [x0], #1
34000223    cbz    w3, end
38401404    ldrb   w4, [x0], #1
7100047f    cmp    w3, #1
540000c0    b.eq   name
          number:
34ffff64    cbz    w4, next
38401405    ldrb   w5, [x0], #1
0b050042    add    w2, w2, w5
51000484    sub    w4, w4, #1
17fffffc    b      number
          name:
7101009f    cmp    w4, #64
540000e8    b.hi   end
910003e6    mov    x6, sp
          copy:
34fffe64    cbz    w4, next
38401405    ldrb   w5, [x0], #1
380014c5    strb   w5, [x6], #1
51000484    sub    w4, w4, #1
17fffffc    b      copy
          end:
2a0203e0    mov    w0, w2
910043ff    add    sp, sp, #16
a8c17bfd    ldp    x29, x30, [sp], #16
d65f03c0    ret
          input:
"""
PLACES = places(LISTING)


class Fuzzer:
    """The machine at the door of the function, where its copies begin."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.runs = 0
        machine.power_on()
        self.base = machine.cpus[0].registers["pc"]
        machine.on_address(self.base + PLACES["ready"], lambda hit: hit.stop())
        machine.run(timeout=10)

    def parse(self, data: bytes) -> int:
        """What the guest's function returns for an input; ValueError where it does not come back."""
        self.runs += 1
        with self.machine.fork() as copy:
            registers = copy.cpus[0].registers
            copy.memory.load(self.base + PLACES["input"], data)
            came_to: list[int] = []

            def arrived(hit: Hit) -> None:
                came_to.append(hit.address)
                hit.stop()

            for place in (self.base + PLACES["done"], self.base + PLACES["start"], 0x200):  # 200H: exceptions
                copy.on_address(place, arrived)
            copy.run(timeout=10)
            if came_to != [self.base + PLACES["done"]]:
                raise ValueError(f"the parser does not come back, but gets to {registers['pc']:#x}")
            return registers["x0"]


def encoded(records: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes((kind, len(data))) + data for kind, data in records) + b"\0"


BYTES = st.integers(0, 64).flatmap(lambda size: st.binary(min_size=size, max_size=size))  # all sizes alike
RECORDS = st.lists(st.tuples(st.sampled_from((1, 2)), BYTES), max_size=4)


def main(examples: int = 200) -> None:
    with Machine("virt", arch="aarch64", accel="tcg", ram=2 << 20, kernel=from_words(LISTING)) as machine:
        fuzzer = Fuzzer(machine)

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=(Phase.generate, Phase.shrink),
            verbosity=Verbosity.quiet,
        )
        @given(RECORDS)
        def right(records: list[tuple[int, bytes]]) -> None:
            worst.append(records)
            assert fuzzer.parse(encoded(records)) == sum(sum(data) for kind, data in records if kind != 1)
            worst.pop()

        worst: list[list[tuple[int, bytes]]] = []
        begin = time.perf_counter()
        try:
            right()
        except (AssertionError, ValueError) as error:
            ((kind, data),) = worst[-1]
            print(f"found: a record of type {kind} with {len(data)} bytes: {error}")
        else:
            print("nothing found")
        seconds = time.perf_counter() - begin
        print(f"{fuzzer.runs} executions, {fuzzer.runs / seconds:.0f} per second")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

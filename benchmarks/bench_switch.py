"""What a move of a running PC between kvm and tcg costs, and that the guest does not notice many of them.

    python benchmarks/bench_switch.py [--moves N] [--seed N] [--json FILE]

The guest of tests/guest/pc/moves.S computes in all registers, checks what comes out, and counts the
interrupts of two timers; it is moved at random moments, with the interrupt controllers in the kernel and
with the board's own.  U-Boot is moved between the keys of its commands.  A move's time is the clock's, from
the call of Machine.switch() to its return, of a machine that is paused; the first one opens the other
accelerator.  With counter 0 of the 8254 in use, one into the kernel's controllers waits for that counter's
phase: that is in it.  Ends with an error if a guest goes wrong.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from emu.machine import Machine
from tests.emu import test_switch


def main() -> int:
    """Runs what the arguments ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--moves", type=int, default=100, help="of each guest (default: 100)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    times: list[tuple[str, float]] = []
    original = Machine.switch

    def timed(machine: Machine, name: str) -> None:
        if name == machine.accel_name:
            return
        before = time.perf_counter()
        original(machine, name)
        times.append((name, 1000 * (time.perf_counter() - before)))

    Machine.switch = timed  # type: ignore[method-assign]

    def told(guest: str) -> None:
        parts = []
        for name in ("tcg", "kvm"):
            taken = [ms for to, ms in times[1:] if to == name]
            results[f"{guest}, to {name}"] = {"moves": len(taken), "median": statistics.median(taken)}
            parts.append(f"to {name} {statistics.median(taken):6.2f} ms (most {max(taken):6.2f})")
        print(f"{guest:22} {len(times):4} moves   {'   '.join(parts)}   the first {times[0][1]:.1f} ms")
        times.clear()

    for controllers in test_switch.CONTROLLERS:
        test_switch.move_at_random(controllers, options.moves, options.seed)
        told(f"controllers: {controllers}")
    test_switch.move_u_boot("tcg", options.moves, options.seed)
    told("U-Boot")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

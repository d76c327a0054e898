"""GICv2: Arm's Generic Interrupt Controller, distributor and CPU interface, for one CPU.

The distributor is at the device's base, the CPU interface 64 KiB above it.  Source: ARM Generic Interrupt
Controller Architecture Specification, version 2.0 (IHI 0048B.b), chapters 3 and 4.
"""

from __future__ import annotations

from emu.devices.gic import Gic


class Gicv2(Gic):
    """A GICv2 with `spis` interrupts of the board."""

    size = 0x2_0000
    architecture = 2
    serves = "v2"

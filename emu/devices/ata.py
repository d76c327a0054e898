"""The registers of an ATA channel that has no drive.

The host pulls DD7 down, so that the busy bit of the status reads 0 and firmware does not wait for a drive
that is not there.  Source: ATA/ATAPI-6 (INCITS 361), section 9.16.1.
"""

from __future__ import annotations

from emu.device import Device


class EmptyAtaChannel(Device):
    """The eight command registers; all read 0."""

    size = 8

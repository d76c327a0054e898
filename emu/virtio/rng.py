"""Entropy device (virtio 1.2, section 5.4): /dev/hwrng of a guest, from the host's getrandom(2)."""

from __future__ import annotations

from accel.errors import DeviceError
from emu.devices.native import lib
from emu.virtio.device import VirtioDevice


class VirtioRng(VirtioDevice):
    """An entropy device that gives at most `rate` bytes a second, in portions each 1/16 s; 0: no bound."""

    kind = "virtio-rng"

    def __init__(self, rate: int = 16 << 20) -> None:
        if not 0 <= rate < 1 << 60:
            raise DeviceError(f"{self.kind}: a rate is 0 or more bytes a second, not {rate}")
        portion = max(1, rate // 16) if rate else 0
        super().__init__(lib.emu_virtio_rng_new(portion, 1_000_000_000 // 16))

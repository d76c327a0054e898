"""Memory balloon (virtio 1.2, section 5.5): RAM goes back to the host; what the guest knows of its memory.

balloon.target = 128 << 20      the guest is to give back 128 MiB
balloon.poll(2)                 statistics every two seconds: balloon.stats
"""

from __future__ import annotations

from typing import Any

from accel.errors import DeviceError
from emu.devices.native import ffi, lib
from emu.virtio.device import VirtioDevice

PAGE = 4096
# By tag (5.5.6.3.2); names as QMP's guest-stats has them.
STATS = (
    *("stat-swap-in", "stat-swap-out", "stat-major-faults", "stat-minor-faults", "stat-free-memory"),
    *("stat-total-memory", "stat-available-memory", "stat-disk-caches", "stat-htlb-pgalloc"),
    "stat-htlb-pgfail",
)


class VirtioBalloon(VirtioDevice):
    """A balloon.

    deflate_on_oom: the guest may take pages back rather than run out of memory; free_page_reporting: it gives
    back what is free without being asked, until it needs it.
    """

    kind = "virtio-balloon"

    def __init__(self, *, deflate_on_oom: bool = True, free_page_reporting: bool = True) -> None:
        super().__init__(lib.emu_virtio_balloon_new(deflate_on_oom, free_page_reporting))

    @property
    def target(self) -> int:
        """Bytes that the guest is to give back."""
        return int(lib.emu_virtio_balloon_pages(self.pointer, 1)) * PAGE

    @target.setter
    def target(self, size: int) -> None:
        if not 0 <= size < 1 << 44:
            raise DeviceError(f"{self.kind}: {size} bytes cannot be asked for; give 0 to the guest's RAM")
        lib.emu_virtio_balloon_target(self.pointer, size // PAGE)

    @property
    def actual(self) -> int:
        """Bytes that the guest has given back."""
        return int(lib.emu_virtio_balloon_pages(self.pointer, 0)) * PAGE

    @property
    def freed(self) -> int:
        """Bytes that went back to the host, counted again each time."""
        return int(lib.emu_virtio_balloon_freed(self.pointer))

    @property
    def changed(self) -> int:
        """An eventfd that is written when the guest has given back pages or taken some."""
        return int(lib.emu_virtio_balloon_changed(self.pointer))

    @property
    def interval(self) -> int:
        """Seconds between two statistics; 0: none are asked for."""
        return int(self._state().interval)

    def poll(self, seconds: int) -> None:
        """Asks the guest for statistics at once and every so many seconds from then on; 0: no more."""
        if not 0 <= seconds < 1 << 31:
            raise DeviceError(f"{self.kind}: an interval is 0 or more seconds, not {seconds}")
        lib.emu_virtio_balloon_interval(self.pointer, seconds)

    def ask(self) -> None:
        """Asks the guest for statistics, once."""
        lib.emu_virtio_balloon_ask(self.pointer)

    @property
    def stats(self) -> dict[str, int]:
        """What the guest sent last, by QMP's names; "last-update" is when, in seconds since 1970, or 0."""
        state = self._state()
        known = {name: int(state.stats[tag]) for tag, name in enumerate(STATS) if state.known >> tag & 1}
        return {**known, "last-update": int(state.updated)}

    def _state(self) -> Any:
        state = ffi.new("emu_virtio_balloon_state *")
        lib.emu_virtio_balloon_get(self.pointer, state)
        return state

    def save_own(self) -> bytes:
        return bytes(ffi.buffer(self._state()))

    def load_own(self, own: bytes) -> None:
        state = ffi.new("emu_virtio_balloon_state *")
        ffi.buffer(state)[:] = own
        lib.emu_virtio_balloon_set(self.pointer, state)

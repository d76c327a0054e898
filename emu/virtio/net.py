"""Network card (virtio 1.2, section 5.1), its cable ending at an end on the host (emu/net)."""

from __future__ import annotations

from accel.errors import DeviceError
from emu.devices.native import ffi, lib
from emu.net import MAC, Peer
from emu.virtio.device import VirtioDevice

# Bytes that a snapshot may have of the host's end.
MOST_SAVED = 1 << 16


class VirtioNet(VirtioDevice):
    """A card of address `mac` at the end `peer`, which is the card's from now on."""

    kind = "virtio-net"

    def __init__(self, peer: Peer, mac: bytes = MAC) -> None:
        if len(mac) != 6 or mac[0] & 1:
            raise DeviceError(
                f"{self.kind}: {mac.hex(':')} is no card's address; give six bytes, the first even"
            )
        self.mac = mac
        super().__init__(lib.emu_virtio_net_new(peer.take(), mac))

    def save_own(self) -> bytes:
        """How far the guest's connections have come, where its network is the host's own."""
        out = ffi.new("uint8_t[]", MOST_SAVED)
        return bytes(ffi.buffer(out, lib.emu_virtio_net_save(self.pointer, out, len(out))))

    def load_own(self, own: bytes | None) -> None:
        """Connections that have gone on since are reset on both sides; None is an older release's."""
        lib.emu_virtio_net_load(self.pointer, own or b"", len(own or b""))

    def link(self, up: bool) -> None:
        """Plugs the cable in, or pulls it; the guest sees its carrier go and come."""
        lib.emu_virtio_net_link(self.pointer, up)

    @property
    def frames(self) -> dict[str, int]:
        """Frames received, sent, and lost because the guest had no room or sent nonsense."""
        return dict(zip(("received", "sent", "lost"), self._counts()[:3], strict=True))

    @property
    def traffic(self) -> dict[str, int]:
        """Bytes received and sent, in whole frames."""
        return dict(zip(("received", "sent"), self._counts()[3:], strict=True))

    def _counts(self) -> list[int]:
        out = ffi.new("uint64_t[5]")
        lib.emu_virtio_net_count(self.pointer, out)
        return [int(count) for count in out]

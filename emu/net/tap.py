"""TAP: a network interface of the host's whose cable ends in the guest.

Source: Linux' Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

import fcntl
import os
import struct

from emu.devices.native import lib
from emu.net import NetError, Peer

DEVICE = "/dev/net/tun"
# linux/if_tun.h
TUNSETIFF = 0x4004_54CA
IFF_TAP, IFF_NO_PI = 2, 0x1000
# linux/if.h: IFNAMSIZ, with its final zero.
NAME_BYTES = 16


class InheritedTap(Peer):
    """An interface that whoever started us has opened."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        super().__init__(lib.emu_net_frames_new(fd))


class Tap(Peer):
    """The interface `name`; it is made if it is not there and the user may.  Raises NetError."""

    def __init__(self, name: str) -> None:
        given = name.encode()
        if not 0 < len(given) < NAME_BYTES:
            raise NetError(f"--net tap: ifname={name}: a name has 1 to {NAME_BYTES - 1} bytes")
        try:
            fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise NetError(f"{DEVICE}: {error.strerror}; use --net user, which needs no rights") from None
        try:
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", given, IFF_TAP | IFF_NO_PI))
        except OSError as error:
            os.close(fd)
            raise NetError(
                f"interface {name}: {error.strerror}; make it yours: ip tuntap add {name} mode tap user $USER"
            ) from None
        super().__init__(lib.emu_net_frames_new(fd))

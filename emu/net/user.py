"""User networking: a network of the guest's own behind libslirp, which needs no rights on the host.

The guest is 10.0.2.15 by DHCP, the host 10.0.2.2, the name server 10.0.2.3; connections that the guest makes
are the host's own.  Into the guest leads what is forwarded.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Iterable

from emu.devices.native import ffi, lib
from emu.keyval import Options
from emu.net import NetError, Peer


class Forward:
    """A port of the host's that leads to one of the guest's; as words: tcp:127.0.0.1:2222-:22."""

    __slots__ = ("guest", "guest_port", "host", "host_port", "udp")

    def __init__(self, udp: bool, host: int, host_port: int, guest: int, guest_port: int) -> None:
        self.udp = udp
        self.host = host
        self.host_port = host_port
        self.guest = guest
        self.guest_port = guest_port

    @classmethod
    def parse(cls, words: str) -> Forward:
        """[tcp|udp]:[HOST]:PORT-[GUEST]:PORT.  Raises NetError."""
        wrong = NetError(f"hostfwd={words}: write tcp:[HOST]:PORT-[GUEST]:PORT, as tcp:127.0.0.1:2222-:22")
        kind, _, rest = words.partition(":")
        outside, dash, inside = rest.partition("-")
        host, colon, host_port = outside.rpartition(":")
        guest, guest_colon, guest_port = inside.rpartition(":")
        if kind not in ("", "tcp", "udp") or not dash or not colon or not guest_colon:
            raise wrong
        ports = []
        for port in (host_port, guest_port):
            if not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
                raise wrong
            ports.append(int(port))
        try:
            return cls(kind == "udp", ipv4(host or "0.0.0.0"), ports[0], ipv4(guest or "0.0.0.0"), ports[1])
        except ValueError:
            raise wrong from None


def ipv4(words: str) -> int:
    """An address as a number.  Raises ValueError."""
    return int(ipaddress.IPv4Address(words))


class User(Peer):
    """The network.

    restrict: the guest reaches nothing but what is forwarded to it; network, host, dns, dhcp_start: its
    addresses; hostname: what DHCP tells the guest it is called.  Raises NetError.
    """

    def __init__(
        self,
        forwards: Iterable[Forward] = (),
        *,
        restrict: bool = False,
        network: str = "10.0.2.0/24",
        host: str = "",
        dns: str = "",
        dhcp_start: str = "",
        hostname: str = "",
        ipv6: bool = True,
    ) -> None:
        try:
            net = ipaddress.IPv4Network(network)
            addresses = [ipv4(word) if word else 0 for word in (host, dns, dhcp_start)]
        except ValueError as error:
            raise NetError(f"--net user: {error}; give addresses as net=10.0.2.0/24,host=10.0.2.2") from None
        if net.prefixlen > 27:
            raise NetError(f"--net user: net={network} has no room for 10.0.2.15's like; use /27 or shorter")
        for value in addresses:
            if value and ipaddress.IPv4Address(value) not in net:
                raise NetError(
                    f"--net user: {ipaddress.IPv4Address(value)} is not in net={net}; use one of it"
                )
        options = ffi.new("emu_net_user_options *")
        options.network, options.mask = int(net.network_address), int(net.netmask)
        options.host, options.dns, options.dhcp_start = addresses
        options.restricted, options.no_ipv6 = restrict, not ipv6
        name = ffi.new("char[]", hostname.encode())
        options.hostname = name if hostname else ffi.NULL
        error_text = ffi.new("char[]", 256)
        pointer = lib.emu_net_user_new(options, error_text, len(error_text))
        if pointer == ffi.NULL:
            raise NetError(ffi.string(error_text).decode())
        super().__init__(pointer)
        self._name = name
        try:
            for forward in forwards:
                self._forward(forward)
        except NetError:
            self.close()
            raise

    def _forward(self, forward: Forward) -> None:
        failed = lib.emu_net_user_forward(
            self._pointer, forward.udp, forward.host, forward.host_port, forward.guest, forward.guest_port
        )
        if failed:
            where = f"{ipaddress.IPv4Address(forward.host)}:{forward.host_port}"
            remedy = "choose another port" if -failed != errno.EACCES else "choose a port above 1023"
            raise NetError(f"hostfwd: cannot listen on {where} ({os.strerror(-failed)}); {remedy}")

    @classmethod
    def from_words(cls, options: Options) -> User:
        """By the options of --net user."""
        return cls(
            [Forward.parse(word) for word in options.get("hostfwd", [])],
            restrict=options.switch("restrict"),
            network=options.word("net", "10.0.2.0/24"),
            host=options.word("host"),
            dns=options.word("dns"),
            dhcp_start=options.word("dhcpstart"),
            hostname=options.word("hostname"),
            ipv6=options.switch("ipv6", True),
        )

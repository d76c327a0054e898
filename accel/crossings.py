"""What an engine lacks of the guest's instructions, and who did it in its place (accel/native/cross.c)."""

from __future__ import annotations

from typing import Any


class Crossings:
    """How often an engine lacked an instruction: in `host` cases the host's CPU did it, in `companion` a
    companion of KVM's under tcg, which executed `instructions` altogether.  kinds: count by instruction.

    stays: how often the companion kept the vCPU, and did what came then, in `seconds` of the host's CPU:
    nobody counts its instructions.
    """

    def __init__(self, out: Any) -> None:
        self.host, self.companion, self.instructions = out.host, out.companion, out.retired
        self.stays, self.seconds = out.stays, out.ns / 1e9
        self.kinds: dict[str, int] = {}
        for kind in out.kinds:
            if kind.count:
                name = _name(bytes(kind.bytes[0 : kind.nbytes]))
                self.kinds[name] = self.kinds.get(name, 0) + kind.count

    def __bool__(self) -> bool:
        return bool(self.host or self.companion or self.stays)

    def lines(self) -> list[str]:
        """For people; none where nothing was refused."""
        if not self:
            return []
        names = sorted(self.kinds.items(), key=lambda kind: (-kind[1], kind[0]))
        total = self.host + self.companion
        return [
            f"lacked {total} instructions: {self.host} the host's CPU did, {self.companion} tcg",
            *([f"it went on under tcg {self.stays} times, for {self.seconds:.2f} s"] if self.stays else []),
            *(f"{count:12} {name}" for name, count in names),
        ]


def _name(code: bytes) -> str:
    import capstone

    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    for instruction in engine.disasm(code, 0, 1):
        return str(instruction.mnemonic)
    return code.hex(" ")

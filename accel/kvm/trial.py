"""Whether this host's KVM runs a guest such as asked for: a VM is made, its CPU executes one instruction.

For who can fall back on another engine.  It takes 2 to 10 ms, and finds what asking for capabilities does
not: no memory for a VM, a hypervisor of somebody else's that has the CPU, features that are refused, a guest
state that the host's CPU does not enter.
"""

from __future__ import annotations

from typing import Any

from accel.api import ExitKind
from accel.errors import AccelError
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace
from isa.arch import find

CODE = 0x7000
OUT = b"\xe6\xf4"  # out 0xf4, al


def why_not(**options: Any) -> str:
    """Why a KvmAccelerator with these options runs nothing; "" if it does."""
    memory, ports = AddressSpace("trial"), AddressSpace("trial's ports", 1 << 16)
    try:
        memory.add_ram("trial", 0, 1 << 16)
        memory.load(CODE, OUT)
        return _run(memory, ports, options)
    except AccelError as error:
        return str(error)
    finally:
        memory.close()
        ports.close()


def _run(memory: AddressSpace, ports: AddressSpace, options: dict[str, Any]) -> str:
    with KvmAccelerator(find("x86_64"), memory, ports, **options) as kvm:
        for kind in kvm.caps.irqchips:
            kvm.irqchip(kind)
        vcpu = kvm.vcpu(0)
        vcpu.set(cs=0, cs_base=0, rip=CODE)
        exit = vcpu.run(budget=1)
        if exit.kind == ExitKind.BUDGET:
            return ""
        return exit.text or f"its first instruction ends with {exit.kind.name.lower()}"

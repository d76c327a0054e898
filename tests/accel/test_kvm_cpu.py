"""--cpu under kvm: what a guest's CPUID says beside what was asked for."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from accel.api import ExitKind
from accel.errors import AccelError
from accel.kvm import cpuid
from accel.kvm.device import emulates_cpl0
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace
from accel.tcg.unicorn import MODELS
from emu.machine import Machine
from isa.arch import find
from isa.x86_64_cpus import CPUS, Wish
from tests.conftest import obstacle
from tests.guest.assemble import assemble

CODE, TABLE, ANSWERS = 0x7000, 0x6000, 0x6800
# A KVM that emulates kernel mode gives the guest the host's, whatever was set; the others are KVM's own.
HOSTS_OWN = (1, 7, 0xD)
# They follow the CPU's own registers.
LIVE = {"apic", "osxsave", "ospke"}

kvm_here = pytest.mark.skipif(bool(obstacle("kvm")), reason=obstacle("kvm") or "kvm is here")


def seen(cpu: str, leaves: list[tuple[int, int]]) -> tuple[KvmAccelerator, dict[tuple[int, int], list[int]]]:
    """What a guest on that CPU reads of the leaves."""
    memory = AddressSpace()
    memory.add_ram("ram", 0, 1 << 20)
    with KvmAccelerator(find("x86_64"), memory, cpu=cpu) as kvm:
        kvm.irqchip("pc")
        vcpu = kvm.vcpu(0)
        vcpu.set(cs=0, cs_base=0, rip=CODE)
        memory.load(
            CODE, assemble("pc/cpuid.S", CODE).replace(b"\xf4", b"\xe6\xf4")
        )  # an exit in place of HLT
        memory.load(TABLE, b"".join(struct.pack("<II", *leaf) for leaf in leaves) + b"\xff" * 4)
        assert vcpu.run(budget=1).kind == ExitKind.BUDGET
        got = struct.iter_unpack("<4I", memory.peek(ANSWERS, 16 * len(leaves)))
        result = {leaf: [0, *values] for leaf, values in zip(leaves, got, strict=True)}
    memory.close()
    return kvm, result


def features(leaves: dict[tuple[int, int], list[int]]) -> set[str]:
    names = ("flags", "eax", "ebx", "ecx", "edx")
    return {
        name
        for name, (function, index, register, bit) in cpuid.feature_bits().items()
        if (function, index) in leaves and leaves[function, index][names.index(register)] >> bit & 1
    }


PLACES = sorted({(function, index) for function, index, *_ in cpuid.feature_bits().values()})


@kvm_here
@pytest.mark.parametrize("cpu", ["host", *CPUS, "host,-nx,-rdtscp", "x86-64-v2,+aes,-popcnt"])
def test_a_guest_sees_the_cpu_that_was_asked_for_as_far_as_the_host_goes(cpu):
    places = [place for place in PLACES if not emulates_cpl0() or place[0] not in HOSTS_OWN]
    kvm, leaves = seen(cpu, places)
    wish, host = Wish(cpu), kvm.supported()
    asked = cpuid.policy(host, 0, lapic=True, cpu=wish)
    assert (
        features(leaves) - LIVE
        == features({place: asked[place] for place in places if place in asked}) - LIVE
    )
    if wish.name != "host":
        named = CPUS[wish.name].features | {name for name, on in wish.features.items() if on}
        named -= {name for name, on in wish.features.items() if not on}
        hidden = set(cpuid.NOT_EMULATED if emulates_cpl0() else ()) | set(cpuid.missing(host, wish))
        assert features(asked) - cpuid.ALWAYS == named - hidden - cpuid.ALWAYS


@kvm_here
def test_a_named_cpu_has_its_vendor_family_and_name():
    leaves = [(0, 0), (1, 0), *((0x8000_0002 + n, 0) for n in range(3))]
    _, got = seen("EPYC", leaves)
    vendor = struct.pack("<3I", *(got[0, 0][n] for n in (2, 4, 3)))
    signature = got[1, 0][1]
    text = b"".join(struct.pack("<4I", *got[0x8000_0002 + n, 0][1:]) for n in range(3))
    assert vendor == b"AuthenticAMD"
    assert ((signature >> 8 & 15) + (signature >> 20 & 0xFF), signature >> 4 & 15, signature & 15) == (
        23,
        1,
        2,
    )
    assert text.rstrip(b"\0") == b"AMD EPYC"


HOST = {
    (0, 0): [0, 0x16, 0x756E_6547, 0x6C65_746E, 0x4965_6E69],
    (1, 0): [0, 0x806E9, 0x0110_0800, 0xFFFF_FFFF, 0xFFFF_FFFF],
    (7, 0): [1, 0, 0xFFFF_FFFF & ~(1 << 5 | 1 << 16), 0, 0],
    (0xD, 0): [1, 0x2E7, 2696, 2696, 0],
    (0xD, 1): [1, 15, 0, 0x1800, 0],
    (0xD, 2): [1, 256, 576, 0, 0],
    (0xD, 5): [1, 64, 1088, 0, 0],
    (0xD, 9): [1, 8, 2688, 0, 0],
    (0x8000_0001, 0): [0, 0, 0, 0xFFFF_FFFF, 0xFFFF_FFFF],
}


def test_what_the_host_lacks_is_named():
    assert cpuid.missing(HOST, Wish("Haswell")) == ["avx2", "xsaveopt"][:1]
    assert cpuid.missing(HOST, Wish("Haswell,-avx2")) == []
    assert cpuid.missing(HOST, Wish("host,+avx512f")) == ["avx512f"]


def test_what_hangs_on_a_feature_goes_with_it():
    without = features(cpuid.policy(HOST, 0, lapic=True, emulated=False, cpu=Wish("host,-avx")))
    assert not without & {"avx", "fma", "f16c", "avx512bw"}
    leaves = cpuid.policy(HOST, 0, lapic=True, emulated=False, cpu=Wish("host,-avx,-avx512f"))
    assert leaves[0xD, 0][1] == 3
    assert (0xD, 2) not in leaves
    assert cpuid.policy(HOST, 0, lapic=True, emulated=False, cpu=Wish("host,-xsave"))[0xD, 0][1:] == [0] * 4


def test_levels_contain_each_other_and_names_are_known_features():
    bits = cpuid.feature_bits()
    for cpu in CPUS.values():
        assert cpu.features <= bits.keys()
    levels = [CPUS[f"x86-64-v{n}"].features for n in (1, 2, 3, 4)]
    assert all(low < high for low, high in pairwise(levels))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("i486", "kvm has no CPU model 'i486'; use host, x86-64-v1"),
        ("host,avx", "use \\+FEATURE, -FEATURE or enforce"),
        ("host,+sse9", "no CPU feature is called 'sse9'"),
        ("host,+amx_fp16,enforce", "does not offer amx_fp16; leave them out, or enforce"),
    ],
)
@kvm_here
def test_what_cannot_be_had_is_one_line(words, says):
    with pytest.raises(AccelError, match=says) as caught, Machine("microvm", accel="kvm", cpu=words):
        pass
    assert "\n" not in str(caught.value)


@kvm_here
def test_what_the_host_lacks_is_said_once_and_hidden():
    with Machine("microvm", accel="kvm", cpu="host,+amx_fp16", cpus=2) as machine:
        (note,) = machine.notes
    assert note == "CPU host: this host's KVM does not offer amx_fp16; the guest does not see them"


def test_tcg_has_its_own_models_and_no_features():
    for name in (*MODELS["x86_64"], "Nehalem", "max"):
        Machine("microvm", accel="tcg", cpu=name).close()
    for words, says in (
        ("x86-64-v3", "tcg has no CPU model 'x86-64-v3' for x86_64; use nehalem, qemu64"),
        ("qemu64,+avx", "tcg has its CPU models as they are; leave \\+avx out"),
        ("host", "which kvm has; under tcg use max"),
    ):
        with pytest.raises(AccelError, match=says), Machine("microvm", accel="tcg", cpu=words):
            pass

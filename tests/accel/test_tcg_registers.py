"""Registers by isa's names; Unicorn's own constants and reads are the oracle."""

from __future__ import annotations

import random

import pytest

from accel.tcg.registers import places
from isa import arch
from tests.conftest import Engine
from tests.guest.bare import Bare

ISAS = ("aarch64", "arm", "riscv64", "x86_64")
# Unicorn's names where they are not isa's in capitals.
NAMES = {
    "x86_64": {"fctrl": "FPCW", "fstat": "FPSW", "ftag": "FPTAG", "fioff": "FIP", "fiseg": "FCS",
               "fooff": "FDP", "foseg": "FDS"},
}  # fmt: skip


@pytest.mark.parametrize("isa", ISAS)
def test_numbers_are_those_of_unicorn_s_headers(isa):
    package = pytest.importorskip("unicorn")
    module = {"aarch64": "arm64", "riscv64": "riscv", "x86_64": "x86"}.get(isa, isa)
    constants = __import__(f"unicorn.{module}_const", fromlist=["*"])
    assert package.__version__.startswith("2.1.4")
    checked = 0
    for name, place in places(arch.find(isa)).items():
        if place[0] > 0:
            theirs = NAMES.get(isa, {}).get(name, name).upper()
            assert place[0] == getattr(constants, f"UC_{module.upper()}_REG_{theirs}"), name
            checked += 1
    assert checked > 30


@pytest.mark.parametrize("isa", ISAS)
def test_every_general_register_keeps_what_it_is_given(isa):
    bare = Bare(Engine("tcg"), isa)
    draw = random.Random(7)
    fixed = {"zero", "eflags", "cpsr", "cs", "ss", "ds", "es", "fs", "gs", "pc", "rip"}
    registers = [r for r in bare.arch.registers if r.group == "general" and r.name not in fixed]
    given = {register.name: draw.getrandbits(register.width) for register in registers}
    bare.vcpu.set(**given)
    assert dict(zip(given, bare.vcpu.get(*given), strict=True)) == given
    bare.close()


@pytest.mark.parametrize("isa", ["aarch64", "x86_64"])
def test_vectors_are_128_bits_wide(isa):
    bare = Bare(Engine("tcg"), isa)
    prefix, count = ("v", 32) if isa == "aarch64" else ("xmm", 16)
    given = {f"{prefix}{n}": (n + 1) << 100 | n for n in range(count)}
    bare.vcpu.set(**given)
    assert dict(zip(given, bare.vcpu.get(*given), strict=True)) == given
    bare.close()


@pytest.mark.parametrize("isa", ISAS)
def test_a_name_nobody_knows_is_a_key_error(isa):
    bare = Bare(Engine("tcg"), isa)
    with pytest.raises(KeyError, match="accumulator"):
        bare.vcpu.get("accumulator")
    with pytest.raises(KeyError, match="accumulator"):
        bare.vcpu.set(accumulator=1)
    bare.close()


def test_an_alias_names_the_same_register():
    bare = Bare(Engine("tcg"), "aarch64")
    bare.vcpu.set(lr=5)
    assert bare.vcpu.get("x30", "lr") == (5, 5)
    bare.close()


@pytest.mark.parametrize("isa", ISAS)
def test_a_state_loads_into_another_machine_and_saves_the_same(isa):
    first, second = Bare(Engine("tcg"), isa), Bare(Engine("tcg"), isa)
    draw = random.Random(3)
    general = [r for r in first.arch.registers if r.group == "general" and r.width >= 32][:16]
    first.vcpu.set(**{r.name: draw.getrandbits(31) for r in general if r.name not in ("zero", "cpsr")})
    if isa == "arm":
        first.vcpu.set(cpsr=0x1D2, sp=0x1234, lr=0x5678, spsr=0x1D3)  # IRQ's bank
        first.vcpu.set(cpsr=0x1D3)
    state = first.vcpu.save()
    second.vcpu.load(state)
    again = second.vcpu.save()
    first.close()
    second.close()
    for clock in ("tsc", "count"):
        if clock in state:
            assert again.pop(clock) > state.pop(clock)  # it goes on
    assert again == state
    if isa == "arm":
        assert (state["sp_irq"], state["lr_irq"], state["spsr_irq"]) == (0x1234, 0x5678, 0x1D3)


def test_a_segment_has_parts_and_long_mode_follows_from_registers():
    """As a loader of 64-bit kernels sets a CPU up, in any order that the SDM allows."""
    bare = Bare(Engine("tcg"), "x86_64")
    bare.vcpu.set(efer=0x500, cr4=0x20, cr3=0x1000, cr0=0x8000_0011)
    bare.vcpu.set(cs=8, cs_base=0, cs_limit=0xFFFF_FFFF, cs_attr=0xA09B, rip=0x10_0000)
    bare.vcpu.set(ds=16, ds_base=0, ds_limit=0xFFFF_FFFF, ds_attr=0xC093)
    assert bare.vcpu.get("efer", "cs", "cs_attr", "cs_limit") == (0x500, 8, 0xA09B, 0xFFFF_FFFF)
    # mov rax, 0x1122334455667788; hlt: eleven bytes only in 64-bit code
    bare.memory.load(0x10_0000, bytes.fromhex("48b88877665544332211f4"))
    assert bare.vcpu.run().kind.name == "HALT"
    assert bare.vcpu.get("rax", "rip") == (0x1122_3344_5566_7788, 0x10_000B)
    bare.close()

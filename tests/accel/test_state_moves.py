"""An x86-64 vCPU's state is the same after kvm, tcg and kvm again have held it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accel.api import open_accelerator
from accel.memory import AddressSpace
from isa.arch import find
from tests.conftest import usable

# They count: each save() sees later ones.
CLOCKS = {"tsc", "msr_3b"}
MASK64 = (1 << 64) - 1


class Trio:
    """Two VMs of KVM's and one of tcg's, over the same memory."""

    def __init__(self, irqchip: bool) -> None:
        self.memory = AddressSpace()
        self.ports = AddressSpace("ports", 1 << 16)
        self.memory.add_ram("ram", 0, 1 << 20)
        names = ("kvm", "kvm", "tcg")
        self.engines = [open_accelerator(name, find("x86_64"), self.memory, self.ports) for name in names]
        if irqchip:
            for engine in self.engines:
                engine.irqchip("pc")
        self.first, self.second, self.tcg = (engine.vcpu(0) for engine in self.engines)
        self.initial = self.first.save()

    def close(self) -> None:
        for engine in self.engines:
            engine.close()
        self.memory.close()
        self.ports.close()


@pytest.fixture(scope="module", params=[False, True], ids=["cpu alone", "with APIC"])
def trio(request: pytest.FixtureRequest) -> Iterator[Trio]:
    usable("kvm")
    made = Trio(request.param)
    yield made
    made.close()


word = st.integers(0, MASK64)
address = st.one_of(st.integers(0, (1 << 47) - 1), st.integers((1 << 64) - (1 << 47), MASK64))
vector = st.one_of(st.just(0), st.integers(0, (1 << 128) - 1))
real80 = st.one_of(
    st.just(0),
    st.integers(0, (1 << 80) - 1),
    st.integers(0, (1 << 16) - 1).map(lambda top: top << 64 | 1 << 63),
)

GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *(f"r{n}" for n in range(8, 16)))
# 64-bit code at privilege level 0 and 3, 32-bit protected mode without paging, real mode.
FLAT = {"base": 0, "limit": 0xFFFF_FFFF}


def segments(code: int, data: int, **parts: int) -> dict[str, int]:
    values = {}
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        values |= {f"{name}_{part}": value for part, value in (FLAT | parts).items()}
        values[f"{name}_attr"] = code if name == "cs" else data
    return values


MODES = {
    "kernel": {"cr0": 0x8005_0033, "cr4": 0x620, "efer": 0xD01, "cs": 0x10, "ss": 0x18}
    | segments(0xA09B, 0xC093),
    "user": {"cr0": 0x8005_0033, "cr4": 0x620, "efer": 0xD01, "cs": 0x33, "ss": 0x2B}
    | segments(0xA0FB, 0xC0F3),
    "protected": {"cr0": 0x33, "cr4": 0x600, "efer": 0, "cs": 0x10, "ss": 0x18} | segments(0xC09B, 0xC093),
    "real": {"cr0": 0x10, "cr4": 0, "efer": 0, "cs": 0x100, "ss": 0x200}
    | segments(0x9B, 0x93, base=0x1000, limit=0xFFFF),
}

events = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {
            "exception_injected": st.just(1),
            "exception_nr": st.just(14),
            "exception_has_error_code": st.just(1),
            "exception_error_code": st.integers(0, 7),
        }
    ),
    st.fixed_dictionaries({"exception_injected": st.just(1), "exception_nr": st.sampled_from([0, 6, 7, 16])}),
    st.fixed_dictionaries({"interrupt_injected": st.just(1), "interrupt_nr": st.integers(32, 255)}),
    st.fixed_dictionaries({"interrupt_shadow": st.sampled_from([1, 2])}),
    st.fixed_dictionaries({"nmi_masked": st.just(1), "nmi_pending": st.integers(0, 1)}),
    st.just({"nmi_injected": 1, "nmi_masked": 1}),
)


@st.composite
def states(draw: Any) -> dict[str, Any]:
    state: dict[str, Any] = dict(MODES[draw(st.sampled_from(sorted(MODES)))])
    state |= {name: draw(word) for name in GENERAL}
    state["rip"] = draw(address if state["efer"] else st.integers(0, 0xFFFF))
    state["eflags"] = draw(st.integers(0, 1 << 22)) & 0x3C4FD7 & ~0x100 | 2 | 0x200
    for name in ("fs_base", "gs_base") if state["efer"] else ():
        state[name] = draw(address)
    state |= {
        name: draw(address)
        for name in ("lstar", "cstar", "kernel_gs_base", "cr2", "sysenter_esp", "sysenter_eip")
    }
    state |= {
        "star": draw(word),
        "sfmask": draw(st.integers(0, (1 << 22) - 1)),
        "tsc_aux": draw(st.integers(0, 99)),
    }
    state |= {
        "cr3": draw(st.integers(0, 255)) << 12,
        "cr8": 0,
        "idtr_base": draw(address),
        "idtr_limit": 0xFFF,
    }
    state |= {f"dr{n}": draw(address) for n in range(4)}
    state |= {"dr6": 0xFFFF_0FF0 | draw(st.integers(0, 15)), "dr7": 0x400 | draw(st.integers(0, 255))}
    state |= {"xcr0": draw(st.sampled_from([1, 3, 7]))}
    kind = draw(st.sampled_from(["xmm", "ymm", "zmm"]))
    upper = {"xmm": 0, "ymm": 128, "zmm": 384}[kind]
    for n in range(16):
        state[f"{kind}{n}"] = draw(vector) | draw(st.integers(0, (1 << upper) - 1)) << 128
    if kind == "zmm":
        state |= {f"zmm{n}": draw(st.integers(0, (1 << 512) - 1)) for n in range(16, 32)}
        state |= {f"k{n}": draw(word) for n in range(8)}
    state |= {f"st{n}": draw(real80) for n in range(8)}
    state |= {"mxcsr": draw(st.integers(0, 0xFFFF)), "fctrl": draw(st.integers(0, 63)) | 0x340}
    state |= {"fstat": draw(st.integers(0, 0x7FFF)), "ftag": draw(st.integers(0, 0xFFFF))}
    state |= {"fop": draw(st.integers(0, 0x7FF))}
    state |= {name: draw(st.integers(0, (1 << 32) - 1)) for name in ("fioff", "fiseg", "fooff", "foseg")}
    state["events"] = draw(events)
    state["halted"] = draw(st.booleans()) and not state["events"]
    return state


@given(state=states())
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
def test_kvm_tcg_and_kvm_again_hold_the_same(trio: Trio, state: dict[str, Any]) -> None:
    trio.first.load(trio.initial | state)
    saved = trio.first.save()
    trio.tcg.load(saved)
    between = trio.tcg.save()
    trio.second.load(trio.initial)
    trio.second.load(between)
    again = trio.second.save()
    different = {
        name: (saved.get(name), between.get(name), again.get(name))
        for name in saved.keys() | again.keys()
        if name not in CLOCKS and saved.get(name) != again.get(name)
    }
    assert not different

"""What this host's KVM is said to be: why it cannot be used, features by policy, what raw exits mean."""

from __future__ import annotations

import errno
import os
import struct
from types import SimpleNamespace

import pytest

from accel.api import ExitKind
from accel.errors import AccelError, Unavailable
from accel.kvm import cpuid, device
from accel.kvm.device import open_device
from accel.kvm.probe import probe
from accel.kvm.vm import HIDDEN_PAGES, HIDDEN_TOP, PAGE, hidden_base
from accel.memory import AddressSpace
from accel.native import ffi, lib


def why_not() -> str:
    try:
        os.close(open_device())
    except Unavailable as error:
        return str(error)
    return ""


needs_kvm = pytest.mark.skipif(bool(why_not()), reason=why_not() or "kvm is here")

# -- why it cannot be used -----------------------------------------------------------


def test_a_device_that_is_not_there_is_said_with_what_to_do() -> None:
    with pytest.raises(Unavailable, match=r"is not there; load the module"):
        open_device("/dev/no-such-kvm")


def test_another_device_in_its_place_is_told_by_its_answer() -> None:
    with pytest.raises(Unavailable, match=r"/dev/null does not answer as KVM \(ENOTTY\)"):
        open_device("/dev/null")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "may not be opened by this user; join its group"),
        (errno.ENODEV, "has no driver behind it; load kvm_intel or kvm_amd"),
        (errno.EMFILE, "cannot be opened"),
    ],
)
def test_what_open_answers_becomes_a_cause_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(device.os, "open", refuse)
    with pytest.raises(Unavailable, match=words) as caught:
        open_device()
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    ("version", "extension", "words"),
    [
        (10, 1, "speaks KVM API 10, not 12; update the host's kernel"),
        (12, 0, "lacks KVM_CAP_USER_MEMORY, .*KVM_CAP_IMMEDIATE_EXIT; update the host's kernel"),
    ],
)
def test_an_api_that_is_too_old_is_named(
    monkeypatch: pytest.MonkeyPatch, version: int, extension: int, words: str
) -> None:
    def control(fd: int, request: int, argument: int) -> int:
        return version if request == lib.EMU_KVM_GET_API_VERSION else extension

    fake = SimpleNamespace(
        emu_kvm_control=control,
        EMU_KVM_GET_API_VERSION=lib.EMU_KVM_GET_API_VERSION,
        EMU_KVM_CHECK_EXTENSION=lib.EMU_KVM_CHECK_EXTENSION,
    )
    monkeypatch.setattr(device, "lib", fake)
    with pytest.raises(Unavailable, match=words):
        open_device("/dev/null")


def test_the_probe_gives_the_reason_as_cause_and_remedy() -> None:
    (finding,) = probe("/dev/null")
    assert (finding.name, finding.value, finding.ok) == ("usable", False, False)
    assert "ENOTTY" in finding.cause
    assert finding.remedy


@needs_kvm
def test_the_probe_measures_kernel_mode_and_where_syscall_arrives() -> None:
    found = {finding.name: finding for finding in probe()}
    assert found["usable"].value is True
    assert found["api"].value == 12
    assert found["cpl0_ns"].value > 0
    assert found["cpl0_emulated"].value == (found["cpl0_ns"].value >= 50)
    assert found["exit_us"].value > 0
    assert found["syscall_cpl"].value in (0, 3)
    for finding in found.values():
        assert finding.ok or (finding.cause and finding.remedy), finding


# -- CPUID ---------------------------------------------------------------------------

HOST = {
    (0, 0): [0, 0xD, 0, 0, 0],
    (1, 0): [0, 0x806E9, 0x0110_0800, 0xFFFF_FFFF, 0xFFFF_FFFF],
    (7, 0): [1, 0, 0xFFFF_FFFF, 0, 0],
    (0xA, 0): [0, 0x0730_0404, 0, 0, 0x603],
    (0x4000_0001, 0): [0, 0xFFFF_FFFF, 0, 0, 0],
    (0x8000_0001, 0): [0, 0, 0, 0xFFFF_FFFF, 0],
}


def test_no_two_features_share_a_bit() -> None:
    places = list(cpuid.feature_bits().values())
    assert len(places) == len(set(places))
    assert all(0 <= bit < 32 for *_, bit in places)


def test_feature_bits_are_where_the_manual_has_them() -> None:
    """Intel SDM vol. 2, tables 3-10 and 3-11, leaf 7; AMD APM vol. 3, E.4."""
    bits = cpuid.feature_bits()
    known = {
        **{"vmx": (1, 0, "ecx", 5), "cx16": (1, 0, "ecx", 13), "x2apic": (1, 0, "ecx", 21)},
        **{"xsave": (1, 0, "ecx", 26), "avx": (1, 0, "ecx", 28), "hypervisor": (1, 0, "ecx", 31)},
        **{"apic": (1, 0, "edx", 9), "sse2": (1, 0, "edx", 26), "ht": (1, 0, "edx", 28)},
        **{"avx2": (7, 0, "ebx", 5), "invpcid": (7, 0, "ebx", 10), "smap": (7, 0, "ebx", 20)},
        **{"avx512f": (7, 0, "ebx", 16), "avx512vl": (7, 0, "ebx", 31), "rdpid": (7, 0, "ecx", 22)},
        **{"la57": (7, 0, "ecx", 16), "pks": (7, 0, "ecx", 31), "amx_tile": (7, 0, "edx", 24)},
        **{"arch_capabilities": (7, 0, "edx", 29), "avx512_bf16": (7, 1, "eax", 5), "lam": (7, 1, "eax", 26)},
        **{"svm": (0x8000_0001, 0, "ecx", 2), "topoext": (0x8000_0001, 0, "ecx", 22)},
        **{"nx": (0x8000_0001, 0, "edx", 20), "rdtscp": (0x8000_0001, 0, "edx", 27)},
        **{"lm": (0x8000_0001, 0, "edx", 29), "kvm_pv_unhalt": (0x4000_0001, 0, "eax", 7)},
        **{"kvm_pv_ipi": (0x4000_0001, 0, "eax", 11), "kvm_hc_map_gpa_range": (0x4000_0001, 0, "eax", 16)},
    }
    assert {name: bits[name] for name in known} == known


def shown(leaves: cpuid.Leaves) -> set[str]:
    names = ("flags", "eax", "ebx", "ecx", "edx")
    return {
        name
        for name, (function, index, register, bit) in cpuid.feature_bits().items()
        if (function, index) in leaves and leaves[function, index][names.index(register)] >> bit & 1
    }


def test_unsafe_features_are_hidden_and_a_hypervisor_is_shown() -> None:
    guest = shown(cpuid.policy(HOST, 0, lapic=True, emulated=False))
    assert not guest & {"vmx", "svm", "monitor", "pdcm", "ht"}
    assert {"hypervisor", "x2apic", "tsc_deadline_timer", "cx16", "avx2", "kvm_pv_ipi"} <= guest


def test_what_needs_the_kernels_lapic_is_hidden_without_it() -> None:
    guest = shown(cpuid.policy(HOST, 0, lapic=False, emulated=False))
    assert not guest & {"x2apic", "tsc_deadline_timer"}
    assert "apic" in guest


def test_hypercalls_are_hidden_where_kernel_mode_is_emulated() -> None:
    guest = shown(cpuid.policy(HOST, 0, lapic=True, emulated=True))
    assert not guest & {"kvm_pv_unhalt", "kvm_pv_ipi", "kvm_pv_sched_yield", "kvm_hc_map_gpa_range", "cx16"}
    assert "kvmclock" in shown(cpuid.policy(HOST, 0, lapic=True, emulated=False))


def test_features_are_shown_and_hidden_by_name() -> None:
    guest = shown(cpuid.policy(HOST, 0, lapic=True, emulated=False, features={"vmx": True, "avx2": False}))
    assert "vmx" in guest
    assert "avx2" not in guest


def test_a_feature_nobody_knows_or_the_host_lacks_is_an_error() -> None:
    with pytest.raises(AccelError, match="no CPU feature is called 'sse9'"):
        cpuid.policy(HOST, 0, lapic=True, features={"sse9": True})
    with pytest.raises(AccelError, match="does not offer the CPU feature 'la57'"):
        cpuid.policy(HOST, 0, lapic=True, features={"la57": True})


def test_each_vcpu_has_its_own_apic_id_and_shares_nothing() -> None:
    leaves = cpuid.policy(HOST, 5, lapic=True, emulated=False)
    assert leaves[1, 0][2] >> 24 == 5
    assert leaves[1, 0][2] >> 16 & 0xFF == 1
    assert leaves[0xB, 0][4] == leaves[0xB, 1][4] == 5
    assert leaves[0xA, 0][1:] == [0, 0, 0, 0]
    assert HOST[1, 0][2] == 0x0110_0800


# -- raw exits -----------------------------------------------------------------------

REASON, UNION = 8, 32


def explained(reason: int, union: bytes = b"") -> tuple[int, str, bytes, int]:
    """What an exit means, made up from kvm_run's first fields (include/uapi/linux/kvm.h)."""
    run = bytearray(4096)
    struct.pack_into("<I", run, REASON, reason)
    run[UNION : UNION + len(union)] = union
    out = ffi.new("emu_exit *")
    kind = lib.emu_kvm_explain(ffi.from_buffer(run), out)
    assert kind == out.kind
    text = ffi.string(out.text).decode()
    assert len(text) < 127, "the text was cut"
    return kind, text, bytes(ffi.buffer(out.bytes, out.nbytes)), out.code


def test_an_instruction_kvm_cannot_emulate_is_handed_over_with_its_bytes() -> None:
    code = bytes.fromhex("f0480fc70f") + bytes(10)
    union = struct.pack("<IIQB15s", 1, 3, 1, 15, code)
    kind, text, data, suberror = explained(17, union)
    assert (kind, data, suberror) == (ExitKind.FAULT, code, 1)
    assert "cannot emulate" in text
    assert "--accel" in text


def test_an_insane_length_of_instruction_bytes_is_cut() -> None:
    _, _, data, _ = explained(17, struct.pack("<IIQB15s", 1, 3, 1, 255, b"\x90" * 15))
    assert data == b"\x90" * 15


@pytest.mark.parametrize(
    ("reason", "union", "kind", "words"),
    [
        (5, b"", ExitKind.HALT, ""),
        (8, b"", ExitKind.SHUTDOWN, "triple fault"),
        (24, struct.pack("<I", 1), ExitKind.SHUTDOWN, ""),
        (24, struct.pack("<I", 2), ExitKind.RESET, "reset"),
        (24, struct.pack("<I", 3), ExitKind.FAULT, "crashed"),
        (24, struct.pack("<I", 99), ExitKind.FAULT, "system event 99"),
        (4, b"", ExitKind.DEBUG, ""),
        (
            9,
            struct.pack("<QI", 0x80000021, 0),
            ExitKind.FAULT,
            "refuses the guest's state (reason 0x80000021)",
        ),
        (17, struct.pack("<II", 2, 0), ExitKind.FAULT, "two exceptions"),
        (17, struct.pack("<II", 3, 0), ExitKind.FAULT, "delivering an event"),
        (17, struct.pack("<II", 4, 0), ExitKind.FAULT, "does not know"),
        (17, struct.pack("<II", 77, 0), ExitKind.FAULT, "internal error 77"),
        (0, struct.pack("<Q", 0x30), ExitKind.FAULT, "unknown hardware exit 0x30"),
        (1, struct.pack("<II", 14, 2), ExitKind.FAULT, "exception 14 (error code 0x2)"),
        (21, b"", ExitKind.FAULT, "exit 21"),
        (0xFFFF_FFFF, b"", ExitKind.FAULT, "exit 4294967295"),
        (7, b"", 0, ""),
    ],
)
def test_each_exit_has_its_kind_and_one_line(reason: int, union: bytes, kind: int, words: str) -> None:
    got, text, _, _ = explained(reason, union)
    assert got == kind
    assert words in text


# -- the hidden pages ----------------------------------------------------------------


def test_the_hidden_pages_avoid_the_guests_map() -> None:
    with AddressSpace() as memory:
        memory.add_ram("ram", 0, 1 << 20)
        assert hidden_base(memory.flat()) == HIDDEN_TOP
        memory.add_io("device", HIDDEN_TOP + HIDDEN_PAGES * PAGE - 1, 16)
        base = hidden_base(memory.flat())
        assert base < HIDDEN_TOP
        memory.add_io("everything", 0x10_0000, HIDDEN_TOP - 0x10_0000)
        assert hidden_base(memory.flat()) <= HIDDEN_TOP


def test_a_map_full_of_ram_leaves_no_room_and_says_so() -> None:
    with AddressSpace() as memory:
        memory.add_ram("ram", 0, 1 << 32)
        with pytest.raises(AccelError, match="four free pages below 4 GiB"):
            hidden_base(memory.flat())

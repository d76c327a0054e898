"""What makes a KVM fail that opens well, made up one by one: the trial names it, tcg runs the machine."""

from __future__ import annotations

import os
from typing import Any

import pytest

from accel.api import Exit, ExitKind
from accel.errors import AccelError, GuestFault, Unavailable
from accel.kvm import cpuid, trial
from accel.kvm.device import open_device
from accel.kvm.vcpu import KvmVcpu
from accel.kvm.vm import KvmAccelerator
from emu.machine import Machine
from tests.conftest import obstacle

pytestmark = pytest.mark.skipif(bool(obstacle("kvm")), reason=obstacle("kvm") or "kvm is here")

# out 0xf4, al with al 0: a guest that ends at once
ENDING = b"\xb0\x00\xe6\xf4\xf4"


def no_vm(*_: Any) -> None:
    raise AccelError("KVM cannot create a VM (Cannot allocate memory); free memory on the host")


def no_cpuid(*_: Any) -> None:
    raise AccelError("KVM cannot set the CPU's features (Invalid argument); hide fewer or other features")


def no_entry(self: KvmVcpu, budget: int | None = None) -> Exit:
    return Exit(ExitKind.FAULT, text="the host CPU refuses the guest's state (reason 0x80000021); check it")


FAILURES = {
    "no VM": (KvmAccelerator, "_create", no_vm, "cannot create a VM"),
    "CPUID refused": (cpuid, "apply", no_cpuid, "cannot set the CPU's features"),
    "no entry": (KvmVcpu, "run", no_entry, "refuses the guest's state"),
}


@pytest.mark.parametrize("kind", ["on", "split", "off"])
def test_a_kvm_that_works_is_not_found_fault_with(kind: str) -> None:
    assert trial.why_not(irqchip=kind) == ""


@pytest.mark.parametrize("failure", FAILURES)
def test_a_machine_goes_on_under_tcg_and_says_why(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, name, instead, says = FAILURES[failure]
    monkeypatch.setattr(where, name, instead)
    with Machine("microvm", accel="kvm:tcg", kernel=ENDING) as machine:
        (note,) = machine.notes
        assert machine.run(timeout=30).reason == "guest-shutdown"
    assert note.startswith("running under tcg: ")
    assert says in note
    with (
        pytest.raises((AccelError, GuestFault), match=says),
        Machine("microvm", accel="kvm", kernel=ENDING) as machine,
    ):
        machine.run(timeout=30)


@pytest.mark.parametrize(
    ("path", "says"),
    [("/dev/null", "does not answer as KVM"), ("/nowhere/kvm", "is not there; load the module")],
)
def test_a_device_that_is_none_is_told_in_a_line(
    path: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accel.kvm.device.open_device", lambda _=None: open_device(path))
    with Machine("microvm", accel="auto", kernel=ENDING) as machine:
        assert says in machine.notes[0]
        assert "\n" not in machine.notes[0]
    with pytest.raises(Unavailable, match=says), Machine("microvm", accel="kvm", kernel=ENDING):
        pass


def test_a_device_that_may_not_be_opened_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("accel.kvm.device.os.open", refuse)
    with pytest.raises(Unavailable, match="usermod -aG kvm"):
        open_device()

"""The choice of an accelerator, with the host's answers made up."""

import os
from typing import Any

import pytest

from accel import choice
from accel.errors import AccelError, Unavailable, Unsupported

NO_PERMISSION = "/dev/kvm may not be opened by this user; join its group"


@pytest.fixture
def x86_host(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An x86-64 host; call it with the reason why its kvm cannot be used."""
    monkeypatch.setattr(choice, "host", lambda: "x86_64")

    def kvm(obstacle: str = "") -> None:
        monkeypatch.setattr(choice, "kvm_obstacle", lambda: obstacle)

    kvm()
    monkeypatch.setattr(choice, "kvm_slow", lambda: "")
    return kvm


@pytest.mark.parametrize("spec", ["auto", "kvm", "kvm:tcg"])
def test_kvm_is_taken_where_it_works(x86_host: Any, spec: str) -> None:
    assert choice.choose(spec, "x86_64", "machine") == ("kvm", "")


@pytest.mark.parametrize(("spec", "name"), [("auto", "tcg"), ("kvm", "kvm"), ("kvm:tcg", "kvm")])
def test_a_kvm_that_emulates_kernels_is_taken_for_machines_only_where_asked(
    x86_host: Any, monkeypatch: pytest.MonkeyPatch, spec: str, name: str
) -> None:
    monkeypatch.setattr(choice, "kvm_slow", lambda: "kernel-mode code is emulated")
    note = "running under tcg: kernel-mode code is emulated" if name == "tcg" else ""
    assert choice.choose(spec, "x86_64", "machine") == (name, note)
    assert choice.choose(spec, "x86_64", "program") == ("kvm", "")


@pytest.mark.parametrize("spec", ["tcg", "tcg:kvm"])
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_tcg_that_comes_first_is_taken_without_looking_at_kvm(x86_host: Any, spec: str, arch: str) -> None:
    x86_host("must not be asked")
    assert choice.choose(spec, arch, "machine") == ("tcg", "")


@pytest.mark.parametrize("arch", ["aarch64", "arm", "riscv64"])
@pytest.mark.parametrize("purpose", ["machine", "program"])
def test_auto_translates_a_foreign_guest_without_a_word(x86_host: Any, arch: str, purpose: Any) -> None:
    assert choice.choose("auto", arch, purpose) == ("tcg", "")


@pytest.mark.parametrize("spec", ["auto", "kvm:tcg"])
def test_falling_back_is_told_in_one_line_with_the_cause(x86_host: Any, spec: str) -> None:
    x86_host(NO_PERMISSION)
    assert choice.choose(spec, "x86_64", "machine") == ("tcg", f"running under tcg: {NO_PERMISSION}")


def test_kvm_and_nothing_else_is_an_error_with_cause_and_remedy(x86_host: Any) -> None:
    x86_host(NO_PERMISSION)
    with pytest.raises(Unavailable, match=r"join its group; or use --accel tcg") as caught:
        choice.choose("kvm", "x86_64", "machine")
    assert caught.value.status == 2


@pytest.mark.parametrize("purpose", ["machine", "program"])
def test_kvm_for_a_foreign_guest_is_an_error_whatever_the_host_has(x86_host: Any, purpose: Any) -> None:
    with pytest.raises(Unsupported, match=r"own architecture, x86_64, and this one is aarch64") as caught:
        choice.choose("kvm", "aarch64", purpose)
    assert caught.value.status == 2


def test_kvm_then_tcg_for_a_foreign_guest_says_why_it_fell_back(x86_host: Any) -> None:
    name, line = choice.choose("kvm:tcg", "riscv64", "program")
    assert name == "tcg"
    assert "this one is riscv64" in line
    assert "\n" not in line


@pytest.mark.parametrize("spec", ["", "hvf", "kvm,tcg", "kvm:", "KVM"])
def test_a_word_that_names_no_accelerator_is_refused(x86_host: Any, spec: str) -> None:
    with pytest.raises(AccelError, match="no accelerator is called"):
        choice.choose(spec, "x86_64", "machine")


def test_the_host_s_name_is_the_isa_s(monkeypatch: pytest.MonkeyPatch) -> None:
    class Uname:
        machine = "armv7l"

    monkeypatch.setattr(os, "uname", Uname)
    assert choice.host() == "arm"
    Uname.machine = "s390x"
    assert choice.host() == "s390x"


# -- whole machines: kvm is tried before it is taken ---------------------------------


@pytest.mark.parametrize("spec", ["auto", "kvm:tcg,kernel-irqchip=on"])
def test_a_kvm_that_cannot_run_this_guest_is_told_and_tcg_taken(
    x86_host: Any, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    monkeypatch.setattr("accel.kvm.trial.why_not", lambda **words: "KVM cannot create a VM; free memory")
    assert choice.choose_machine(spec, "x86_64") == (
        "tcg",
        {},
        "running under tcg: KVM cannot create a VM; free memory",
    )


def test_kvm_alone_is_not_tried_but_created_with_its_options(x86_host: Any) -> None:
    name, words, note = choice.choose_machine("kvm,kernel-irqchip=on,crossing=off", "x86_64", "Haswell")
    assert (name, note) == ("kvm", "")
    assert words == {"irqchip": "on", "crossing": False, "cpu": "Haswell"}


@pytest.mark.parametrize("emulates", [False, True])
def test_the_kernel_s_controllers_are_usual_but_where_kernel_mode_is_emulated(
    x86_host: Any, monkeypatch: pytest.MonkeyPatch, emulates: bool
) -> None:
    monkeypatch.setattr("accel.kvm.device.emulates_cpl0", lambda: emulates)
    _, words, _ = choice.choose_machine("kvm", "x86_64")
    moves = {"moves": True} if emulates else {}
    assert words == {"irqchip": "off" if emulates else "on", "crossing": True, **moves}
    _, _, note = choice.choose_machine("kvm,kernel-irqchip=split", "x86_64")
    assert ("may lose a level-triggered interrupt" in note) == emulates


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("kvm,irqchip=on", "an accelerator has no option 'irqchip' .*; use kernel-irqchip, crossing"),
        ("kvm,kernel-irqchip=maybe", r"kernel-irqchip=maybe: use kernel-irqchip=on\|split\|off"),
        ("tcg,kernel-irqchip=off", "kernel-irqchip is an option of kvm; leave it out"),
    ],
)
def test_options_nobody_knows_are_refused(x86_host: Any, spec: str, says: str) -> None:
    with pytest.raises(AccelError, match=says):
        choice.choose_machine(spec, "x86_64")

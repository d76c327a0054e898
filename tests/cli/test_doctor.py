"""emu doctor, with and without a usable /dev/kvm."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest

from accel.choice import kvm_obstacle
from emu import __version__, doctor
from emu.cli.colours import colourful

DOCTOR = [sys.executable, "-m", "emu", "doctor"]


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DOCTOR, *words], capture_output=True, text=True, timeout=120, check=False, **options
    )


def facts(*words: str) -> dict[str, Any]:
    done = run("--json", *words)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_host_that_runs_programs_is_found_well() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    for word in (
        __version__,
        "native core",
        "Unicorn 2.1.4",
        "capstone",
        "kvm",
        "tcg",
        "aarch64 arm riscv64 x86_64",
    ):
        assert word in done.stdout


def test_json_holds_the_same_facts() -> None:
    found = facts()
    assert found["ok"] is True
    assert found["emu"] == __version__
    assert found["native"] == {"core": {"built": True}, "user": {"built": True}}
    assert found["tcg"]["unicorn"] == "2.1.4"
    assert found["tcg"]["sample"]["printed"].startswith("aarch64 ")
    assert "x86_64" in found["tcg"]["runs"]["machines"]


@pytest.mark.skipif(kvm_obstacle() != "", reason=f"this host's kvm cannot be described: {kvm_obstacle()}")
def test_a_usable_kvm_is_described() -> None:
    kvm = facts()["kvm"]
    assert kvm["usable"] is True
    assert kvm["runs"]["machines"] == ["x86_64"]
    found = {name: finding["value"] for name, finding in kvm["findings"].items()}
    assert found["api"] == 12
    assert found["syscall_cpl"] in (0, 3)
    assert found["cpl0_ns"] > 0
    said = run().stdout
    assert "ns an instruction at CPL 0" in said
    assert "SYSCALL arrives at CPL" in said
    assert [f["cause"] for f in kvm["findings"].values() if not f["ok"] and f["cause"][:30] not in said] == []


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        ("/nonexistent/kvm", "is not there"),
        ("/dev/null", "does not answer as KVM (ENOTTY)"),
        ("/", "cannot be opened"),
    ],
)
def test_another_device_shows_why_kvm_cannot_be_used(path: str, cause: str) -> None:
    """The device is named by an option; what cannot be used is no reason to fail."""
    done = run("--kvm-device", path)
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("kvm ") and "not usable" in line]
    assert f"{path} {cause}" in line
    found = facts("--kvm-device", path)["kvm"]
    assert (found["usable"], found["runs"]) == (False, {"machines": [], "programs": []})


def test_a_user_without_permission_is_told_the_group() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a device that another user may not open")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        guarded = Path(folder) / "kvm"
        guarded.touch(mode=0o600)
        script = (
            "import os\nfrom accel.kvm.device import open_device\n"
            f"os.setresuid(65534, 65534, 65534)\nopen_device({str(guarded)!r})"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "may not be opened by this user; join its group" in done.stderr


@pytest.mark.parametrize(
    ("hide", "cause"),
    [
        ("mount -t tmpfs none /dev", "is not there; load the module"),
        ("mount --bind /dev/null /dev/kvm", "does not answer as KVM (ENOTTY)"),
    ],
)
def test_a_host_whose_dev_kvm_is_hidden_says_so_and_runs_programs(hide: str, cause: str) -> None:
    """In a mount namespace of its own: for doctor, for a program with --accel auto, and with kvm alone."""
    if not Path("/dev/kvm").exists():
        pytest.skip("there is no /dev/kvm to hide")
    wrap = ["unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh"]
    if subprocess.run([*wrap, "true"], capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("mount namespaces are not allowed here, so /dev/kvm cannot be hidden")

    def hidden(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*wrap, sys.executable, "-m", "emu", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    done = hidden("doctor")
    assert done.returncode == 0
    assert f"not usable: /dev/kvm {cause}" in done.stdout
    done = hidden("/bin/uname", "-m")
    assert (done.returncode, done.stdout) == (0, "x86_64\n")
    assert done.stderr.startswith(f"emu: running under tcg: /dev/kvm {cause}")
    assert done.stderr.count("\n") == 1
    done = hidden("--accel", "kvm", "/bin/uname", "-m")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"emu: kvm cannot be used: /dev/kvm {cause}")
    assert done.stderr.count("\n") == 1


def test_a_host_that_runs_no_programs_is_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    broken = {"usable": False, "reason": "why", "unicorn": None, "runs": {"programs": [], "machines": []}}
    monkeypatch.setattr(doctor, "_tcg", lambda: dict(broken))
    parser = ArgumentParser()
    doctor.add_arguments(parser)
    assert doctor.main(parser.parse_args([])) == 1
    assert "why" in capsys.readouterr().out


def test_a_host_without_a_folder_for_the_sample_says_so(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def none(**_: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryDirectory", none)
    parser = ArgumentParser()
    doctor.add_arguments(parser)
    assert doctor.main(parser.parse_args([])) == 1
    assert "No usable temporary directory found; see df" in capsys.readouterr().out


def test_colours_are_for_terminals_of_people_who_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colourful(sys.stdout)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colourful(sys.stdout)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not colourful(sys.stdout)

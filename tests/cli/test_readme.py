"""Every command of README.md is executed here, as it stands."""

import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from accel.errors import Unavailable
from emu.images.catalog import find
from emu.images.store import fetch
from emu.samples.debian import cache
from tests.cli.pages import ROOT, blocks, run_block, run_python
from tests.emu.terminal import Terminal

SHELL = blocks("README.md", "sh")
SETUP = [body.strip() for body in SHELL if body.startswith("sh scripts/")]
BOOT = [line for body in SHELL if "emu boot" in body for line in body.splitlines() if "--firmware" in line]
IMAGES = [body.splitlines() for body in SHELL if "emu boot" in body and "--firmware" not in body]
OTHER = [body for body in SHELL if not body.startswith("sh scripts/") and "emu boot" not in body]


def test_the_two_commands_come_first_and_are_two() -> None:
    assert SHELL[:2] == ["sh scripts/demo\n", "sh scripts/test\n"]
    assert len(SETUP) == 2


@pytest.mark.parametrize(("command", "harmless"), list(zip(SETUP, (" --help", " --version"), strict=True)))
def test_a_set_up_command_does_nothing_the_second_time(command: str, harmless: str, tmp_path: Path) -> None:
    """Run with an option that makes what follows the set-up short, from another directory."""
    if not (ROOT / ".venv" / "installed").exists():
        pytest.skip("these tests were not started by scripts/test, and setting up anew takes minutes")
    before = (ROOT / ".venv" / "installed").stat().st_mtime_ns
    words = command.replace("scripts/", f"{ROOT}/scripts/") + harmless
    environ = {**os.environ, "EMU_NO_APT": "1"}
    run = subprocess.run(
        words, shell=True, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "installing emu" not in run.stderr
    assert (ROOT / ".venv" / "installed").stat().st_mtime_ns == before


@pytest.mark.parametrize("command", BOOT)
def test_a_boot_command_shows_the_firmware_and_ends_by_ctrl_a_x(command: str, user: dict[str, Any]) -> None:
    firmware = command.split("--firmware ")[1].split()[0]
    if not Path(firmware).exists():
        pytest.skip(f"{firmware} is not installed (Debian's u-boot-qemu), and there is nothing else to boot")
    if "--accel kvm" in command:
        from accel.choice import kvm_obstacle

        if obstacle := kvm_obstacle():
            pytest.skip(f"the command asks for kvm: {obstacle}")
    import pty

    terminal, other = pty.openpty()
    process = subprocess.Popen(
        ["sh", "-c", f"exec {command}"],
        cwd=user["cwd"],
        env=user["env"],
        stdin=other,
        stdout=other,
        stderr=other,
    )
    os.close(other)
    seen = b""
    try:
        while b"U-Boot 20" not in seen:
            piece = os.read(terminal, 4096)
            assert piece, seen
            seen += piece
        os.write(terminal, b"\x01x")
        while process.poll() is None:
            try:
                os.read(terminal, 4096)
            except OSError:
                break
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


@pytest.mark.slow
@pytest.mark.parametrize("block", IMAGES, ids=lambda block: block[0])
def test_an_image_s_boot_command_gives_root_s_prompt(block: list[str], user: dict[str, Any]) -> None:
    """Other lines of its block are what is typed in another terminal meanwhile."""
    name = block[0].split()[2]
    try:
        fetch(find(name))
    except Unavailable as error:
        pytest.skip(str(error))
    if ":2222-" in block[0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", 2222))
            except OSError:
                pytest.skip("another program of this host uses port 2222, which the command names")
    home = user["cwd"]
    user["env"].update(HOME=str(home), XDG_DATA_HOME=str(home / "data"), XDG_CACHE_HOME=str(cache().parent))
    ssh = the_user_s_ssh(home) if len(block) > 1 else False
    words = shlex.split(block[0])
    terminal = Terminal(program=home / ".venv/bin/emu", command=words[1:], cwd=home, env=user["env"])
    try:
        terminal.wait_for(b"root@debian:~# " if name == "debian-arm64" else b"root@emu:/root# ", 300)
        if ssh:
            for line in block[1:]:
                done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, **user)
                assert done.returncode == 0, done.stderr
                assert "examples\n" in done.stdout
        terminal.type(b"\x01x")
        assert terminal.ended(60) == 0
    finally:
        terminal.close()


def the_user_s_ssh(home: Path) -> bool:
    """A key in the user's home, and an ssh that has that home: the real one asks the host for it."""
    ssh = shutil.which("ssh")
    if not ssh or not shutil.which("ssh-keygen"):
        return False
    key = home / ".ssh" / "id_ed25519"
    key.parent.mkdir(mode=0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    settings = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes")
    words = " ".join(f"-o {setting}" for setting in settings)
    script = home / ".venv" / "bin" / "ssh"
    script.write_text(f'#!/bin/sh\nexec {ssh} -F none -i {key} {words} "$@"\n')
    script.chmod(0o755)
    return True


@pytest.mark.parametrize("block", OTHER)
def test_a_block_of_commands_runs_from_top_to_bottom(block: str, user: dict[str, Any]) -> None:
    output = run_block(block, user)
    if "seq 1 100000" in block:
        tool = shutil.which("sha256sum")
        assert tool, "coreutils are part of every host that tests run on"
        numbers = "".join(f"{n}\n" for n in range(1, 100_001))
        wanted = subprocess.run([tool], input=numbers, capture_output=True, text=True, check=True).stdout
        assert output == f"aarch64\n{wanted}499999500000\n{os.uname().machine}\n"
    if "gdb-multiarch" in block:
        assert re.search(r"^pc +0x", output, re.MULTILINE), output
        assert "=> 0x" in output
        assert "aarch64\n" in output


@pytest.mark.parametrize("program", blocks("README.md", "python"))
def test_a_python_example_runs(program: str, user: dict[str, Any]) -> None:
    run_python(program, user)

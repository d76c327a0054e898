"""Every command of README.md is executed here, as it stands."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from accel.errors import Unavailable
from emu.images.catalog import find
from emu.images.store import fetch
from emu.samples.debian import cache
from tests.emu.terminal import Terminal

ROOT = Path(__file__).parent.parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
SHELL = [body for kind, body in BLOCKS if kind == "sh"]
SETUP = [body.strip() for body in SHELL if body.startswith("sh scripts/")]
BOOT = [line for body in SHELL if "emu boot" in body for line in body.splitlines() if "--firmware" in line]
IMAGES = [body.splitlines() for body in SHELL if "emu boot" in body and "--firmware" not in body]
OTHER = [body for body in SHELL if not body.startswith("sh scripts/") and "emu boot" not in body]
PYTHON = [body for kind, body in BLOCKS if kind == "python"]


@pytest.fixture
def user(tmp_path: Path) -> dict[str, Any]:
    """A user's folder with a .venv whose emu and python are the ones under test; options for a process."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    for name, words in (("python", ""), ("emu", "-m emu ")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} {words}"$@"\n')
        script.chmod(0o755)
    (folder / "activate").write_text(f"PATH={folder}:$PATH\n")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environ = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return {"cwd": tmp_path, "env": environ, "timeout": 300, "check": False}


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
    if "gdb-multiarch" in block and shutil.which("gdb-multiarch") is None:
        pytest.skip("gdb-multiarch is not installed (apt-get install gdb-multiarch)")
    if "samples.debian" in block:
        from emu.samples.debian import unpacked

        try:
            for closure, package, arch in re.findall(r"samples\.debian (--closure )?(\S+) (\w+)", block):
                unpacked(package, arch, closure=bool(closure))
        except Unavailable as error:
            pytest.skip(f"the commands fetch a program of Debian's: {error}")
    run = subprocess.run(["sh", "-e", "-c", block], capture_output=True, text=True, **user)
    assert run.returncode == 0, run.stderr
    if "seq 1 100000" in block:
        tool = shutil.which("sha256sum")
        assert tool, "coreutils are part of every host that tests run on"
        numbers = "".join(f"{n}\n" for n in range(1, 100_001))
        wanted = subprocess.run([tool], input=numbers, capture_output=True, text=True, check=True).stdout
        assert run.stdout == f"aarch64\n{wanted}499999500000\n{os.uname().machine}\n"
    if "gdb-multiarch" in block:
        assert re.search(r"^pc +0x", run.stdout, re.MULTILINE), run.stdout
        assert "=> 0x" in run.stdout
        assert "aarch64\n" in run.stdout


@pytest.mark.parametrize("program", PYTHON)
def test_a_python_example_runs(program: str, user: dict[str, Any]) -> None:
    run = subprocess.run(["python", "-c", program], capture_output=True, text=True, **user)
    assert run.returncode == 0, run.stderr

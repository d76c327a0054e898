"""Every command and example of README.md and the documentation is executed here, as it stands."""

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
from tests.cli.pages import ROOT, blocks, run_block, run_python
from tests.emu.terminal import Terminal

# Pages whose commands need more than a user's folder are executed elsewhere.
ELSEWHERE = {"libvirt.md": "tests/emu/test_libvirt.py"}
PAGES = ["README.md"]
PAGES += [f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in ELSEWHERE]
# What stands on several pages runs once.
SHELL = list(dict.fromkeys(body for page in PAGES for body in blocks(page, "sh")))
PYTHON = list(dict.fromkeys(body for page in PAGES for body in blocks(page, "python")))
BOOT = [line for body in SHELL if "emu boot" in body for line in body.splitlines() if "--firmware" in line]
IMAGES = [body.splitlines() for body in SHELL if "emu boot" in body and "--firmware" not in body]
OTHER = [body for body in SHELL if not body.startswith("sh scripts/") and "emu boot" not in body]


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


@pytest.mark.parametrize("program", PYTHON)
def test_a_python_example_runs(program: str, user: dict[str, Any]) -> None:
    run_python(program, user)


def test_the_site_is_built_without_a_warning_and_has_the_generated_pages(tmp_path: Path) -> None:
    """By mkdocs, whose --strict minds links that lead nowhere."""
    pytest.importorskip("mkdocs", reason="mkdocs-material is not installed (scripts/test brings it)")
    words = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--quiet",
        "--strict",
        "--site-dir",
        os.fspath(tmp_path),
    ]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    run = subprocess.run(
        words, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    pages = {page.relative_to(tmp_path).as_posix(): page.read_text() for page in tmp_path.rglob("*.html")}
    for page, word in {
        "reference/commands.html": "--kvm-device",
        "reference/instructions.html": "LOGIC_imm",
        "reference/syscalls.html": "io_uring_setup",
        "reference/devices.html": "virtio-blk-pci",
        "reference/qmp.html": "query-balloon",
        "reference/hmp.html": "delvm",
        "architecture.html": "The life of one MMIO access",
    }.items():
        assert word in pages[page], page

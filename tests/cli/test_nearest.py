"""What is misspelt is asked after, on every command line and in every option within an option."""

import subprocess
import sys

import pytest

from emu import cli
from emu.system import main

EMU = "emu"
QEMU = "emu-system-aarch64"


def ended(words):
    """The exit status of emu with these words; argparse raises it."""
    try:
        return cli.main(words)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    ("program", "line", "meant"),
    [
        (EMU, "--acel kvm ls", "--accel"),
        (EMU, "--accel tgc ls", "tcg"),
        (EMU, "--engine translater {file}", "translator"),
        (EMU, "boto", "emu boot"),
        (EMU, "help", "emu --help"),
        (EMU, "boot --kernal {file}", "--kernel"),
        (EMU, "boot debian-amr64", "debian-arm64"),
        (EMU, "boot --machine micro-vm --kernel {file}", "microvm"),
        (EMU, "boot --machine pc,acip=off --kernel {file}", "acpi"),
        (EMU, "boot --machine virt,gicversion=3 --kernel {file}", "gic-version"),
        (EMU, "boot --accel kvm,kernel_irqchip=on --machine pc --kernel {file}", "kernel-irqchip"),
        (EMU, "boot --accel tcg --cpu cortexa72 --arch aarch64 --kernel {file}", "cortex-a72"),
        (EMU, "boot --arch aarch64 --kernel {file} --drive {file},formt=raw", "format"),
        (EMU, "boot --arch aarch64 --kernel {file} --drive {file},cache=writebak", "writeback"),
        (EMU, "boot --arch aarch64 --kernel {file} --net usr", "user"),
        (EMU, "boot --arch aarch64 --kernel {file} --net user,hostfw=x", "hostfwd"),
        (EMU, "boot --arch aarch64 --kernel {file} --share {folder},mounttag=x", "mount_tag"),
        (EMU, "images lst", "list"),
        (EMU, "images remove --chnages debian-arm64", "--changes"),
        (EMU, "doctor --jsno", "--json"),
        (EMU, "top --onec", "--once"),
        (QEMU, "-kernal {file}", "-kernel"),
        (QEMU, "-M vrit", "virt"),
        (QEMU, "-M virt -cpu cortexa53", "cortex-a53"),
        (QEMU, "-M virt -device virtio-blk-pcie", "virtio-blk-pci"),
        (QEMU, "-M virt -netdev usr,id=n", "user"),
        (QEMU, "-M virt -netdev user,id=n,hostfw=x", "hostfwd"),
        (QEMU, "-M virt -chardev scoket,id=c", "socket"),
        (QEMU, "-M virt -object rng-randon,id=o", "rng-random"),
        (QEMU, "-M virt -drive file={file},if=none,id=d,fromat=raw", "format"),
    ],
)
def test_what_is_misspelt_is_asked_after(program, line, meant, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_bytes(bytes(4096))
    words = line.format(file=file, folder=tmp_path).split()
    status = ended(words) if program == EMU else main("aarch64", [*words, "-display", "none"])
    told = capsys.readouterr().err
    assert f"(did you mean {meant}?)" in told
    assert told.count("\n") == 1
    assert status == (127 if meant.startswith("emu ") else 2)


@pytest.mark.parametrize("line", ["doctor --zzz", "boot --xyzzy", "--qqq ls", "images zzz"])
def test_what_is_near_to_nothing_is_not(line, capsys):
    assert ended(line.split()) == 2
    told = capsys.readouterr().err
    assert "did you mean" not in told
    assert told.endswith("--help tells more\n")


def test_a_subcommand_comes_first(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert cli.main(["--accel", "tcg", "boot"]) == 127
    assert "; the subcommand comes first: emu boot" in capsys.readouterr().err


def test_a_right_command_line_does_not_look_for_what_is_near(tmp_path):
    script = "import sys; from emu.cli import main; main(['--help']); assert 'difflib' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=60)

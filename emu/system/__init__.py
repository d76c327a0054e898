"""QEMU's command line: `emu-system-aarch64` and `emu-system-x86_64`, for people who know it and for libvirt.

options.py has what each option means here; everything else is made of that.  A machine that was asked for
runs as one of `emu boot` does (emu/steering.py).
"""

from __future__ import annotations


def main(arch: str, argv: list[str] | None = None) -> int:
    """Runs `emu-system-ARCH` with the words `argv` (default: this process's) and returns its exit status."""
    from emu import cli

    def command(words: list[str]) -> int:
        from emu.system.command import run

        return run(arch, words)

    return cli.main(argv, command=command, program=f"emu-system-{arch}")

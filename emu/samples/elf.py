"""A writer of the smallest ELF executable: one header, one loadable segment, code.

Source: System V Application Binary Interface, chapters 4 (Object Files) and 5 (Program Loading).
"""

from struct import pack

from isa.arch import Arch

_EXECUTABLE = 2  # ET_EXEC
_LOADABLE = 1  # PT_LOAD
_READ_EXECUTE = 5  # PF_R | PF_X


def executable(arch: Arch, code: bytes, base: int = 0x400000) -> bytes:
    """A statically linked executable of `arch`, little endian, whose entry is the first byte of `code`.

    base: guest address of the file's first byte, a multiple of 64 KiB (the largest page of any of them).
    """
    if base % 0x10000:
        raise ValueError(f"base {base:#x} is not a multiple of 64 KiB")
    ident = b"\x7fELF" + bytes((arch.elf_class, arch.elf_data, 1)) + bytes(9)
    if arch.elf_class == 2:
        header, segment, words = 64, 56, "QQQ"
    else:
        header, segment, words = 52, 32, "III"
    start = header + segment
    size = start + len(code)
    file = ident + pack("<HHI" + words, _EXECUTABLE, arch.elf_machine, 1, base + start, header, 0)
    # Flags of RISC-V and ARM: the soft-float ABI version 5 is what ARM's loaders want to see.
    flags = 0x05000000 if arch.elf_machine == 40 else 0
    file += pack("<IHHHHHH", flags, header, segment, 1, 0, 0, 0)
    if arch.elf_class == 2:
        file += pack("<IIQQQQQQ", _LOADABLE, _READ_EXECUTE, 0, base, base, size, size, 0x10000)
    else:
        file += pack("<IIIIIIII", _LOADABLE, 0, base, base, size, size, _READ_EXECUTE, 0x10000)
    return file + code

"""A kernel in an ELF file with a PVH entry, made here: it prints what it was told, and ends the machine."""

import struct

from tests.guest.bare import words

BASE = 0x10_0000
EM_386, EM_X86_64 = (3, 1), (62, 2)
# Prints CR0, CR4 and EFLAGS (VM, IF, TF), the first 12 bytes of the start info, the command line and the
# first module; then ends with 0x43.
CODE = words("""
    0f 20 c0              ; mov eax, cr0
    a3 00 00 20 00        ; mov [0x200000], eax
    0f 20 e0              ; mov eax, cr4
    a3 04 00 20 00        ; mov [0x200004], eax
    bc 00 00 30 00        ; mov esp, 0x300000
    9c                    ; pushf
    58                    ; pop eax
    25 00 03 02 00        ; and eax, 0x20300
    a3 08 00 20 00        ; mov [0x200008], eax
    be 00 00 20 00        ; mov esi, 0x200000
    b9 0c 00 00 00        ; mov ecx, 0xc
    e8 39 00 00 00        ; call print
    89 de                 ; mov esi, ebx
    b9 0c 00 00 00        ; mov ecx, 0xc
    e8 2d 00 00 00        ; call print
    8b 73 18              ; mov esi, [ebx+0x18]
    8a 06                 ; mov al, [esi]
    84 c0                 ; test al, al
    74 0c                 ; je +12
    b9 01 00 00 00        ; mov ecx, 1
    e8 1a 00 00 00        ; call print
    eb ee                 ; jmp -18
    83 7b 0c 00           ; cmp dword [ebx+0xc], 0
    74 0d                 ; je +13
    8b 43 10              ; mov eax, [ebx+0x10]
    8b 30                 ; mov esi, [eax]
    8b 48 08              ; mov ecx, [eax+8]
    e8 05 00 00 00        ; call print
    b0 21                 ; mov al, 0x21
    e6 f4                 ; out 0xf4, al
    f4                    ; hlt
    66 ba f8 03           ; print: mov dx, 0x3f8
    f3 6e                 ; rep outsb
    c3                    ; ret
""")
STATE = struct.Struct("<3I")


def note(name: bytes = b"Xen", kind: int = 18, description: bytes = struct.pack("<I", BASE)) -> bytes:
    """One note of an ELF file."""

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    head = struct.pack("<III", len(name) + 1, len(description), kind)
    return head + padded(name + b"\0") + padded(description)


def kernel(code: bytes = CODE, *, notes: bytes | None = None, kind: tuple[int, int] = EM_X86_64) -> bytes:
    """The file: a segment with `code` at BASE, one with `notes` (default: the entry at BASE)."""
    notes = note() if notes is None else notes
    wide = kind[1] == 2
    header, segment = (64, 56) if wide else (52, 32)
    at = header + 2 * segment
    where = [(1, at, len(code), 5), (4, at + len(code), len(notes), 4)]
    file = b"\x7fELF" + bytes((kind[1], 1, 1)) + bytes(9)
    file += struct.pack("<HHI" + ("QQQ" if wide else "III"), 2, kind[0], 1, BASE, header, 0)
    file += struct.pack("<IHHHHHH", 0, header, segment, 2, 0, 0, 0)
    for type_, offset, size, flags in where:
        address = BASE if type_ == 1 else 0
        if wide:
            file += struct.pack("<IIQQQQQQ", type_, flags, offset, address, address, size, size, 4)
        else:
            file += struct.pack("<IIIIIIII", type_, offset, address, address, size, size, flags, 4)
    return file + code + notes

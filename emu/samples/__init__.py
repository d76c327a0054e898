"""Guests made from this project's own sources: for a demonstration without a network, and for a first try.

Nothing here needs a cross compiler.  A sample is a listing: each line holds an instruction as it stands in
memory, in hexadecimal, and beside it the assembly it came from; a line that ends in a colon is a label, for
the reader.  tests/samples assembles the right-hand sides with the GNU assembler and compares.

    checksum    a Linux program for arm64: uname's machine and the CRC-32 of its standard input
    greeting    bare-metal guests that print a line on a 16550 UART and stop
    dialogue    a bare-metal guest for arm64's board virt that asks for a name and greets it
    elf         the writer of ELF files
"""


def from_words(listing: str) -> bytes:
    """The code of a listing whose instructions are 32-bit words, in little-endian order (ARM, RISC-V)."""
    return b"".join(int(word, 16).to_bytes(4, "little") for word in _left(listing))


def from_bytes(listing: str) -> bytes:
    """The code of a listing whose instructions are written as the bytes in memory (x86)."""
    return b"".join(bytes.fromhex(row) for row in _left(listing))


def places(listing: str) -> dict[str, int]:
    """Where the labels of a listing of words are, in bytes from its begin."""
    found: dict[str, int] = {}
    at = 0
    for row in (line.split() for line in listing.splitlines()):
        if row and row[0].endswith(":"):
            found[row[0][:-1]] = at
        elif row:
            at += 4
    return found


def _left(listing: str) -> list[str]:
    rows = (line.split() for line in listing.splitlines())
    return [row[0] for row in rows if row and not row[0].endswith(":")]

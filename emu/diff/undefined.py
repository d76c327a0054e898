"""x86's arithmetic flags that instructions leave undefined: CPUs and engines may differ in them.

Source: Intel SDM volume 2, "Flags Affected" of each instruction.
"""

from __future__ import annotations

CF, PF, AF, ZF, SF, OF = 1 << 0, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 11
ALL = CF | PF | AF | ZF | SF | OF
SHIFTS = ("shl", "sal", "shr", "sar", "shld", "shrd")
FLAGS = {
    **dict.fromkeys(("and", "or", "xor", "test", "andn"), AF),
    **dict.fromkeys(("mul", "imul"), SF | ZF | AF | PF),
    **dict.fromkeys(("div", "idiv"), ALL),
    # By a count of more than 1 OF, by one that is too great for the operand CF.
    **dict.fromkeys(SHIFTS, AF | OF | CF),
    **dict.fromkeys(("rol", "ror", "rcl", "rcr"), OF),
    **dict.fromkeys(("bsf", "bsr"), ALL & ~ZF),
    **dict.fromkeys(("bt", "bts", "btr", "btc"), OF | SF | AF | PF),
    **dict.fromkeys(("tzcnt", "lzcnt"), OF | SF | AF | PF),
    **dict.fromkeys(("blsi", "blsr", "blsmsk", "bextr", "bzhi"), AF | PF | SF),
}


def undefined(mnemonic: str) -> int:
    """The bits of EFLAGS that an instruction of that name (capstone's, without prefixes) leaves open."""
    return FLAGS.get(mnemonic, 0)

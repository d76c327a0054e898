"""Random A64 words under the translator and under qemu-aarch64; a64_words.c executes them.

    python tests/native/a64_qemu.py [-s SEED] [-n WORDS] [-e NAME[,NAME]...]

The oracle for what Unicorn does not know or does wrong (fuzz_a64_known.h); slower, and without branches.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
if str(ROOT) not in sys.path:  # run by its path, from anywhere
    sys.path.insert(0, str(ROOT))

from isa.decode import Encoding, load  # noqa: E402

STATES = 16
# What ends the run, goes elsewhere, or is the machine's own; pointer authentication, which qemu's CPU has.
LEFT_OUT = {
    *(
        "SVC",
        "HVC",
        "SMC",
        "BRK",
        "HLT",
        "HINT",
        "ISB",
        "MSR_imm",
        "SYS",
        "MSR",
        "MRS",
        "BR",
        "ERET",
        "BRA",
        "ERETA",
    ),
    *("B", "B_cond", "CBZ", "TBZ", "EXCL", "EXCLP", "PACGA", "PAC", "XPAC", "LDRA"),
}
# qemu collects exceptions of the upper half, too (fuzz_a64_known.h).
LEFT_OUT.add("V_FCMLA_e")
# With FZ qemu sets Z for a denormal, where FPToFixedJS has 0.
LEFT_OUT.add("FJCVTZS")
WRITE_SP = {"ADDSUB_imm", "ADDSUB_ext", "LOGIC_imm"}
REGISTERS = {"rd", "rn", "rm", "ra", "rt", "rt2", "rs"}
BASE = 28


def word_of(encoding: Encoding, rng: random.Random) -> int | None:
    """A word that a64_words can execute, None if none was found."""
    memory = encoding.value >> 25 & 5 == 4
    for _ in range(200):
        word = encoding.value | encoding.should
        for field in encoding.fields.values():
            value = rng.getrandbits(field.width)
            if memory and field.name == "rn":
                value = BASE
            elif memory and field.name == "rm" and encoding.name in ("LDST_reg", "LDST_v_reg"):
                value = 31
            elif field.name == "imm12" and memory:
                value &= 15
            elif field.name == "imm9" and encoding.name == "LDAPUR":
                value &= ~7  # what is not aligned faults in qemu, and is done by us
            elif field.name in REGISTERS and rng.random() < 0.2:
                value = 31
            word |= value << field.shift
        fields = encoding.extract(word)
        if not encoding.matches(word) or encoding.is_unpredictable(word):
            continue
        if memory and BASE in (value for name, value in fields.items() if name in REGISTERS - {"rn"}):
            continue
        if encoding.name in WRITE_SP and fields["rd"] == 31:
            continue
        if encoding.name == "S_FCVTZ_fix" and fields["immh"] >> 1 == 1:
            continue  # qemu writes the sign into the bits above a half-precision scalar
        return word
    return None


def words(names: list[str], count: int, rng: random.Random) -> list[int]:
    """Random words of the encodings, or of all."""
    table = load("aarch64")
    chosen = [table[name] for name in names] or [e for e in table if e.name not in LEFT_OUT]
    made = (word_of(rng.choice(chosen), rng) for _ in range(count))
    return [word for word in made if word is not None]


def build(folder: Path) -> Path:
    """Compile the guest.  Raise LookupError if something is missing."""
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None or shutil.which("qemu-aarch64") is None:
        raise LookupError(
            "aarch64-linux-gnu-gcc and qemu-aarch64 are needed (gcc-aarch64-linux-gnu, qemu-user)"
        )
    out = folder / "a64_words"
    flags = ["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-static"]
    subprocess.run([compiler, *flags, "-o", str(out), str(HERE / "a64_words.c")], check=True, timeout=120)
    return out


def commands(guest: Path) -> list[list[str]]:
    """The translator's and qemu's."""
    ours = [sys.executable, "-m", "emu", "--engine", "translator", str(guest)]
    return [ours, ["qemu-aarch64", "-cpu", "max", str(guest)]]


def run(command: list[str], some: list[int], seed: int, *options: str) -> list[str]:
    done = subprocess.run(
        [*command, str(seed), str(STATES), *options],
        input="".join(f"{word:08x}\n" for word in some),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        timeout=1200,
        env={**os.environ, "EMU_ENGINE": "translator"},
    )
    return done.stdout.splitlines()


def differences(guest: Path, some: list[int], seed: int) -> list[str]:
    """For each word with other results, what is different in its first state where anything is."""
    ours, theirs = (run(command, some, seed) for command in commands(guest))
    told = []
    if len(ours) != len(theirs):
        told.append(f"the translator got to {len(ours)} words, qemu to {len(theirs)}, of {len(some)}")
    for word, left, right in zip(some, ours, theirs, strict=False):
        if left == right:
            continue
        encoding = load("aarch64").decode(word)
        told.append(f"{word:08x} {encoding.name} {encoding.extract(word)}" if encoding else f"{word:08x}")
        both = [run(command, [word], seed, "-v") for command in commands(guest)]
        before: list[str] = []
        for one, other in zip(*both, strict=False):
            if one.startswith("before"):
                before = [*before, one] if one.split()[1] != "nzcv" else [one]
            if one != other:
                used = (
                    {f"{kind}{encoding.extract(word).get(r, 99)}" for r in REGISTERS for kind in "xv"}
                    if encoding
                    else set()
                )
                told += [f"    {line}" for line in before if line.split()[1] in used | {"nzcv"}]
                told += [f"    {one} translator", f"    {other} qemu"]
                break
    return told


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", type=int, default=random.getrandbits(32), metavar="SEED")
    parser.add_argument("-n", type=int, default=10000, metavar="WORDS")
    parser.add_argument("-e", default="", metavar="NAME[,NAME]")
    options = parser.parse_args()
    print(f"seed {options.s}")
    rng = random.Random(options.s)
    with tempfile.TemporaryDirectory() as folder:
        guest = build(Path(folder))
        some = words([name for name in options.e.split(",") if name], options.n, rng)
        told = differences(guest, some, options.s)
    print("\n".join(told[:200]))
    print(f"{len(some)} words, {STATES} states each")
    return bool(told)


if __name__ == "__main__":
    sys.exit(main())

"""Names, ELF identities and register tables hold together; the registers are GDB's and the assemblers'."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from isa import arch, gdb

ALL = [arch.find(name) for name in arch.names()]
each_arch = pytest.mark.parametrize("a", ALL, ids=lambda a: a.name)


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def gdb_output(*commands: str) -> str:
    arguments = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(
        [tool("gdb-multiarch"), "-nx", "-batch", *arguments], capture_output=True, text=True, timeout=60
    )
    assert "warning" not in done.stderr, done.stderr
    return done.stdout


def modules_after(statement: str) -> set[str]:
    """What a new interpreter without site packages has imported after the statement."""
    command = [sys.executable, "-S", "-c", f"{statement}; import sys; print(*sys.modules)"]
    root = Path(arch.__file__).parent.parent
    return set(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split())


# names and identities


def test_importing_arch_imports_no_architecture_and_nothing_heavy():
    loaded = modules_after("import isa.arch, isa.syscalls")
    assert not loaded & {f"isa.{name}" for name in arch.names()}
    assert not loaded & {"re", "typing", "inspect", "dataclasses", "enum", "pathlib"}


def test_finding_one_architecture_imports_only_that_one():
    loaded = modules_after("import isa.arch; isa.arch.find('arm64')")
    assert loaded & {f"isa.{name}" for name in arch.names()} == {"isa.aarch64"}


@each_arch
def test_every_name_and_alias_finds_the_same_architecture(a):
    assert a.name in arch.names()
    for name in (a.name, *a.aliases, a.name.upper()):
        assert arch.find(name) is a
        assert arch.canonical(name) == a.name
    assert arch.find(a.abi.uname_machine) is a


def test_no_name_or_alias_belongs_to_two_architectures():
    spellings = [name for a in ALL for name in (a.name, *a.aliases)]
    assert len(spellings) == len(set(spellings))


def test_an_elf_identity_belongs_to_one_architecture():
    assert len({(a.elf_machine, a.elf_class, a.elf_data) for a in ALL}) == len(ALL)
    for a in ALL:
        assert arch.by_elf(a.elf_machine, a.elf_class, a.elf_data) is a


def test_an_unknown_name_is_a_lookup_error_in_one_line_with_the_known_names():
    with pytest.raises(arch.UnknownArch) as caught:
        arch.find("sparc")
    assert isinstance(caught.value, LookupError)
    assert str(caught.value) == "unknown architecture 'sparc'; known: aarch64, arm, riscv64, x86_64"


def test_an_elf_file_of_the_wrong_class_is_refused_with_its_numbers():
    with pytest.raises(arch.UnknownArch, match="machine 183, class 1, data 1; known: aarch64 183/2/1"):
        arch.by_elf(183, 1, 1)


def test_the_elf_machine_is_that_of_this_interpreter():
    header = Path(sys.executable).read_bytes()[:20]
    if header[:4] != b"\x7fELF":
        pytest.skip("the interpreter is not an ELF file")
    a = arch.by_elf(int.from_bytes(header[18:20], sys.byteorder), header[4], header[5])
    assert a.byte_order == sys.byteorder


# registers


@each_arch
def test_registers_have_unique_names_numbers_and_sensible_widths(a):
    every = list(dict.fromkeys(a.registers + a.extensions + a.system_registers))
    spellings = [s.lower() for r in every for s in (r.name, *r.aliases)]
    assert sorted(spellings) == sorted(set(spellings))
    numbers = [r.number for r in every if r.feature]
    assert len(numbers) == len(set(numbers))
    assert min(numbers) == 0
    for r in every:
        assert r.group in ("general", "float", "vector", "system")
        assert 1 <= r.width <= 512
        assert (r.number >= 0) == bool(r.feature)
    assert all(r.feature for r in a.registers)
    encodings = [r.encoding for r in every if r.encoding]
    assert len(encodings) == len(set(encodings))


@each_arch
def test_pc_sp_and_flags_are_registers(a):
    names = {r.name: r for r in a.registers}
    assert names[a.pc].width == names[a.sp].width == a.bits
    assert a.flags is None or a.flags in names


@each_arch
def test_a_register_is_found_by_alias_in_either_case(a):
    for r in a.registers + a.system_registers:
        for spelling in (r.name, r.name.upper(), r.name.lower(), *r.aliases):
            assert a.register(spelling) is r


def test_an_unknown_register_names_itself_and_the_architecture():
    with pytest.raises(arch.UnknownRegister, match=r"^aarch64 has no register named 'rax'$"):
        arch.find("aarch64").register("rax")


@each_arch
def test_every_gdb_type_is_predefined_or_defined_before_its_use_and_has_the_register_s_width(a):
    widths = dict(gdb.PREDEFINED)
    for kind in a.gdb_types:
        assert kind.name not in widths
        if isinstance(kind, gdb.Vector):
            widths[kind.name] = widths[kind.element] * kind.count
        elif isinstance(kind, gdb.Union):
            widths[kind.name] = max(widths[name] for _, name in kind.fields)
        else:
            widths[kind.name] = kind.size * 8
            assert all(0 <= start <= end < kind.size * 8 for _, start, end in kind.fields)
    for r in a.registers + a.system_registers:
        assert r.gdb_type in gdb.REGISTER_WIDE or widths[r.gdb_type] == r.width, r


# oracles


def gdb_registers(table: str) -> dict[int, tuple[str, int]]:
    """Number: (name, bytes) of the rows of `maint print registers` that have a name and a size."""
    rows = re.findall(r"^ (\S+) +(\d+) +\d+ +\d+ +(\d+) ", table, re.MULTILINE)
    return {int(number): (name, int(size)) for name, number, size in rows if name != "''" and size != "0"}


@each_arch
def test_names_numbers_and_widths_are_those_gdb_has_built_in(a):
    known = gdb_registers(gdb_output(f"set architecture {a.gdb_name}", "maint print registers"))
    ours = {r.number: (r.name, r.width // 8) for r in a.registers}
    # GDB's default description of an architecture has no VFP and no RISC-V float, and it numbers the
    # registers of the optional features of x86 by itself.
    left_out = {"arm": range(26, 59), "riscv64": range(33, 4200), "x86_64": range(57, 60)}.get(
        a.name, range(0)
    )
    for number, register in ours.items():
        if number not in left_out:
            assert known[number] == register


@each_arch
@pytest.mark.parametrize("system", [False, True], ids=["program", "machine"])
def test_gdb_takes_the_target_description_and_numbers_it_as_we_do(a, system, tmp_path):
    document = tmp_path / "target.xml"
    document.write_text(
        gdb.target_xml(a, system=system, extensions=system, osabi="" if system else "GNU/Linux")
    )
    table = gdb_output(f"set tdesc filename {document}", "show architecture", "maint print remote-registers")
    assert f'"{a.gdb_name}"' in table
    rows = re.findall(r"^ (\S+) +\d+ +\d+ +\d+ +(\d+) +\S+ +(\d+) +\d+", table, re.MULTILINE)
    theirs = {int(remote): (name, int(size)) for name, size, remote in rows}
    more = [*a.extensions, *(r for r in a.system_registers if r.feature)]
    expected = [*a.registers, *(more if system else ())]
    assert theirs == {r.number: (r.name, r.width // 8) for r in expected}


@each_arch
def test_gdb_shows_the_types_that_the_description_defines(a, tmp_path):
    document = tmp_path / "target.xml"
    document.write_text(gdb.target_xml(a))
    printed = gdb_output(f"set tdesc filename {document}", "maint print xml-tdesc")
    for kind in a.gdb_types:
        assert f'id="{kind.name}"' in printed


def instruction_words(compiler: str, source: str, tmp_path: Path, *flags: str) -> list[int]:
    """The 32-bit words that the assembler makes of `source`."""
    (tmp_path / "a.S").write_text(source)
    command = [tool(compiler), *flags, "-c", "a.S", "-o", "a.o"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    objcopy = tool(compiler.replace("gcc", "objcopy"))
    subprocess.run([objcopy, "-O", "binary", "-j", ".text", "a.o", "a.bin"], cwd=tmp_path, check=True)
    code = (tmp_path / "a.bin").read_bytes()
    return [int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code), 4)]


def test_aarch64_encodings_are_those_the_assembler_knows(tmp_path):
    registers = arch.find("aarch64").system_registers
    source = ".arch armv8.5-a\n" + "".join(f"mrs x0, {r.name}\n" for r in registers)
    words = instruction_words("aarch64-linux-gnu-gcc", source, tmp_path)
    for r, word in zip(registers, words, strict=True):
        op0, op1, crn, crm, op2 = r.encoding
        assert word == 0xD5200000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5, r.name


def test_riscv64_csr_numbers_are_those_the_assembler_knows(tmp_path):
    # stimecmp (Sstc) is newer than some assemblers.
    registers = [r for r in arch.find("riscv64").system_registers if r.name != "stimecmp"]
    source = "".join(f"csrr a0, {r.name}\n" for r in registers)
    words = instruction_words("riscv64-linux-gnu-gcc", source, tmp_path, "-march=rv64gc_zicsr")
    for r, word in zip(registers, words, strict=True):
        assert word == r.encoding[0] << 20 | 0x2573, r.name


def test_arm_encodings_are_instructions_of_the_coprocessor(tmp_path):
    registers = arch.find("arm").system_registers
    source = ".arch armv7-a\n.fpu neon-vfpv4\n" + "".join(
        f"vmrs r0, {r.name.lower()}\n"
        if r.encoding[0] == 10
        else f"mrc p{r.encoding[0]}, {r.encoding[1]}, r0, "
        f"c{r.encoding[2]}, c{r.encoding[3]}, {r.encoding[4]}\n"
        for r in registers
    )
    words = instruction_words("arm-linux-gnueabihf-gcc", source, tmp_path, "-marm")
    for r, word in zip(registers, words, strict=True):
        coprocessor, opc1, crn, crm, opc2 = r.encoding
        assert word == 0xEE100010 | opc1 << 21 | crn << 16 | coprocessor << 8 | opc2 << 5 | crm, r.name

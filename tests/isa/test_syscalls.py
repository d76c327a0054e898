"""System-call tables check themselves; numbers are the kernel headers', layouts the compilers'."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from isa import arch, syscalls

TABLES = Path(syscalls.__file__).parent
each_arch = pytest.mark.parametrize("name", arch.names())

COMPILERS = {
    "aarch64": "aarch64-linux-gnu-gcc",
    "arm": "arm-linux-gnueabihf-gcc",
    "riscv64": "riscv64-linux-gnu-gcc",
    "x86_64": "x86_64-linux-gnu-gcc",
}


def preprocess(name: str, source: str, *flags: str) -> str:
    compiler = shutil.which(COMPILERS[name])
    if compiler is None:
        pytest.skip(f"{COMPILERS[name]} is not installed")
    command = [compiler, "-E", *flags, "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


def signature_keys() -> list[str]:
    lines = (TABLES / "signatures.tbl").read_text().splitlines()
    return [line.split()[0] for line in lines if line and not line.startswith("#")]


# the tables by themselves


@each_arch
def test_every_number_has_one_name_and_every_name_a_signature(name):
    calls = syscalls.load(name)
    assert list(calls) == sorted(calls)
    assert len({call.name for call in calls.values()}) == len(calls) > 300
    assert all(call.number == number for number, call in calls.items())
    assert {number: call.name for number, call in calls.items()} == syscalls.numbers(name)


def test_every_signature_belongs_to_a_call_of_some_abi():
    names = {name: set(syscalls.numbers(name).values()) for name in arch.names()}
    for key in signature_keys():
        call, _, abi = key.partition("@")
        if abi:
            assert call in names[abi], key
        else:
            assert any(call in of_abi for of_abi in names.values()), key


def test_every_special_signature_differs_from_the_common_one():
    lines = (TABLES / "signatures.tbl").read_text().splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line and not line.startswith("#")}
    for key, words in rows.items():
        if "@" in key:
            assert rows[key.partition("@")[0]] != words, key


def test_every_structure_is_used_and_in_alphabetical_order():
    used = {
        a.element for name in arch.names() for call in syscalls.load(name).values() for a in call.arguments
    }
    assert set(syscalls.structs()) <= used
    assert list(syscalls.structs()) == sorted(syscalls.structs())


@each_arch
def test_arguments_fit_the_registers_of_the_abi(name):
    abi = arch.find(name).abi
    for call in syscalls.load(name).values():
        used = 0
        for argument in call.arguments:
            wide = argument.kind in ("off", "u64") and arch.find(name).bits == 32
            used += used % 2 + 2 if wide and abi.aligned_pairs else 1 + wide
        assert used <= len(abi.syscall_argument_registers), call


@each_arch
def test_a_length_is_the_name_of_an_argument_that_can_be_one(name):
    for call in syscalls.load(name).values():
        kinds = {a.name: a.kind for a in call.arguments}
        for a in call.arguments:
            if a.count and not a.count.isdigit():
                assert kinds[a.count] in (
                    {"inout"} if a.indirect else {"int", "uint", "long", "ulong", "size"}
                ), call


def test_the_types_that_the_head_of_the_file_documents_are_those_the_parser_takes():
    head = (TABLES / "signatures.tbl").read_text().partition("\n\n")[0]
    words = set(re.findall(r"\w+", head))
    assert words >= syscalls.NUMBERS | syscalls.POINTERS | syscalls.RESULTS | {"u8", "u16"}


# what people rely on


@pytest.mark.parametrize(
    ("name", "number", "shown"),
    [
        ("x86_64", 0, "<Syscall 0 read(fd:fd, buf:out[count], count:size) -> size>"),
        ("aarch64", 63, "<Syscall 63 read(fd:fd, buf:out[count], count:size) -> size>"),
        ("riscv64", 259, "<Syscall 259 riscv_flush_icache(start:addr, end:addr, flags:flags) -> int>"),
        ("arm", 0xF0005, "<Syscall 983045 set_tls(value:addr) -> int>"),
        ("arm", 199, "<Syscall 199 getuid32() -> uid>"),
    ],
)
def test_a_call_reads_as_it_is_written(name, number, shown):
    assert repr(syscalls.load(name)[number]) == shown


def test_clone_swaps_its_last_two_arguments_on_x86_64_only():
    order = {
        name: [
            a.name for call in syscalls.load(name).values() if call.name == "clone" for a in call.arguments
        ]
        for name in arch.names()
    }
    assert order["x86_64"][3:] == ["child_tid", "tls"]
    assert order["aarch64"][3:] == order["riscv64"][3:] == order["arm"][3:] == ["tls", "child_tid"]


def test_user_ids_are_16_bits_wide_in_the_old_calls_of_arm():
    assert [a.kind for a in syscalls.load("arm")[182].arguments] == ["path", "uid16", "gid16"]
    assert [a.kind for a in syscalls.load("x86_64")[92].arguments] == ["path", "uid", "gid"]


def test_an_alias_of_the_architecture_loads_the_same_table():
    assert syscalls.numbers("arm64") == syscalls.numbers("aarch64")


# errors


@pytest.fixture
def tables(tmp_path):
    """A directory of small sound tables that a test may break."""
    (tmp_path / "arm.tbl").write_text("3 read\n4 write # to a file\n")
    (tmp_path / "signatures.tbl").write_text(
        "read fd:fd buf:out[n] n:size -> size\nwrite fd:fd buf:in[n] n:size\n"
    )
    (tmp_path / "structs.tbl").write_text("stat abi\n")
    return tmp_path


def test_small_tables_are_read(tables):
    assert [call.name for call in syscalls.load("arm", str(tables)).values()] == ["read", "write"]


@pytest.mark.parametrize(
    ("table", "line", "message"),
    [
        ("arm.tbl", "3 open", "arm.tbl:3: number 3 is read already"),
        ("arm.tbl", "5 read", "arm.tbl:3: read has number 3 already"),
        ("arm.tbl", "open 5", "arm.tbl:3: expected `number name`, got 'open 5'"),
        ("arm.tbl", "5 open", "arm.tbl:3: open has no line in signatures.tbl"),
        ("signatures.tbl", "read fd:fd", "signatures.tbl:3: read stands here twice"),
        ("signatures.tbl", "open path:paht", "signatures.tbl:3: unknown type in 'path:paht'"),
        ("signatures.tbl", "open fd", "signatures.tbl:3: unknown type in 'fd'"),
        ("signatures.tbl", "open b:in[n", "signatures.tbl:3: 'b:in[n' has no closing bracket"),
        ("signatures.tbl", "open b:in", "signatures.tbl:3: 'b:in' needs an element or a length"),
        (
            "signatures.tbl",
            "open b:fd[n]",
            "signatures.tbl:3: 'b:fd[n]': only in, out and inout take an element or a",
        ),
        ("signatures.tbl", "open b:in[n]", "signatures.tbl:3: the length of b, 'n', is no argument"),
        (
            "signatures.tbl",
            "open b:in[*n] n:size",
            "signatures.tbl:3: the length of b, b:in[*n], confuses a number",
        ),
        (
            "signatures.tbl",
            "open b:out:stab",
            "signatures.tbl:3: 'b:out:stab': 'stab' is neither a number type nor",
        ),
        ("signatures.tbl", "open a:fd a:fd", "signatures.tbl:3: two arguments have the same name"),
        ("signatures.tbl", "open a:fd -> file", "signatures.tbl:3: expected one of addr, "),
        ("signatures.tbl", "open a:fd ->", "signatures.tbl:3: expected one of addr, "),
        ("structs.tbl", "stat same", "structs.tbl:2: stat stands here twice"),
        (
            "structs.tbl",
            "iovec wide",
            "structs.tbl:2: expected `name same|width|abi [pointers]`, got 'iovec wide'",
        ),
    ],
)
def test_a_broken_line_is_an_error_with_file_and_line(tables, table, line, message):
    with (tables / table).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(syscalls.TableError) as caught:
        syscalls.load("arm", str(tables))
    assert str(caught.value).startswith(f"{tables}/{message}")


def test_an_unknown_architecture_is_refused_by_name():
    with pytest.raises(arch.UnknownArch, match="unknown architecture 'vax'"):
        syscalls.load("vax")


# oracles

# Macros of the headers that are no call: bases, masks, counts, names of groups.
NOT_CALLS = {"BASE", "SYSCALL_BASE", "OABI_SYSCALL_BASE", "SYSCALL_MASK", "syscalls", "arch_specific_syscall"}


@each_arch
def test_numbers_are_those_of_the_kernel_headers(name):
    macros = dict(
        re.findall(r"#define (__(?:ARM_)?NR_\w+) (.+)", preprocess(name, "#include <asm/unistd.h>\n", "-dM"))
    )
    version = preprocess(name, "#include <linux/version.h>\nLINUX_VERSION_CODE\n", "-P").split()[-1]
    if int(version) >> 8 != 0x601:
        pytest.skip(
            f"the headers are of Linux {int(version) >> 16}.{int(version) >> 8 & 255}, the tables of 6.1"
        )
    calls = [macro for macro in macros if re.sub("__(ARM_)?NR_", "", macro) not in NOT_CALLS]
    source = "#include <asm/unistd.h>\n" + "".join(f'@ "{macro}" {macro}\n' for macro in calls)
    expected: dict[int, set[str]] = {}
    for macro, expression in re.findall(r'@ "(\w+)" ([\w()+ ]+)', preprocess(name, source, "-P")):
        number = sum(int(term, 0) for term in re.findall(r"\w+", expression))
        expected.setdefault(number, set()).add(re.sub("__(ARM_)?NR_", "", macro))
    ours = syscalls.numbers(name)
    assert set(ours) == set(expected)
    for number, call in ours.items():
        assert call in expected[number]


# Where the C declaration of a structure is found: (header, type); {name} is filled in.
DECLARATIONS = {
    "bpf_attr": ("linux/bpf.h", "union bpf_attr"),
    "cap_data": ("linux/capability.h", "struct __user_cap_data_struct"),
    "cap_header": ("linux/capability.h", "struct __user_cap_header_struct"),
    "clone_args": ("linux/sched.h", "struct clone_args"),
    "epoll_event": ("linux/eventpoll.h", "struct epoll_event"),
    "futex_waitv": ("linux/futex.h", "struct futex_waitv"),
    "io_event": ("linux/aio_abi.h", "struct io_event"),
    "io_uring_params": ("linux/io_uring.h", "struct io_uring_params"),
    "iocb": ("linux/aio_abi.h", "struct iocb"),
    "iovec": ("linux/uio.h", "struct iovec"),
    "itimerspec": ("linux/time.h", "struct itimerspec"),
    "itimerspec64": ("linux/time_types.h", "struct __kernel_itimerspec"),
    "itimerval": ("linux/time.h", "struct itimerval"),
    "kexec_segment": ("linux/kexec.h", "struct kexec_segment"),
    "landlock_ruleset_attr": ("linux/landlock.h", "struct landlock_ruleset_attr"),
    "mount_attr": ("linux/mount.h", "struct mount_attr"),
    "mq_attr": ("linux/mqueue.h", "struct mq_attr"),
    "open_how": ("linux/openat2.h", "struct open_how"),
    "perf_event_attr": ("linux/perf_event.h", "struct perf_event_attr"),
    "pollfd": ("linux/poll.h", "struct pollfd"),
    "rlimit": ("linux/resource.h", "struct rlimit"),
    "rlimit64": ("linux/resource.h", "struct rlimit64"),
    "rseq": ("linux/rseq.h", "struct rseq"),
    "rusage": ("linux/resource.h", "struct rusage"),
    "sched_attr": ("linux/sched/types.h", "struct sched_attr"),
    "sembuf": ("linux/sem.h", "struct sembuf"),
    "sigaction": ("asm/signal.h", "struct sigaction"),
    "siginfo": ("asm/siginfo.h", "siginfo_t"),
    "stack": ("asm/signal.h", "stack_t"),
    "stat": ("asm/stat.h", "struct stat"),
    "statfs": ("asm/statfs.h", "struct statfs"),
    "statx": ("linux/stat.h", "struct statx"),
    "sysinfo": ("linux/sysinfo.h", "struct sysinfo"),
    "timespec": ("linux/time.h", "struct timespec"),
    "timespec64": ("linux/time_types.h", "struct __kernel_timespec"),
    "timeval": ("linux/time.h", "struct timeval"),
    "timex64": ("linux/timex.h", "struct __kernel_timex"),
    "timezone": ("linux/time.h", "struct timezone"),
    "tms": ("linux/times.h", "struct tms"),
    "utimbuf": ("linux/utime.h", "struct utimbuf"),
    "utsname": ("linux/utsname.h", "struct new_utsname"),
}


def size_and_alignment(name: str, header: str, declaration: str) -> tuple[int, int]:
    """As the compiler of one ABI lays the type out, read from its assembly."""
    source = f"#include <linux/types.h>\n#include <stddef.h>\n#include <{header}>\n"
    source += f"char size[sizeof({declaration})]; char alignment[_Alignof({declaration})];\n"
    compiler = shutil.which(COMPILERS[name])
    if compiler is None:
        pytest.skip(f"{COMPILERS[name]} is not installed")
    command = [compiler, "-S", "-xc", "-", "-o", "-"]
    text = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"\.size\s+(size|alignment), (\d+)", text))
    return int(found["size"]), int(found["alignment"])


@pytest.mark.parametrize("struct", DECLARATIONS)
def test_structures_are_as_equal_between_abis_as_their_layout_class_says(struct):
    layout = syscalls.structs()[struct].layout
    sizes = {name: size_and_alignment(name, *DECLARATIONS[struct]) for name in arch.names()}
    long_sizes = {sizes[name] for name in ("aarch64", "riscv64", "x86_64")}
    if layout == "abi":
        assert len(long_sizes) > 1, sizes
    else:
        assert len(long_sizes) == 1, sizes
        assert (sizes["arm"] in long_sizes) == (layout == "same"), sizes

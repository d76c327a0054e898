"""`emu --strace`: the lines, beside those of strace itself."""

from __future__ import annotations

import random
import re
import shutil
import struct
import subprocess

import pytest

from emu.linux.decode import (
    Decoder,
    arguments_text,
    known,
    octal,
    quoted,
    ready_text,
    result_text,
    siginfo_text,
    sigset_text,
    sockaddr_text,
    status_text,
)
from emu.linux.strace import Trace
from emu.linux.watch import BadAddress
from isa.arch import UnknownArch
from isa.syscalls import TableError, flags, load, number
from tests.linux.conftest import emulate
from tests.linux.programs import ROOT


class Bytes:
    """Guest memory that is a few bytes at address 4096."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def read(self, address: int, size: int) -> bytes:
        piece = self.data[max(0, address - 4096) :][:size]
        if address < 4096 or len(piece) < size:
            raise BadAddress("nothing there")
        return piece

    def text(self, address: int, limit: int = 4095) -> tuple[bytes, bool]:
        data = self.read(address, 1) + self.data[address - 4095 :]
        end = data.find(b"\0")
        return (data[:limit], False) if end < 0 or end > limit else (data[:end], True)


def call(isa: str, name: str):
    return next(each for each in load(isa).values() if each.name == name)


def text(isa: str, name: str, *args: int, data: bytes = b"", result: int | None = None) -> str:
    return arguments_text(Decoder(isa), call(isa, name), args, Bytes(data), result=result)


def test_an_openat_reads_as_strace_writes_it() -> None:
    args = -100, 4096, 0o2000000, 0
    assert (
        text("aarch64", "openat", *args, data=b"/etc/passwd\0")
        == 'AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC'
    )
    assert result_text(Decoder("aarch64"), call("aarch64", "openat"), args, 3) == "3"


def test_flags_are_named_as_the_abi_has_them() -> None:
    """O_DIRECTORY and O_NOFOLLOW are where x86-64 has O_DIRECT and O_LARGEFILE, or the other way round."""
    assert text("aarch64", "openat", -100, 0, 0o140000) == "AT_FDCWD, NULL, O_RDONLY|O_DIRECTORY|O_NOFOLLOW"
    assert text("x86_64", "openat", -100, 0, 0o140000) == "AT_FDCWD, NULL, O_RDONLY|O_DIRECT|O_LARGEFILE"


def test_what_cannot_be_read_is_an_address() -> None:
    assert text("riscv64", "openat", 5, 7, 0o100, 0o644) == "5, 0x7, O_RDONLY|O_CREAT, 0644"
    assert text("riscv64", "writev", 1, 8, 3) == "1, 0x8, 3"


def test_64_bit_words_of_32_bit_guests_are_one_argument() -> None:
    from isa.syscalls import places

    pread = call("arm", "pread64")
    assert places(pread, False, True) == [(0,), (1,), (2,), (4, 5)]
    assert [number(each, 0xFFFF_FFFF, False) for each in pread.arguments[:2]] == [-1, 0xFFFF_FFFF]


def test_results_are_shown_by_their_kind() -> None:
    x86 = Decoder("x86_64")
    assert result_text(x86, call("x86_64", "mmap"), [], 0x7000) == "0x7000"
    assert result_text(x86, call("x86_64", "read"), [], -2) == "-1 ENOENT (No such file or directory)"
    assert (
        result_text(x86, call("x86_64", "pause"), [], -514)
        == "? ERESTARTNOHAND (To be restarted if no handler)"
    )
    assert result_text(x86, call("x86_64", "umask"), [], 0o22) == "022"
    assert result_text(x86, None, [], -38) == "-1 ENOSYS (Function not implemented)"


def test_strings_are_escaped_and_cut() -> None:
    assert quoted(b'a "b"\\\n\t\0\x001\xff') == r'"a \"b\"\\\n\t\0\0001\377"'
    assert quoted(b"x" * 33) == '"' + "x" * 32 + '"...'
    assert octal(0) == "000"


def test_sets_of_signals_and_wait_statuses() -> None:
    assert sigset_text(1 << 1 | 1 << 16) == "[INT CHLD]"
    assert sigset_text((1 << 64) - 1 & ~(1 << 31 | 1 << 32)) == "~[RTMIN RT_1]"
    assert status_text(0x300) == "{WIFEXITED(s) && WEXITSTATUS(s) == 3}"
    assert status_text(9) == "{WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL}"


def test_structures_nest() -> None:
    data = struct.pack("<4q", 0, 0, 100, 5)
    timer = "{it_interval={tv_sec=0, tv_usec=0}, it_value={tv_sec=100, tv_usec=5}}"
    assert text("aarch64", "setitimer", 0, 4096, 0, data=data) == f"ITIMER_REAL, {timer}, NULL"


def test_a_table_of_flags_is_checked(tmp_path) -> None:
    path = tmp_path / "flags.tbl"
    for line in ("bits a", "bits a X", "word a X=1", "field a 3 X=4", "use a open.flags", "bits a@vax X=1"):
        path.write_text(line + "\n")
        with pytest.raises((TableError, UnknownArch), match=r"flags\.tbl:1|architecture"):
            flags.load("arm", str(path))


@pytest.mark.parametrize("isa", ["aarch64", "arm", "riscv64", "x86_64"])
def test_every_use_of_names_is_an_argument_of_a_call(isa) -> None:
    known = {f"{each.name}.{argument.name}" for each in load(isa).values() for argument in each.arguments}
    everywhere = set()
    for other in ("aarch64", "arm", "riscv64", "x86_64"):
        everywhere |= {f"{c.name}.{a.name}" for c in load(other).values() for a in c.arguments}
    for use in flags.load(isa).uses:
        assert use in everywhere or any(
            use[1:] == name[name.index(".") :] for name in known if use[0] == "*"
        ), use


@pytest.mark.parametrize("isa", ["aarch64", "arm", "riscv64", "x86_64"])
def test_no_arguments_and_no_memory_are_too_odd_to_be_shown(isa) -> None:
    rng = random.Random(2026)
    decoder, bits = Decoder(isa), 32 if isa == "arm" else 64
    odd = [
        0,
        1,
        3,
        8,
        40,
        4096,
        4100,
        4096 + 4000,
        8192,
        1 << 31,
        (1 << 32) - 1,
        (1 << bits) - 1,
        1 << bits - 1,
    ]
    for each in load(isa).values():
        for _ in range(60):
            memory = Bytes(rng.choice((bytes(4096), b"\xff" * 4096, rng.randbytes(4096), b"a\0" * 2048)))
            args = [
                number(argument, rng.choice((*odd, rng.getrandbits(bits))), bits == 64)
                for argument in each.arguments
            ]
            result = rng.choice((0, 1, -22, -512, -600, 4096, (1 << 63) - 1))
            first = known(each, args)
            line = arguments_text(decoder, each, args, memory, 0, first)
            line += arguments_text(decoder, each, args, memory, first, None, result)
            line += result_text(decoder, each, args, result) + ready_text(decoder, each, args, memory, result)
            assert line.isprintable()
            assert len(line) < 40000  # two paths of 4095 bytes, all escaped


def test_no_siginfo_is_too_odd_to_be_shown() -> None:
    rng = random.Random(2026)
    names = flags.load("aarch64")
    for signo in (*range(66), -1):
        for code in (0, 1, 2, 6, 100, 0x80, *range(-7, 0), -1 << 31):
            info = struct.pack("<iii", signo, 0, code) + rng.randbytes(116)
            assert siginfo_text(info, names).isprintable()
            assert sockaddr_text(rng.randbytes(rng.randrange(40))).isprintable()


class Told:
    """A call as a thread tells it."""

    def __init__(self, tid: int, name: str, args: list[int], result: int | None = None) -> None:
        self.tid = self.pid = tid
        self.isa, self.memory = "aarch64", Bytes()
        self.syscall = call("aarch64", name)
        self.name, self.number = name, self.syscall.number
        self.args, self.result = args, result


def test_calls_of_threads_are_told_apart_and_resumed() -> None:
    lines: list[str] = []
    trace = Trace(lines.append)
    trace.start(10, "/bin/x", ["x"], 2)
    trace.call(Told(10, "read", [0, 0, 5]))
    trace.call(Told(11, "getpid", []))
    trace.result(Told(11, "getpid", [], 10))
    trace.result(Told(10, "read", [0, 0, 5], 0))
    assert "".join(lines).splitlines() == [
        'execve("/bin/x", ["x"], [/* 2 vars */]) = 0',
        "read(0,  <unfinished ...>",
        "[pid    11] getpid()                    = 10",
        "[pid    10] <... read resumed>NULL, 5)  = 0",
    ]


ADDRESS = re.compile(r"0x[0-9a-f]{5,}")


def comparable(output: str) -> list[str]:
    """Lines without what differs between two runs: ids, addresses, the C library's start."""
    start = (
        "brk",
        "arch_prctl",
        "set_tid",
        "set_robust",
        "rseq",
        "prlimit",
        "readlink",
        "getrandom",
        "execve",
    )
    lines, ids, begun = [], {}, {}
    for line in output.splitlines():
        tid, _, rest = line.partition(" ")
        # Where a call is cut in two, because another thread's line came between, is not the same in two runs.
        if rest.endswith(" <unfinished ...>"):
            begun[tid] = rest.removesuffix(" <unfinished ...>")
            continue
        resumed = re.match(r" *<\.\.\. \w+ resumed>", rest)
        if resumed:
            rest = begun.pop(tid) + rest[resumed.end() :]
        rest = re.sub(r" +=", " =", rest.strip())
        if rest.startswith(start):
            continue
        ids.setdefault(tid, f"<{len(ids)}>")
        rest = ADDRESS.sub("ADDRESS", rest)
        rest = re.sub(r"rt_sigreturn\(.*\)", "rt_sigreturn()", rest)
        # One says it in the order of its table, one in that of the bits.
        rest = re.sub(r"[A-Z_0-9]+(\|[A-Z_0-9]+)+", lambda found: "|".join(sorted(found[0].split("|"))), rest)
        lines.append(f"{tid} {rest}")
    for tid, name in ids.items():
        lines = [re.sub(rf"\b{tid}\b", name, line) for line in lines]
    # Nor is when the child begins and when its parent waits.
    return sorted(lines)


def test_a_program_s_lines_are_those_of_strace(build, tmp_path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed, and there is nothing to compare with")
    program = build("see", "x86_64")
    oracle = tmp_path / "strace"
    done = subprocess.run(["strace", "-f", "-o", oracle, program], capture_output=True, text=True, timeout=60)
    if "ptrace" in done.stderr or not oracle.exists():
        pytest.skip(f"strace cannot trace here: {done.stderr.splitlines()[0]}")
    ours = tmp_path / "emu"
    mine = emulate("--strace", "-o", ours, program)
    assert (mine.stdout, mine.returncode) == (done.stdout, done.returncode)
    assert comparable(ours.read_text()) == comparable(oracle.read_text())


def test_every_isa_s_lines_name_the_same_calls(isa, build) -> None:
    done = emulate("--strace", build("see", isa))
    assert done.stdout == "done\n"
    assert done.returncode == -15
    for line in (
        r'openat\(AT_FDCWD, "/nowhere/at all\\n", O_RDONLY\|O_CLOEXEC\) += -1 ENOENT \(No such file',
        r'writev\(\d+, \[\{iov_base="one", iov_len=3\}, \{iov_base="two\\t", iov_len=4\}\], 2\) = 7',
        r"--- SIGUSR1 \{si_signo=SIGUSR1, si_code=SI_USER, si_pid=\d+, si_uid=\d+\} ---",
        r"\+\+\+ exited with 3 \+\+\+",
        r"\+\+\+ killed by SIGTERM \+\+\+",
    ):
        assert re.search(line, done.stderr), (line, done.stderr)


def test_kvm_programs_are_traced_too(build) -> None:
    from tests.conftest import usable

    usable("kvm")
    done = emulate("--strace", build("see", "x86_64"), accel="kvm")
    assert '"a \\"line\\"\\n\\1\\0012\\377 and then some more"..., 48) = 48' in done.stderr


def test_lines_of_threads_and_processes_are_whole(isa, build, tmp_path) -> None:
    done = emulate("--strace", "--stats", "-o", tmp_path / "out", build("crowd", isa), 20)
    assert (done.returncode, done.stdout) == (0, "320\n")
    lines, _, table = (tmp_path / "out").read_text().partition("% time")
    whole = re.findall(r"^\d+ +getppid\(\) += \d+$", lines, re.MULTILINE)
    begun = re.findall(r"^\d+ +getppid\(\) <unfinished \.\.\.>$", lines, re.MULTILINE)
    ended = re.findall(r"^\d+ +<\.\.\. getppid resumed>\) += \d+$", lines, re.MULTILINE)
    assert len(begun) == len(ended)
    assert len(whole) + len(ended) == 320
    assert re.search(r" 320 +getppid$", table, re.MULTILINE)
    # One for each thread.
    assert len(re.findall(r"^\d+ +\+\+\+ exited with 0 \+\+\+$", lines, re.MULTILINE)) == 1 + 4 * 5


def test_a_killed_program_s_end_is_told(build) -> None:
    done = emulate("--strace", build("die", "aarch64"), 9)
    assert done.returncode == -9
    assert done.stderr.endswith("+++ killed by SIGKILL +++\n")


def test_children_that_are_killed_in_a_call_leave_nothing_behind(build, tmp_path) -> None:
    """More of them than there are slots to tell something in."""
    done = emulate("--strace", "-o", tmp_path / "out", build("killer", "aarch64"))
    assert (done.returncode, done.stdout) == (0, "done\n")
    lines = (tmp_path / "out").read_text()
    assert len(re.findall(r"^\d+ +\+\+\+ killed by SIGKILL \+\+\+$", lines, re.MULTILINE)) == 100
    assert lines.splitlines()[-1].endswith("+++ exited with 0 +++")


def test_a_file_that_cannot_be_written_is_a_wrong_use(build, tmp_path) -> None:
    for words in (("--strace", "-o", tmp_path / "no" / "file"), ("-o", tmp_path / "file")):
        done = emulate(*words, build("echo", "aarch64"))
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1


def test_a_traced_program_sees_no_descriptor_of_its_watcher(build, tmp_path) -> None:
    script = f"#!{build('see', 'riscv64')}\n"
    (tmp_path / "script").write_text(script)
    (tmp_path / "script").chmod(0o755)
    done = emulate("--strace", "-o", tmp_path / "out", tmp_path / "script", cwd=ROOT)
    assert done.returncode == -15
    opened = re.search(r'"/dev/null".*= (\d+)', (tmp_path / "out").read_text())
    assert opened is not None
    assert opened[1] == "3"

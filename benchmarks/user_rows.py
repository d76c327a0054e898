"""What bench_user.py measures: programs of Debian's and what they are given to do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = (
    "autoconf", "bash", "coreutils", "dash", "diffutils", "gcc-12", "git", "grep", "gzip", "libc6-dev", "m4",
    "mawk", "nodejs", "openssl", "p7zip-full", "perl", "python3", "redis-server", "redis-tools", "sed",
    "sqlite3", "xz-utils", "zstd",
)  # fmt: skip
KERNELS = {
    "crc": 600, "sieve": 12000, "matrix": 320, "qsort": 800, "fib": 37, "list": 150, "saxpy": 6000,
    "integers": 15000, "floats": 15000,
}  # fmt: skip


@dataclass
class Row:
    """A command; in its words {root} is the sysroot, {folder} where prepare() has put things."""

    name: str
    kind: str  # "steady" or "start"
    words: list[str]
    rates: str = ""  # a pattern: the figure is one by each of the rates that it prints itself, added
    same: bool = True  # the output says nothing of time
    children: bool = False  # it starts programs of the sysroot


SCRIPT = """\
'use strict';
const fib = (n) => (n < 2 ? n : fib(n - 1) + fib(n - 2));
const words = [];
let seed = 1;
for (let i = 0; i < SIZE; i++) {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff;
    words.push({ key: 'w' + (seed % 5000), value: seed / 7, list: [i, i + 1] });
}
const counts = new Map();
for (const w of words) counts.set(w.key, (counts.get(w.key) || 0) + w.value);
const text = JSON.stringify(words);
const again = JSON.parse(text);
const sorted = again.sort((a, b) => a.value - b.value || a.list[0] - b.list[0]);
const found = text.replace(/w(\\d)(\\d*)/g, '$2$1').match(/"\\d+9"/g).length;
const sums = new Float64Array(1000);
for (let i = 0; i < SIZE * 20; i++) sums[i % 1000] += Math.sqrt(i) * sums[(i * 7) % 1000] % 3;
console.log(counts.size, sorted[10].key, found, text.length, sums[999].toFixed(6), fib(24));
"""

REDIS = """\
redis-server --port 0 --unixsocket "$PWD/socket" --save '' --appendonly no >log &
exec 3<> <(:)
until [ -S socket ]; do read -t 0.02 -u 3; done
redis-benchmark -s socket -n {count} -c 20 -t set,get,incr,lpush -q >rates
redis-cli -s socket llen mylist
redis-cli -s socket shutdown nosave
wait
"""

CONFIGURE = """\
AC_INIT([sample], [1.0])
AC_PROG_CC
AC_PROG_AWK
AC_CHECK_PROGS([SOME], [nowhere nothing none sed])
AC_CHECK_HEADERS([fcntl.h sys/time.h sys/socket.h nowhere.h pthread.h])
AC_CHECK_FUNCS([mmap strlcpy no_such_function])
AC_CHECK_SIZEOF([long])
AC_C_BIGENDIAN
AC_TYPE_SIZE_T
AC_CONFIG_HEADERS([config.h])
AC_CONFIG_FILES([Makefile])
AC_OUTPUT
"""

HELLO = '#include <stdio.h>\n\nint main(void)\n{\n    printf("hello\\n");\n    return 0;\n}\n'

# A function of 20 lines with everything that a compiler works at.
FUNCTION = """\
struct part{n} {{ int key; unsigned flags[{a}]; struct part{n} *next; }};
static int table{n}[{b}];
int work{n}(struct part{n} *part, const char *text, int count)
{{
    int sum = {a};
    for (int i = 0; i < count; i++) {{
        switch ((text[i] ^ sum) % {c}) {{
        case 0: sum += table{n}[(unsigned)i % {b}]; break;
        case 1: sum ^= (int)part->flags[(unsigned)sum % {a}]; break;
        case 2: sum = sum << 3 | sum >> {c}; break;
        default: table{n}[i % {b}] = sum * {b} + part->key;
        }}
    }}
    while (part != 0 && part->key != sum) {{
        for (unsigned i = 0; i < {a}; i++) part->flags[i] += (unsigned)sum * i;
        part = part->next;
    }}
    return sum + {call};
}}
"""


def source(lines: int) -> str:
    """So many lines of C."""
    text, count = "", lines // 20
    for n in range(count):
        call = f"work{n - 1}(0, text, {n})" if n else "1"
        text += FUNCTION.format(n=n, a=3 + n % 5, b=16 + n * 7 % 50, c=4 + n % 6, call=call)
    return text


def rows(quick: bool) -> Iterator[Row]:
    """The table."""
    by = 10 if quick else 1
    for name, size in KERNELS.items():
        count = size if name == "fib" else max(1, size // by)
        yield Row(f"C {name}", "steady", ["{folder}/kernels-{isa}", name, str(count)])
    python = f"x=0\\nfor i in range({2_000_000 // by}): x=(x*3+i)%1000003\\nprint(x)"
    yield Row("python3 loop", "steady", ["{root}/usr/bin/python3.11", "-S", "-c", f"exec('''{python}''')"])
    bash = f"i=0; while [ $i -lt {200_000 // by} ]; do i=$((i+1)); done; echo $i"
    yield Row("bash loop", "steady", ["{root}/bin/bash", "-c", bash])
    perl = f'$_="foobar " x 50; $n=0; for $i (1..{20_000 // by}) {{ $n++ while /o+b(a)r/g }} print "$n\\n"'
    yield Row("perl regex", "steady", ["{root}/usr/bin/perl", "-e", perl])
    sql = (
        "create table t(a integer primary key, b text); with recursive c(x) as (values(1) union all select "
        f"x+1 from c where x<{200_000 // by}) insert into t select x, 'row'||x from c; "
        "select count(*), sum(a), max(b) from t where b like '%7%';"
    )
    yield Row("sqlite3 rows", "steady", ["{root}/usr/bin/sqlite3", ":memory:", sql])
    data = "{folder}/data.bin"
    yield Row("gzip -9", "steady", ["{root}/bin/gzip", "-9c", data])
    yield Row("xz -6", "steady", ["{root}/usr/bin/xz", "-6c", "-T1", data])
    yield Row("zstd -3", "steady", ["{root}/usr/bin/zstd", "-3", "-c", "-q", "--single-thread", data])
    # One thread, a dictionary of 256 KiB, a second for each direction; "Tot:" has MIPS of CPU time.
    seven = ["{root}/usr/lib/p7zip/7z", "b", "-mmt1", "-md18", "-mtime=1"]
    yield Row("7z b", "steady", seven, rates=r"^Tot: +\d+ +(\d+)", same=False)
    yield Row("sha256sum", "steady", ["{root}/usr/bin/sha256sum", *[data] * 5])
    openssl = "{root}/usr/bin/openssl"
    yield Row("openssl sha256", "steady", [openssl, "dgst", "-sha256", *[data] * 10])
    cipher = ["enc", "-aes-128-ctr", "-K", "0" * 32, "-iv", "0" * 32, "-in", data]
    yield Row("openssl aes-ctr", "steady", [openssl, *cipher])
    for name, words in {
        "gcm speed": ["-evp", "aes-128-gcm", "-bytes", "16384"],
        "rsa2048": ["rsa2048"],
        "ecdsap256": ["ecdsap256"],
    }.items():
        # To sign and to verify, of the last two.
        speed = [openssl, "speed", "-mr", "-seconds", "1", *words]
        yield Row(f"openssl {name}", "steady", speed, rates=r"^\+F.*?((?::\d+\.\d+)+)$", same=False)
    gcc = "{root}/usr/bin/gcc-12"
    yield Row("gcc -O2 -c", "steady", [gcc, "-O2", "-c", "{folder}/big.c"], children=True)
    yield Row("node", "steady", ["{root}/usr/bin/node", "{folder}/script.js"])
    redis = REDIS.format(count=20_000 // by)
    yield Row("redis-benchmark", "steady", ["{root}/bin/bash", "-c", redis], children=True)

    yield Row("true", "start", ["{root}/bin/true"])
    yield Row("python3 -S -c pass", "start", ["{root}/usr/bin/python3.11", "-S", "-c", "pass"])
    subshells = f"for i in {{1..{100 // by}}}; do (:); done"
    yield Row("100 bash subshells", "start", ["{root}/bin/bash", "-c", subshells])
    children = f"for i in {{1..{200 // by}}}; do {{root}}/bin/true; done"
    yield Row("200 x /bin/true", "start", ["{root}/bin/bash", "-c", children], children=True)
    yield Row("git status", "start", ["{root}/usr/bin/git", "-C", "{folder}/repository", "status"])
    configure = ["{root}/bin/dash", "{folder}/configure", "CONFIG_SHELL={root}/bin/dash", "CC=gcc-12"]
    yield Row("configure", "start", configure, children=True)
    yield Row("gcc hello.c", "start", [gcc, "-o", "hello", "{folder}/hello.c"], children=True)


def prepare(folder: Path, quick: bool, native: Callable[[list[str], Path], object]) -> None:
    """Writes what the rows want; `native` runs a program of this host's sysroot in a folder."""
    size = (2 if quick else 20) << 20
    texts = b"".join(
        (HERE.parent / name).read_bytes() for name in ("README.md", "LICENSE", "ARCHITECTURE.md")
    )
    blob = bytearray()
    step = 0
    while len(blob) < size:
        blob += texts[step % 5000 :]
        blob += step.to_bytes(8, "little") * 3
        step += 977
    (folder / "data.bin").write_bytes(bytes(blob[:size]))
    for isa, compiler in {"x86_64": "gcc", "aarch64": "aarch64-linux-gnu-gcc"}.items():
        words = [
            compiler,
            "-O2",
            "-static",
            "-o",
            str(folder / f"kernels-{isa}"),
            str(HERE / "guest/bench.c"),
        ]
        subprocess.run(words, check=True)
    (folder / "big.c").write_text(source(200 if quick else 2000))
    (folder / "hello.c").write_text(HELLO)
    (folder / "script.js").write_text(SCRIPT.replace("SIZE", "3000" if quick else "30000"))
    (folder / "configure.ac").write_text(CONFIGURE)
    for name in ("config.h.in", "Makefile.in"):
        (folder / name).write_text("")
    try:
        native(["{root}/usr/bin/autoconf"], folder)
    except (OSError, RuntimeError) as error:  # where it has no root of its own
        print(f"no configure script: {error}")
    repository = folder / "repository"
    for n in range(400):
        file = repository / f"part{n % 20}" / f"file{n}.c"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"int number{n} = {n};\n" * 20)
    git = ["{root}/usr/bin/git", "-c", "user.name=A", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "All."]):
        native([*git, *words], repository)
    for n in range(0, 400, 40):
        (repository / f"part{n % 20}" / f"new{n}.c").write_text("")

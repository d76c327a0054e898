"""The host's own x86-64 programs under kvm, beside themselves: what they print, and what they cost.

    python benchmarks/bench_host_programs.py [--rounds N] [--only NAME ...] [--json FILE]

Dynamic programs as the distribution built them: shells and their children, threads, JIT compilers, compilers.
Each runs in a fresh folder, natively and under `emu --accel kvm` by turns, children included.  Figures are
CPU seconds of all processes, medians of the rounds, and the median of the rounds' ratios; where an exit is
dear (`emu bench --suite syscall`), programs with many system calls are.  Output, files' names and exit status
must be the same in both, or the row says so; programs that are not installed are left out with a line.
Asserts nothing.  Ctrl-C keeps what is done.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from emu.bench.peers import no_kvm

ROOT = Path(__file__).parent.parent
TIMEOUT = 300  # seconds for one run

NBODY = """
import math
def step(bodies, dt):
    for i, (x1, y1, v1, m1) in enumerate(bodies):
        for x2, y2, v2, m2 in bodies[i + 1 :]:
            dx, dy = x1[0] - x2[0], y1[0] - y2[0]
            mag = dt / (dx * dx + dy * dy + 0.01) ** 1.5
            v1[0] -= dx * m2 * mag; v1[1] -= dy * m2 * mag
            v2[0] += dx * m1 * mag; v2[1] += dy * m1 * mag
    for x, y, v, m in bodies:
        x[0] += dt * v[0]; y[0] += dt * v[1]
bodies = [([math.cos(i)], [math.sin(i)], [0.1 * i, 0.2], 1 + i) for i in range(6)]
for _ in range(15000): step(bodies, 0.001)
print(["%.9f" % b[0][0] for b in bodies])
"""
THREADS = """
import concurrent.futures, hashlib, queue, subprocess, threading, zlib
data = [bytes((i * j) & 255 for i in range(1 << 16)) * 16 for j in range(8)]
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(list(pool.map(lambda d: hashlib.sha256(d).hexdigest()[:8], data * 8))[:3])
    print(sum(pool.map(lambda d: len(zlib.compress(d)), data * 4)))
    print(list(pool.map(lambda i: subprocess.run(["/bin/sh", "-c", f"exit {i}"]).returncode, range(12))))
full, total = queue.Queue(4), []
def take():
    while (item := full.get()) is not None: total.append(item)
thread = threading.Thread(target=take); thread.start()
for i in range(3000): full.put(i)
full.put(None); thread.join(); print(sum(total))
"""
C = """
#include <stdio.h>
#include <math.h>
int main(void)
{
    double s = 0;
    for (int i = 1; i < 3000000; i++) s += sin(i) / i;
    return printf("%.12f\\n", s) < 0;
}
"""
GIT = """
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' HOME=$PWD
git init -q -b trunk . && git config user.name me && git config user.email me@example.org
for i in 1 2 3 4 5; do seq $i 3000 > file$i; git add -A; git commit -q -m "number $i"; done
git log --stat --format='%H %s' | tail -20; git fsck --full 2>&1; git grep -c 77 | head -3; git gc -q
"""
MAKE = """
for i in 1 2 3 4 5 6; do echo "int f$i(int x) { return x * $i; }" > f$i.c; done
printf 'all: f1.o f2.o f3.o f4.o f5.o f6.o\\n\\t@cat $^ | wc -c\\n.c.o:\\n\\t@cc -c -O2 $<\\n' > Makefile
make -s -j2
"""
SQL = """
create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000)
insert into t select i, hex(i) from n;
create index t_b on t(b); select count(*), sum(a), max(b) from t where b like '3%'; pragma integrity_check;
"""
NODE = """
const {Worker, isMainThread, parentPort} = require('worker_threads');
function primes(n) { const s = new Uint8Array(n); let c = 0;
  for (let i = 2; i < n; i++) { if (!s[i]) { c++; for (let j = 2 * i; j < n; j += i) s[j] = 1; } } return c; }
if (isMainThread) { for (let i = 0; i < 2; i++) new Worker(__filename).on('message', m => console.log(m)); }
else parentPort.postMessage(primes(5000000));
"""
SHELL = """
f() { local i=0 s=0; while [ $i -lt 40000 ]; do s=$(( (s * 31 + i) % 65521 )); i=$((i + 1)); done; echo $s; }
f; for i in 1 2 3 4 5 6 7 8 9 10; do echo $(f2=$(echo $i | tr 0-9 a-j); echo $f2); done | sort -r | md5sum
trap 'echo usr1' USR1; kill -USR1 $$; (exit 7); echo $?
"""
ARCHIVE = """
seq 1 300000 > n
tar -cf - n | xz -T2 -2 | xz -dc | tar -xOf - | sha256sum
zstd -q -T2 -9 n; zstd -dc n.zst | wc
"""
PERL = "for (1..300000) { $h{$_ % 997} .= $_ if /7.*3/ } print length join '', values %h"
AWK = 'BEGIN { for (i = 0; i < 2000000; i++) s += sqrt(i) % 7; printf "%.6f\\n", s }'
SORT = "seq 1 400000 > n; sort --parallel=2 -S 4M -k1.3 n | sha256sum"
OPENSSL = """
openssl ecparam -genkey -name prime256v1 -out key && seq 1 4000000 > n && openssl sha256 n
openssl dgst -sign key -out s n && openssl dgst -prverify key -signature s n
openssl enc -aes-256-cbc -pbkdf2 -pass pass:word -in n | openssl enc -d -aes-256-cbc -pbkdf2 -pass pass:word | cmp - n
"""  # noqa: E501

# name: programs that must be there, the words; {file} is a file with the text
PROGRAMS: dict[str, tuple[list[str], list[str], str]] = {
    "bash": (["bash"], ["bash", "-c", SHELL], ""),
    "python3": (["python3"], ["/usr/bin/python3", "-c", NBODY], ""),
    "python3 threads": (["python3"], ["/usr/bin/python3", "-c", THREADS], ""),
    "perl": (["perl"], ["perl", "-e", PERL], ""),
    "gawk": (["gawk"], ["gawk", AWK], ""),
    "git": (["git"], ["sh", "-c", GIT], ""),
    "gcc": (["gcc"], ["sh", "-c", "gcc -O2 {file} -lm -o p && ./p"], C),
    "make -j2": (["make", "cc"], ["sh", "-c", MAKE], ""),
    "tar xz zstd": (["xz", "zstd"], ["sh", "-c", ARCHIVE], ""),
    "sort": (["sort"], ["sh", "-c", SORT], ""),
    "openssl": (["openssl"], ["sh", "-c", OPENSSL], ""),
    "sqlite3": (["sqlite3"], ["sqlite3", "d", SQL], ""),
    "node": (["node"], ["node", "{file}"], NODE),
}


def once(words: list[str], text: str) -> tuple[float, str]:
    """CPU seconds, and all that can be compared."""
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        file = Path(folder) / "source.c"
        if text:
            file.write_text(text)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [word.replace("{file}", str(file)) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            timeout=TIMEOUT,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        names = sorted(path.name for path in Path(folder).iterdir())
        output = done.stdout.decode(errors="replace").replace(folder, "FOLDER")
    return (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        f"status {done.returncode}, files {' '.join(names)}\n{output}",
    )


def measure(names: list[str], rounds: int) -> list[dict[str, Any]]:
    """A row for each program."""
    rows = []
    emu = [sys.executable, "-m", "emu", "--accel", "kvm"]
    for name in names:
        needed, words, text = PROGRAMS[name]
        missing = [program for program in needed if shutil.which(program) is None]
        if missing:
            print(f"n/a {name}: no {' '.join(missing)}", file=sys.stderr)
            continue
        pairs: list[tuple[float, float]] = []
        row: dict[str, Any] = {"program": name, "same": True}
        try:
            for _ in range(rounds):
                native, expected = once(words, text)
                ours, output = once([*emu, shutil.which(words[0]) or words[0], *words[1:]], text)
                pairs.append((native, ours))
                if output != expected:
                    row |= {"same": False, "expected": expected, "output": output}
        except subprocess.TimeoutExpired as error:
            row |= {"same": False, "expected": "an end", "output": str(error)}
        except KeyboardInterrupt:
            print("interrupted: what is done follows", file=sys.stderr)
            names.clear()
        if pairs:
            row |= {
                "native_s": round(statistics.median(native for native, _ in pairs), 3),
                "kvm_s": round(statistics.median(ours for _, ours in pairs), 3),
                "ratio": round(statistics.median(ours / native for native, ours in pairs), 2),
            }
        rows.append(row)
        show(row)
    return rows


def show(row: dict[str, Any]) -> None:
    same = "same output" if row["same"] else "OUTPUT DIFFERS"
    if "ratio" in row:
        print(f"{row['program']:<16} native {row['native_s']:>7.3f} s   kvm {row['kvm_s']:>7.3f} s", end="")
        print(f"   {row['ratio']:>6.2f}   {same}", flush=True)
    if not row["same"]:
        print(f"--- expected\n{row['expected']}\n--- under kvm\n{row['output']}\n---", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="The host's own programs under kvm, beside themselves.")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    parser.add_argument("--only", action="append", choices=list(PROGRAMS), help="this one; repeatable")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    if reason := no_kvm("x86_64", "program"):
        print(f"n/a kvm: {reason}", file=sys.stderr)
        return 0
    rows = measure(options.only or list(PROGRAMS), options.rounds)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

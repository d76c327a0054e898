"""Programs for x86-64 under --accel kvm: the same program, run by the host itself, is the oracle."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import usable
from tests.linux.programs import build, native, run
from tests.linux.test_signals_delivery import DEADLY
from tests.linux.test_signals_delivery import PARTS as SIGNALS
from tests.linux.test_syscalls_calls import PARTS as CALLS

GUESTS = Path(__file__).parent / "guests"

pytestmark = pytest.mark.usefixtures("kvm")


@pytest.fixture(scope="module")
def kvm() -> None:
    usable("kvm")


def under_kvm(*words: str | Path):
    return run([sys.executable, "-m", "emu", "--accel", "kvm", *words])


def host_program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed on this host, whose own programs are run here")
    return path


@pytest.mark.parametrize("part", SIGNALS)
def test_signals_arrive_as_in_a_native_program(part):
    assert under_kvm(build("signals", "x86_64"), part) == native("signals", part)


@pytest.mark.parametrize("part", CALLS)
def test_system_calls_give_what_they_give_a_native_program(part):
    assert under_kvm(build("calls", "x86_64"), part) == native("calls", part)


def test_vectors_survive_signals_and_exceptions_have_linuxs_codes():
    outcome = under_kvm(build("extended", "x86_64"))
    assert outcome == native("extended")
    assert outcome.status == 0


@pytest.mark.parametrize("sig", DEADLY)
def test_a_deadly_signal_is_seen_by_the_parent(sig):
    assert under_kvm(build("frames", "x86_64"), "die", str(int(sig))).status == -sig


def test_numbers_beyond_the_table_do_not_exist():
    outcome = under_kvm(build("numbers", "x86_64"))
    assert (set(outcome.output.splitlines()), outcome.status) == ({"ENOSYS"}, 0)


@pytest.mark.parametrize("source", ["memory", "code", "faults", "kick", "spawn", "echo"])
@pytest.mark.parametrize("flags", [(), ("-static",)], ids=["dynamic", "static"])
def test_a_guest_prints_what_it_prints_natively(tmp_path, source, flags):
    program = tmp_path / source
    assert run([host_program("gcc"), "-O1", "-w", *flags, "-o", program, GUESTS / f"{source}.c"]).status == 0
    assert under_kvm(program) == run([program])


SCRIPT = """
i=0; while [ $i -lt 5 ]; do /bin/true; (exit 3) || i=$((i+1)); done
seq 1 2000 | sort -rn | head -3
for f in 3 4 5 6 7 8 9 200; do eval "exec $f>/dev/null"; done
ulimit -n 256; echo $(ls / | wc -l) $(cat /proc/self/comm)
kill -TERM $$
"""


def test_a_shell_forks_pipes_and_takes_any_descriptor_it_likes():
    bash = host_program("bash")
    assert under_kvm(bash, "-c", SCRIPT) == run([bash, "-c", SCRIPT])


DESCRIPTORS = """
import os, resource, subprocess
print(subprocess.run(["/bin/sh", "-c", "exit 7"], close_fds=True).returncode)
for fd in range(3, 5000):
    try: os.close(fd)
    except OSError: pass
os.closerange(3, 100000)
pid = os.fork()
if pid == 0: os._exit(9)
print(os.waitpid(pid, 0)[1] >> 8)
os.posix_spawn("/bin/echo", ["echo", "spawned"], os.environ); print(os.wait()[1])
"""


def test_closing_every_descriptor_does_not_end_the_program():
    python = host_program("python3")
    assert under_kvm(python, "-c", DESCRIPTORS) == run([python, "-c", DESCRIPTORS])


def test_a_big_program_computes_what_it_computes_natively():
    python = host_program("python3")
    code = (
        "import hashlib, math, zlib, json\n"
        "data = bytes(i * i & 255 for i in range(1 << 18))\n"
        "print(hashlib.sha256(data).hexdigest(), zlib.crc32(data), len(zlib.compress(data)))\n"
        "print([math.sin(i) ** 0.5 if math.sin(i) > 0 else math.exp(i) for i in range(99)], 3**3000)\n"
        "print(json.dumps({str(i): [i / 7] for i in range(500)}))"
    )
    assert under_kvm(python, "-c", code) == run([python, "-c", code])


THREADS = """
import concurrent.futures, hashlib, queue, subprocess, threading
data = [bytes((i * j) & 255 for i in range(1 << 12)) * 64 for j in range(8)]
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(list(pool.map(lambda d: hashlib.sha256(d).hexdigest(), data * 4)))
    print(list(pool.map(lambda i: subprocess.run(["/bin/sh", "-c", f"exit {i}"]).returncode, range(8))))
full, total = queue.Queue(4), []
def take():
    while (item := full.get()) is not None: total.append(item)
threads = [threading.Thread(target=take) for _ in range(3)]
for thread in threads: thread.start()
for i in range(300): full.put(i)
for thread in threads: full.put(None)
for thread in threads: thread.join()
print(sum(total))
"""


def test_threads_compute_wait_for_one_another_and_start_children_as_natively():
    python = host_program("python3")
    assert under_kvm(python, "-c", THREADS) == run([python, "-c", THREADS])


def test_a_program_for_another_isa_is_refused_with_the_remedy():
    outcome = under_kvm(build("numbers", "aarch64"))
    assert outcome.status != 0
    assert "--accel tcg" in outcome.output
    assert outcome.output.count("\n") == 1

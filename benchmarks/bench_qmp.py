"""QMP's times: a machine's start until it answers, a round trip, and what polling statistics costs.

    python benchmarks/bench_qmp.py [--emu COMMAND]

The guest is a loop of one instruction or two.  Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPINNING = (0x1400_0000).to_bytes(4, "little")  # b .
ASLEEP = (0xD503_207F).to_bytes(4, "little") + (0x17FF_FFFF).to_bytes(4, "little")  # wfi; b .-4


class Client:
    def __init__(self, path: str) -> None:
        end = time.monotonic() + 60
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                self.socket.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.0005)
        self.file = self.socket.makefile("rb")
        json.loads(self.file.readline())
        self.ask("qmp_capabilities")

    def ask(self, name: str, **arguments: object) -> object:
        self.socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())
        while True:
            reply = json.loads(self.file.readline())
            if "event" not in reply:
                return reply.get("return")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine(
    command: list[str], kernel: bytes, folder: str, *options: str
) -> tuple[subprocess.Popen[bytes], str]:
    path = f"{folder}/qmp"
    image = Path(folder) / "kernel"
    image.write_bytes(kernel)
    words = ["boot", "--arch", "aarch64", "--accel", "tcg", "--serial", "null", "--kernel", str(image)]
    return subprocess.Popen([*command, *words, "--qmp", f"unix:{path},server=on,wait=off", *options]), path


def start(command: list[str]) -> float:
    """Milliseconds from the process's start to the first reply."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        process, path = machine(command, ASLEEP, folder, "--paused")
        client = Client(path)
        took = time.perf_counter() - began
        client.ask("quit")
        process.wait()
    return took * 1e3


def trips(command: list[str], kernel: bytes, count: int, name: str, **arguments: object) -> list[float]:
    """Microseconds of each round trip."""
    with tempfile.TemporaryDirectory() as folder:
        process, path = machine(command, kernel, folder)
        client = Client(path)
        times = []
        for _ in range(count):
            began = time.perf_counter()
            client.ask(name, **arguments)
            times.append((time.perf_counter() - began) * 1e6)
        client.ask("quit")
        process.wait()
    return times


def polling(command: list[str], seconds: float) -> float:
    """Percent of a core that a client costs which polls as libvirt's dommemstat, domblkstat and domstate do,
    once a second; the guest sleeps."""
    with tempfile.TemporaryDirectory() as folder:
        process, path = machine(command, ASLEEP, folder)
        client = Client(path)
        balloon = "/machine/peripheral-anon/device[1]"
        client.ask("qom-set", path=balloon, property="guest-stats-polling-interval", value=1)
        time.sleep(1)
        used = []
        for polls in (False, True):
            before = cpu_seconds(process.pid)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if polls:
                    client.ask("query-status")
                    client.ask("query-balloon")
                    client.ask("qom-get", path=balloon, property="guest-stats")
                    client.ask("query-blockstats")
                time.sleep(1)
            used.append(cpu_seconds(process.pid) - before)
        client.ask("quit")
        process.wait()
    print(f"  idle {used[0]:.2f} s, polled {used[1]:.2f} s of CPU time in {seconds:.0f} s each")
    return max(0.0, used[1] - used[0]) / seconds * 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--emu", default=f"{sys.executable} -m emu", help="the command (default: this Python's)"
    )
    command = shlex.split(parser.parse_args().emu)
    start(command)  # the host's caches
    times = [start(command) for _ in range(9)]
    print(f"start to first reply      {statistics.median(times):7.1f} ms   (least {min(times):.1f})")
    for title, kernel in (("guest asleep", ASLEEP), ("guest busy", SPINNING)):
        trip = trips(command, kernel, 2000, "query-status")
        print(
            f"query-status, {title:<12}{statistics.median(trip):7.0f} us   (least {min(trip):.0f},"
            f" 99 % within {statistics.quantiles(trip, n=100)[98]:.0f})"
        )
    trip = trips(command, ASLEEP, 300, "query-qmp-schema")
    print(f"query-qmp-schema          {statistics.median(trip) / 1e3:7.1f} ms")
    print(f"polling once a second     {polling(command, 20):7.2f} % of a core")


if __name__ == "__main__":
    main()

"""`emu trace boot`: what a small guest does to its board, by the board's names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
EMU = [sys.executable, "-c", "import sys; from emu.cli import main; sys.exit(main())", "trace"]
# mov x1, #0x09000000; mov w2, #'A'; str w2, [x1]; mov w0, #0x84000008 (PSCI SYSTEM_OFF); hvc #0; b .
PRINT_A = b"".join(
    word.to_bytes(4, "little")
    for word in (0xD2A12001, 0x52800822, 0xB9000022, 0x52800100, 0x72B08000, 0xD4000002, 0x14000000)
)


def trace(tmp_path: Path, *words: str) -> list[dict]:
    (tmp_path / "kernel").write_bytes(PRINT_A)
    options = ["--format", "jsonl", "-o", str(tmp_path / "trace"), *words]
    guest = ["boot", "--accel", "tcg", "--kernel", str(tmp_path / "kernel"), "--timeout", "60"]
    done = subprocess.run([*EMU, *options, *guest], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "A"), done.stderr
    return [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]


def test_a_guest_s_access_is_told_by_device_and_register(tmp_path: Path) -> None:
    (access,) = trace(tmp_path)
    wanted = {"event": "mmio", "way": "write", "device": "serial0", "register": "DR", "address": "0x9000000"}
    assert wanted.items() <= access.items()
    assert int(access["value"], 16) == ord("A")
    assert not trace(tmp_path, "--device", "flash1")


def test_a_machine_s_instructions_are_told_as_the_guest_was_written(tmp_path: Path) -> None:
    events = trace(tmp_path, "--what", "instructions,exceptions")
    told = [each for each in events if each["event"] == "instruction"]
    told = told[next(n for n, each in enumerate(told) if each["bytes"] == PRINT_A[:4].hex()) :]
    assert [each["bytes"] for each in told][:5] == [PRINT_A[n : n + 4].hex() for n in range(0, 20, 4)]
    assert [each["text"] for each in told][:3] == ["mov x1, #0x9000000", "mov w2, #0x41", "str w2, [x1]"]
    assert told[0]["registers"] == {"x1": "0x9000000"}
    assert [each["name"] for each in events if each["event"] == "exception"] == ["hvc"]

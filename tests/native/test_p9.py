"""The 9P server against a hostile client, under sanitizers.

EMU_FUZZ_CASES in the environment sets how many requests.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDERS = [ROOT / "emu/virtio/native", ROOT / "accel/native"]
SOURCES = [*(FOLDERS[0] / f"{name}.c" for name in ("p9", "p9_files", "virtqueue")), FOLDERS[1] / "map.c"]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]


def test_no_request_reaches_outside_the_share_or_breaks_the_server(tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (gcc) to build the native tests with")
    program, seed = tmp_path / "fuzz_p9", random.randrange(1 << 32)
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    includes = [word for folder in FOLDERS for word in ("-I", str(folder))]
    source = Path(__file__).parent / "fuzz_p9.c"
    command = [compiler, *FLAGS, *sanitize, *includes, str(source), *map(str, SOURCES), "-o", str(program)]
    subprocess.run([*command, "-pthread"], check=True, timeout=120)
    place = tmp_path / "place"
    share = place / "share"
    (share / "d").mkdir(parents=True)
    (place / "secret").write_text("as it was")
    (share / "a").write_text("a file")
    (share / "link").symlink_to("..")
    os.mkfifo(share / "fifo")
    before = (place / "secret").stat()
    cases = os.environ.get("EMU_FUZZ_CASES", "20000")
    done = subprocess.run(
        [program, place, cases, str(seed)], capture_output=True, text=True, timeout=60 + int(cases) // 500
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr[-3000:]}"
    after = (place / "secret").stat()
    assert (place / "secret").read_text() == "as it was", seed
    assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_nlink,
    ), seed
    assert sorted(path.name for path in place.iterdir()) == ["secret", "share"], seed
    for folder, folders, files in os.walk(share):
        for name in (*folders, *files):
            mode = (Path(folder) / name).lstat().st_mode
            assert not stat.S_ISCHR(mode), seed
            assert not stat.S_ISBLK(mode), seed
            assert not mode & stat.S_ISUID, seed

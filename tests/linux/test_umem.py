"""The guest's address space against a model of every page, under ASan and UBSan."""

from __future__ import annotations

import subprocess


def test_random_mappings_are_what_a_model_says(sanitized):
    fuzzer = sanitized("fuzz_umem", "emu/linux/native/umem.c")
    done = subprocess.run([fuzzer, "300"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]

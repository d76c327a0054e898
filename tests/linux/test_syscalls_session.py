"""A long shell session gives on every architecture what Debian's busybox for amd64 gives natively."""

import platform
import sys

import pytest

from tests.linux.programs import SOURCES, run
from tests.linux.test_debian import package

SCRIPT = SOURCES / "session.sh"
# No PATH: every command is an applet, which busybox starts as another of its kind.
ALONE = ("env", "-i", "PATH=/none", "HOME=/")


@pytest.mark.parametrize("architecture", ["arm64", "armhf"])
def test_a_shell_session_goes_as_it_goes_natively(architecture):
    if platform.machine() != "x86_64":
        pytest.skip(f"the oracle is busybox for amd64, and this host is {platform.machine()}")
    oracle = run([*ALONE, package("busybox-static", "amd64") + "/bin/busybox", "sh", SCRIPT])
    guest = package("busybox-static", architecture) + "/bin/busybox"
    outcome = run([*ALONE, sys.executable, "-m", "emu", guest, "sh", SCRIPT])
    assert outcome == oracle
    assert outcome.output.endswith("done\n")

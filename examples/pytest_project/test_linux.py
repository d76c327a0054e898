"""Linux, with a script as all that it does: Debian's kernel and busybox, fetched by apt the first time."""

import re

import pytest

from accel.errors import Unavailable
from emu.images import busybox
from emu.pytest_plugin import Machines


def test_linux_boots_and_runs_a_script(emu_machine: Machines) -> None:
    try:
        kernel, initrd = busybox.kernel(), busybox.initrd("uname -m; echo $((6 * 7))", modules=[])
    except Unavailable as error:
        pytest.skip(str(error))
    machine = emu_machine(
        "virt", arch="aarch64", kernel=kernel, initrd=initrd, append="console=ttyAMA0 quiet"
    )
    assert machine.console.expect(re.compile(r"^aarch64\n(\d+)\n", re.MULTILINE)).group(1) == "42"
    assert machine.run(timeout=60).reason == "guest-shutdown"

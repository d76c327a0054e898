"""The bare-metal samples: one UART device, four architectures, every accelerator that can run them."""

import pytest

from accel.choice import choose
from accel.errors import EmuError, Unsupported
from emu.samples.greeting import BOARDS, greeting


@pytest.mark.parametrize("accel", ["kvm", "tcg"])
@pytest.mark.parametrize("arch", BOARDS)
def test_a_guest_greets_through_the_uart(arch: str, accel: str) -> None:
    try:
        choose(accel, arch, "machine")
    except Unsupported:
        with pytest.raises(Unsupported):
            greeting(arch, accel)
        return
    except EmuError as error:
        pytest.skip(str(error))
    assert greeting(arch, accel, timeout=60) == f"Greetings from {arch}, by way of a 16550.\n"

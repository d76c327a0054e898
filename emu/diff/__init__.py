"""The same guest on two engines, instruction by instruction, up to the first difference.

with Machine("pc", accel="kvm", kernel=image) as one, Machine("pc", accel="tcg", kernel=image) as two:
    print(lockstep(one, two))

lockstep.py   two sides, compared; what a difference is
machines.py   a machine as a side; programs.py: a Linux program
undefined.py  flags that the manual leaves open
text.py       what was found, in words and in JSON; command.py: emu diff
"""

from emu.diff.lockstep import Difference, Found, lockstep
from emu.diff.programs import compare

__all__ = ["Difference", "Found", "compare", "lockstep"]

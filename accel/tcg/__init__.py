"""Translation: guests of any instruction set, on Unicorn.

unicorn.py is the accelerator; its run loop, the memory map as Unicorn sees it, exceptions and interrupts are
C (native/uc_machine.c and its siblings), and a device's register without a hook is read without Python.
registers.py says where Unicorn has the registers that isa names.
"""

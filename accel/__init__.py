"""What a vCPU's exit touches: the memory map, interrupt lines, the clock, and the two accelerators.

The life of an access: an engine (KVM_EXIT_MMIO or Unicorn's MMIO callback) calls `emu_space_read/write` in
C with an address; the flat view gives the region; a doorbell writes an eventfd, a register without a hook
is answered in C, and only a hooked register calls Python, through one callback, with the offset inside the
region.  A device knows neither its address nor who delivers its interrupts.

Nothing here imports `emu`; `isa` is imported for names of registers (tests/test_layout.py holds the arrow).
"""

"""What CPUs look like to a program: registers, calling conventions, system-call numbers, ELF identities.

Theory of operation
-------------------
This package is data. It says what an instruction set and its Linux ABI *are*; it executes nothing, opens
no device, and knows nothing of the packages above it (`isa <- accel <- emu`). The standard library is enough.

`isa.arch`       `Arch` and `Register`; `find` by name or alias, `by_elf` by ELF header, `names`
`isa.abi`        `Abi`: which register holds what at a call and at a system call, instruction bytes
`isa.gdb`        types of the GDB target description, and the description itself as XML
`isa.syscalls`   numbers, argument lists and structures of the Linux system calls, read from text tables
`isa.x86_64`, `isa.aarch64`, `isa.arm`, `isa.riscv64`   one `ARCH` each

A start of the emulator needs one architecture and often no system-call table, so nothing is read before it is
asked for: importing `isa.arch` imports no architecture, `find` imports exactly one, and `isa.syscalls.load`
reads the tables of one ABI. Identities (aliases, ELF numbers) stand in `isa.arch` for the same reason: a
lookup that fails imports nothing.

A fact stands in one table. Register tables feed the GDB server, the monitor, snapshots and traces; tables
of system calls feed the generated C dispatch, the tracer and the documentation. Adding an architecture is one
line in `isa.arch`, one module, and one number table.
"""

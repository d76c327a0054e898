/* The ABIs that a process can have. */
#include "runtime.h"

static const emu_abi abis[] = {
    {.isa = EMU_ISA_AARCH64,
     .elf_machine = 183,
     .elf_class = 2,
     .word = 8,
     .sp = 31,
     .result = 0,
     .bits = 46,
     .call = 4,
     .name = "aarch64",
     .machine = "aarch64",
     .platform = "aarch64"},
    {.isa = EMU_ISA_ARM,
     .elf_machine = 40,
     .elf_class = 1,
     .word = 4,
     .sp = 13,
     .result = 0,
     .bits = 32,
     .call = 4,
     .name = "arm",
     .machine = "armv7l",
     .platform = "v7l"},
    {.isa = EMU_ISA_RISCV64,
     .elf_machine = 243,
     .elf_class = 2,
     .word = 8,
     .sp = 2,
     .result = 10,
     .bits = 46,
     .call = 4,
     .name = "riscv64",
     .machine = "riscv64",
     .platform = NULL},
    {.isa = EMU_ISA_X86_64,
     .elf_machine = 62,
     .elf_class = 2,
     .word = 8,
     .sp = 4,
     .result = 0,
     .bits = 46,
     .call = 2,
     .name = "x86_64",
     .machine = "x86_64",
     .platform = "x86_64"},
};

const emu_abi *emu_abi_of_machine(uint16_t elf_machine, uint8_t elf_class)
{
    for (size_t i = 0; i < sizeof abis / sizeof *abis; i++)
        if (abis[i].elf_machine == elf_machine && abis[i].elf_class == elf_class)
            return &abis[i];
    return NULL;
}

const emu_abi *emu_abi_of_isa(uint32_t isa)
{
    for (size_t i = 0; i < sizeof abis / sizeof *abis; i++)
        if (abis[i].isa == isa)
            return &abis[i];
    return NULL;
}

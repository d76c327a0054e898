/* x86-64 machines: reset state, exceptions, INTR and NMI, ports, SYSCALL. */
#include "uc_machine.h"

#include <dlfcn.h>

static int reset_x86(emu_uc_machine *m, const emu_uc_config *config)
{
    void (*reset)(void *) = (void (*)(void *))dlsym(uc_lib.handle, "cpu_reset");
    if (reset == NULL)
        return -1;
    reset(m->cpu);
    return 0;
}

static void exception_x86(emu_uc_machine *m, uint32_t number, bool invalid)
{
    m->do_interrupt(m->cpu);
}

static void lines_x86(emu_uc_machine *m)
{
}

static int access_x86(emu_uc_machine *m, const emu_uc_reg *reg, uint64_t *value, bool write)
{
    if (reg->id != EMU_UC_SYSTEM)
        return -1;
    uc_x86_msr msr = {.rid = reg->code[0], .value = *value};
    uc_err error =
        write ? uc_reg_write(m->uc, UC_X86_REG_MSR, &msr) : uc_reg_read(m->uc, UC_X86_REG_MSR, &msr);
    *value = msr.value;
    return error == UC_ERR_OK ? 0 : -1;
}

const struct isa emu_uc_x86_64 = {
    .isa = EMU_ISA_X86_64,
    .suffix = "x86_64",
    .arch = UC_ARCH_X86,
    .mode = UC_MODE_64,
    .model = UC_CPU_X86_QEMU64,
    .pc = UC_X86_REG_RIP,
    .do_interrupt = "x86_cpu_do_interrupt",
    .exec_interrupt = "x86_cpu_exec_interrupt",
    .space = UINT64_C(1) << 40,
    .reset = reset_x86,
    .exception = exception_x86,
    .lines = lines_x86,
    .access = access_x86,
};

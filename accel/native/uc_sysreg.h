/* How the library describes Arm's system registers (its ARMCPRegInfo), on the private path. */
#ifndef EMU_UC_SYSREG_H
#define EMU_UC_SYSREG_H

#include "uc_machine.h"

/* Offsets within a description. */
enum {
    INFO_NAME = 0x00,   /* const char * */
    INFO_CODE = 0x08,   /* bytes: cp crn crm op0 op1 op2 */
    INFO_STATE = 0x10,  /* uint32_t: 1 AArch64 alone */
    INFO_TYPE = 0x14,
    INFO_ACCESS = 0x18, /* bits by level: EL1 and up 0xfc, EL2 and up 0xf0 */
    INFO_RESET = 0x28,  /* uint64_t: the value, where it is a constant */
    INFO_READ = 0x50,   /* uint64_t (*)(void *env, const void *info) */
    INFO_WRITE = 0x58,  /* void (*)(void *env, const void *info, uint64_t value) */
    INFO_SIZE = 0x88,

    INFO_CONST = 0x0002, /* of the type: a constant that the translator knows */
    INFO_NO_RAW = 0x0080,
};

/* The description of the register that `cp` names (an uc_arm64_cp_reg or uc_arm_cp_reg); NULL: there is none. */
uint8_t *emu_uc_describe(emu_uc_machine *m, int reg, void *cp);

#endif

/* What the CPU can do that the user-mode engine over Unicorn is: AT_HWCAP. */
#include "uc_user.h"

static uint64_t id_register(emu_engine *engine, uint32_t crm, uint32_t op2)
{
    uc_arm64_cp_reg reg = {.op0 = 3, .op1 = 0, .crn = 0, .crm = crm, .op2 = op2};
    return uc_reg_read(engine->uc, UC_ARM64_REG_CP_REG, &reg) == UC_ERR_OK ? reg.val : 0;
}

static unsigned field(uint64_t value, unsigned shift)
{
    return (unsigned)(value >> shift & 15);
}

/*
 * Linux arch/arm64/include/uapi/asm/hwcap.h, derived from the ID registers (Arm
 * ARM D19.2).  Left out: SVE, pointer authentication and MTE, which need a
 * kernel that switches them on.
 */
static void hwcap_aarch64(emu_engine *engine, uint64_t out[2])
{
    uint64_t isar0 = id_register(engine, 6, 0);
    uint64_t isar1 = id_register(engine, 6, 1);
    uint64_t pfr0 = id_register(engine, 4, 0);
    const struct {
        uint64_t reg;
        uint8_t shift, least, word, bit;
    } caps[] = {
        {isar0, 4, 1, 0, 3},   /* AES */
        {isar0, 4, 2, 0, 4},   /* PMULL */
        {isar0, 8, 1, 0, 5},   /* SHA1 */
        {isar0, 12, 1, 0, 6},  /* SHA2 */
        {isar0, 16, 1, 0, 7},  /* CRC32 */
        {isar0, 20, 2, 0, 8},  /* ATOMICS */
        {isar0, 28, 1, 0, 12}, /* ASIMDRDM */
        {isar0, 32, 1, 0, 17}, /* SHA3 */
        {isar0, 36, 1, 0, 18}, /* SM3 */
        {isar0, 40, 1, 0, 19}, /* SM4 */
        {isar0, 44, 1, 0, 20}, /* ASIMDDP */
        {isar0, 12, 2, 0, 21}, /* SHA512 */
        {isar0, 48, 1, 0, 23}, /* ASIMDFHM */
        {isar0, 52, 1, 0, 27}, /* FLAGM */
        {isar0, 52, 2, 1, 7},  /* FLAGM2 */
        {isar1, 12, 1, 0, 13}, /* JSCVT */
        {isar1, 16, 1, 0, 14}, /* FCMA */
        {isar1, 20, 1, 0, 15}, /* LRCPC */
        {isar1, 20, 2, 0, 26}, /* ILRCPC */
        {isar1, 32, 1, 1, 8},  /* FRINT */
        {isar1, 36, 1, 0, 29}, /* SB */
    };
    out[0] = out[1] = 0;
    for (size_t i = 0; i < sizeof caps / sizeof *caps; i++)
        if (field(caps[i].reg, caps[i].shift) >= caps[i].least)
            out[caps[i].word] |= UINT64_C(1) << caps[i].bit;
    if (field(pfr0, 16) != 15) {
        out[0] |= 1 << 0; /* FP */
        if (field(pfr0, 16) >= 1)
            out[0] |= 1 << 9; /* FPHP */
    }
    if (field(pfr0, 20) != 15) {
        out[0] |= 1 << 1; /* ASIMD */
        if (field(pfr0, 20) >= 1)
            out[0] |= 1 << 10; /* ASIMDHP */
    }
}

void uc_user_hwcap(emu_engine *engine, uint64_t out[2])
{
    out[0] = out[1] = 0;
    switch (engine->isa) {
    case EMU_ISA_AARCH64:
        hwcap_aarch64(engine, out);
        break;
    case EMU_ISA_ARM:
        /* SWP HALF THUMB FAST_MULT VFP EDSP NEON VFPv3 TLS VFPv4 IDIVA IDIVT VFPD32 LPAE */
        out[0] = 1u << 0 | 1u << 1 | 1u << 2 | 1u << 4 | 1u << 6 | 1u << 7 | 1u << 12 | 1u << 13 | 1u << 15 |
                 1u << 16 | 1u << 17 | 1u << 18 | 1u << 19 | 1u << 20;
        out[1] = 0x1f; /* AES PMULL SHA1 SHA2 CRC32 */
        break;
    case EMU_ISA_RISCV64:
        out[0] = 1u << ('a' - 'a') | 1u << ('c' - 'a') | 1u << ('d' - 'a') | 1u << ('f' - 'a') |
                 1u << ('i' - 'a') | 1u << ('m' - 'a');
        break;
    default:
        out[0] = 0x078bfbfd; /* CPUID.1:EDX of the model (Nehalem) */
        break;
    }
}

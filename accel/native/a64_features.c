/*
 * What the CPU is: AT_HWCAP and the ID registers that Linux lets programs read.
 *
 * A feature is there when all encodings of isa/aarch64.decode that belong to it
 * have their functions.  Bits: Linux's arch/arm64/include/uapi/asm/hwcap.h and
 * Documentation/arm64/cpu-feature-registers.rst; fields: Arm ARM D17.2.
 */
#include "a64.h"

enum { ISAR0, ISAR1, PFR0, PFR1, NO_REGISTER };
enum { ALWAYS = -1 };

static const struct feature {
    int8_t needs;  /* enum a64_feature, or ALWAYS */
    int8_t needs2; /* another, or the same */
    uint8_t word, bit;
    uint8_t reg, shift, value; /* the field, where the feature has one; a later line overrides an earlier one */
} features[] = {
    {ALWAYS, ALWAYS, 0, 0, NO_REGISTER, 0, 0},            /* FP */
    {ALWAYS, ALWAYS, 0, 1, NO_REGISTER, 0, 0},            /* ASIMD */
    {ALWAYS, ALWAYS, 0, 2, NO_REGISTER, 0, 0},            /* EVTSTRM: WFE does not wait */
    {A64_HAS_AES, A64_HAS_AES, 0, 3, ISAR0, 4, 1},        /* AES */
    {A64_HAS_PMULL, A64_HAS_AES, 0, 4, ISAR0, 4, 2},      /* PMULL */
    {A64_HAS_SHA1, A64_HAS_SHA1, 0, 5, ISAR0, 8, 1},      /* SHA1 */
    {A64_HAS_SHA2, A64_HAS_SHA1, 0, 6, ISAR0, 12, 1},     /* SHA2 */
    {A64_HAS_CRC32, A64_HAS_CRC32, 0, 7, ISAR0, 16, 1},   /* CRC32 */
    {A64_HAS_LSE, A64_HAS_LSE, 0, 8, ISAR0, 20, 2},       /* ATOMICS */
    {A64_HAS_FP16, A64_HAS_FP16, 0, 9, PFR0, 16, 1},      /* FPHP */
    {A64_HAS_FP16, A64_HAS_FP16, 0, 10, PFR0, 20, 1},     /* ASIMDHP */
    {ALWAYS, ALWAYS, 0, 11, NO_REGISTER, 0, 0},           /* CPUID */
    {A64_HAS_RDM, A64_HAS_RDM, 0, 12, ISAR0, 28, 1},      /* ASIMDRDM */
    {A64_HAS_JSCVT, A64_HAS_JSCVT, 0, 13, ISAR1, 12, 1},  /* JSCVT */
    {A64_HAS_FCMA, A64_HAS_FCMA, 0, 14, ISAR1, 16, 1},    /* FCMA */
    {A64_HAS_LRCPC, A64_HAS_LRCPC, 0, 15, ISAR1, 20, 1},  /* LRCPC */
    {ALWAYS, ALWAYS, 0, 16, ISAR1, 0, 1},                 /* DCPOP */
    {A64_HAS_SHA3, A64_HAS_SHA512, 0, 17, ISAR0, 32, 1},  /* SHA3 */
    {A64_HAS_DOTPROD, A64_HAS_DOTPROD, 0, 20, ISAR0, 44, 1}, /* ASIMDDP */
    {A64_HAS_SHA512, A64_HAS_SHA2, 0, 21, ISAR0, 12, 2},  /* SHA512 */
    {A64_HAS_FHM, A64_HAS_FP16, 0, 23, ISAR0, 48, 1},     /* ASIMDFHM */
    {ALWAYS, ALWAYS, 0, 24, PFR0, 48, 1},                 /* DIT */
    {A64_HAS_LRCPC2, A64_HAS_LRCPC, 0, 26, ISAR1, 20, 2}, /* ILRCPC */
    {A64_HAS_FLAGM, A64_HAS_FLAGM, 0, 27, ISAR0, 52, 1},  /* FLAGM */
    {ALWAYS, ALWAYS, 0, 28, PFR1, 4, 2},                  /* SSBS */
    {A64_HAS_SB, A64_HAS_SB, 0, 29, ISAR1, 36, 1},        /* SB */
    {ALWAYS, ALWAYS, 1, 0, ISAR1, 0, 2},                  /* DCPODP */
    {A64_HAS_FLAGM2, A64_HAS_FLAGM, 1, 7, ISAR0, 52, 2},  /* FLAGM2 */
    {A64_HAS_FRINTTS, A64_HAS_FRINTTS, 1, 8, ISAR1, 32, 1}, /* FRINT */
};

static bool there(const struct feature *feature)
{
    return (feature->needs == ALWAYS || a64_complete((enum a64_feature)feature->needs)) &&
           (feature->needs2 == ALWAYS || a64_complete((enum a64_feature)feature->needs2));
}

void a64_hwcaps(uint64_t out[2])
{
    out[0] = out[1] = 0;
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        if (there(&features[i]))
            out[features[i].word] |= UINT64_C(1) << features[i].bit;
}

static uint64_t register_of(unsigned reg, uint64_t value)
{
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        if (features[i].reg == reg && there(&features[i]))
            value = (value & ~(UINT64_C(15) << features[i].shift)) | (uint64_t)features[i].value << features[i].shift;
    return value;
}

/* Those with op0 3, op1 0, CRn 0.  False: undefined. */
bool a64_id_register(unsigned crm, unsigned op2, uint64_t *value)
{
    *value = 0;
    switch (crm << 3 | op2) {
    case 0 << 3 | 0: /* MIDR_EL1: no implementer, no part, as /proc/cpuinfo says */
        *value = 0xf << 16;
        return true;
    case 0 << 3 | 5: /* MPIDR_EL1: RES1 alone */
        *value = UINT64_C(1) << 31;
        return true;
    case 0 << 3 | 6: /* REVIDR_EL1 */
        return true;
    case 4 << 3 | 0: /* ID_AA64PFR0_EL1: EL0 and EL1 in AArch64 only */
        *value = register_of(PFR0, 0x11);
        return true;
    case 4 << 3 | 1:
        *value = register_of(PFR1, 0);
        return true;
    case 5 << 3 | 0: /* ID_AA64DFR0_EL1: what Linux shows in place of what it hides */
        *value = 6;
        return true;
    case 6 << 3 | 0:
        *value = register_of(ISAR0, 0);
        return true;
    case 6 << 3 | 1:
        *value = register_of(ISAR1, 0);
        return true;
    case 7 << 3 | 0: /* ID_AA64MMFR0_EL1: no granules are told */
        *value = 0xff000000;
        return true;
    default: /* AArch32's, and those that are reserved, read as zero */
        return crm >= 2 && crm <= 7;
    }
}

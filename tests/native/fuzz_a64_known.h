/*
 * Where the translator and Unicorn (QEMU 5.0) are known to differ, and why.  Included by fuzz_a64.c alone.
 *
 * SKIP: such a word is not tried.  IGNORE_*: what is not compared after it; HALF_LOADED: vectors, where it faults;
 * ACCESS: whether a fault is one of reading or writing; IXC, OFC: such flags of ours besides; FLUSHED: NZCV, with FZ;
 * ALIGNMENT: what would have come behind an address that is not aligned.
 */
enum {
    SKIP = 1, IGNORE_FPSR = 2, IGNORE_HALF_LOADED = 4, IGNORE_ACCESS = 8, IGNORE_IXC = 16, IGNORE_OFC = 32,
    IGNORE_FLUSHED = 64, IGNORE_ALIGNMENT = 128,
};

static unsigned bits(uint32_t word, unsigned shift, unsigned width)
{
    return word >> shift & ((1u << width) - 1);
}

/* Registers whose values are the machine's own: counters; what a kernel answers for. */
static bool own_register(uint32_t word)
{
    unsigned reg = bits(word, 5, 16);                         /* op0 op1 CRn CRm op2 */
    return (reg & 0xff80) == 0xdf00                           /* generic timer */
           || (reg & 0xff80) == 0xc000                        /* ID registers: Linux emulates them, QEMU's CPU does not */
           || (reg & 0xff80) == 0xd800                        /* CTR_EL0, DCZID_EL0: ours tell of another cache */
           || reg == 0xda15 || reg == 0xda16                  /* DIT, SSBS: QEMU 5.0 has neither */
           || reg == 0xd920 || reg == 0xd921                  /* RNDR, RNDRRS */
           || ((reg & 0xff80) == 0xde80 && (reg & 7) > 2);    /* TPIDR2_EL0 and beyond */
}

static bool dit_or_ssbs(uint32_t word)
{
    return bits(word, 16, 3) == 3 && bits(word, 5, 3) <= 2;
}

static bool signed_and_narrow(uint32_t word)
{
    return !bits(word, 15, 1) && (bits(word, 12, 3) == 4 || bits(word, 12, 3) == 5) && word >> 30 < 3;
}

static bool pair_of_30_and_zr(uint32_t word)
{
    return bits(word, 30, 1) && bits(word, 16, 5) == 30;
}

static bool half_of_fixed(uint32_t word)
{
    return bits(word, 19, 4) < 4; /* immh */
}

static bool lower_halves(uint32_t word)
{
    return bits(word, 22, 2) == 1 && !bits(word, 30, 1);
}

/*
 * What x86's flags leave open (accel/native/a64_fp.h): with FZ, DAZ and FTZ tell neither IDC nor whether a result was
 * exact; and a result that rounds to the least normal number is no underflow to x86, while it is one to Arm.
 */
static bool fpsr_same(unsigned ignore, uint64_t fpcr, uint64_t ours, uint64_t theirs)
{
    enum { OFC = 4, UFC = 8, IXC = 16, IDC = 128, FZ = 1 << 24 };
    uint64_t other = ours ^ theirs;
    if (fpcr & FZ)
        other &= ~(uint64_t)(IDC | IXC);
    if (theirs & UFC && ours & IXC)
        other &= ~(uint64_t)UFC;
    if (ignore & IGNORE_IXC && ours & IXC)
        other &= ~(uint64_t)IXC;
    if (ignore & IGNORE_OFC && ours & OFC)
        other &= ~(uint64_t)(OFC | IXC);
    return other == 0;
}

static bool half_and_short(uint32_t word)
{
    return bits(word, 22, 2) == 1 && !bits(word, 30, 1);
}

static const struct known {
    enum a64_encoding encoding;
    bool (*when)(uint32_t word); /* NULL: always */
    unsigned what;
    const char *reason;
} known[] = {
    {A64_MRS, own_register, SKIP, "time, identity and caches are the machine's own"},
    {A64_MSR, own_register, SKIP, "as MRS"},
    {A64_MSR_imm, dit_or_ssbs, SKIP, "QEMU 5.0 has neither"},
    {A64_PACGA, NULL, SKIP, "Unicorn's CPU has pointer authentication"},
    {A64_PAC, NULL, SKIP, "as PACGA"},
    {A64_XPAC, NULL, SKIP, "as PACGA"},
    {A64_BRA, NULL, SKIP, "as PACGA"},
    {A64_LDRA, NULL, SKIP, "as PACGA"},
    {A64_V_FCMLA_e, half_and_short, IGNORE_FPSR, "QEMU 5.0 computes the upper half too"},
    {A64_LDP_v, NULL, IGNORE_HALF_LOADED, "QEMU writes the first register before it loads the second"},
    {A64_LDn_multi, NULL, IGNORE_HALF_LOADED, "as LDP_v: element by element"},
    {A64_LDn_multi_post, NULL, IGNORE_HALF_LOADED, "as LDn_multi"},
    {A64_LDn_single, NULL, IGNORE_HALF_LOADED, "as LDn_multi"},
    {A64_LDn_single_post, NULL, IGNORE_HALF_LOADED, "as LDn_multi"},
    {A64_FCVT_int, NULL, IGNORE_IXC, "of what does not fit, x86 may say that it was inexact, besides"},
    {A64_FCVTA_int, NULL, IGNORE_IXC, "as FCVT_int"},
    {A64_FCVTZ_fix, NULL, IGNORE_IXC | IGNORE_OFC, "as FCVT_int; and the product with the scale may overflow"},
    {A64_V_FCVT, NULL, IGNORE_IXC, "as FCVT_int"},
    {A64_S_FCVT, NULL, IGNORE_IXC, "as FCVT_int"},
    {A64_S_FCVTZ_fix, half_of_fixed, SKIP, "QEMU writes the sign into the bits above a half-precision scalar"},
    {A64_V_FCMLA_e, lower_halves, IGNORE_FPSR, "QEMU collects exceptions of the upper half, too"},
    {A64_FJCVTZS, NULL, IGNORE_FLUSHED, "QEMU sets Z for a denormal that is flushed; FPToFixedJS does not"},
    {A64_LDAR, NULL, IGNORE_ALIGNMENT, "QEMU 5.0 does not look whether what is ordered is aligned; its successors do"},
    {A64_LDAPR, NULL, IGNORE_ALIGNMENT, "as LDAR"},
    {A64_LDAPUR, NULL, IGNORE_ALIGNMENT, "as LDAR"},
    {A64_CAS, NULL, IGNORE_ACCESS, "what reads and writes fails as a read (Arm ARM, ESR_EL1.WnR); QEMU tells a write"},
    {A64_CASP, NULL, IGNORE_ACCESS, "as CAS"},
    {A64_CASP, pair_of_30_and_zr, SKIP, "QEMU writes the second register to SP"},
    {A64_LSE, NULL, IGNORE_ACCESS, "as CAS"},
    {A64_LSE, signed_and_narrow, SKIP, "QEMU 5.0 compares what it has loaded without sign extension"},
};

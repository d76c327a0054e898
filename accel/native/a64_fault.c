/* Where the access of an instruction goes: for faults whose address the host does not tell. */
#include "a64.h"

static uint64_t extended(uint64_t value, unsigned option)
{
    switch (option) {
    case 2:
        return (uint32_t)value;
    case 6:
        return (uint64_t)(int64_t)(int32_t)value;
    default:
        return value;
    }
}

static int64_t signed_field(uint32_t word, unsigned low, unsigned bits)
{
    return (int64_t)((uint64_t)(word >> low) << (64 - bits)) >> (64 - bits);
}

uint64_t a64_address(a64_state *state, uint32_t word)
{
    enum a64_encoding encoding = a64_decode(word);
    uint64_t base = *a64_x(state, (int)(word >> 5 & 31));
    unsigned size = word >> 30;
    switch (encoding) {
    case A64_SYS: /* DC ZVA */
        return (word & 31) == A64_ZR ? 0 : *a64_x(state, (int)(word & 31));
    case A64_LDST_uimm:
        return base + ((uint64_t)(word >> 10 & 0xfff) << size);
    case A64_LDST_v_uimm:
        return base + ((uint64_t)(word >> 10 & 0xfff) << (size | (word >> 23 & 1) << 2));
    case A64_LDST_imm9:
    case A64_LDST_v_imm9:
        return (word >> 10 & 3) == 1 ? base : base + (uint64_t)signed_field(word, 12, 9);
    case A64_LDAPUR:
        return base + (uint64_t)signed_field(word, 12, 9);
    case A64_LDP:
        return (word >> 23 & 3) == 1 ? base : base + (uint64_t)signed_field(word, 15, 7) * (size == 2 ? 8 : 4);
    case A64_LDP_v:
        return (word >> 23 & 3) == 1 ? base : base + (uint64_t)signed_field(word, 15, 7) * (UINT64_C(4) << size);
    case A64_LDST_reg:
    case A64_LDST_v_reg: {
        unsigned rm = word >> 16 & 31, scale = size;
        if (encoding == A64_LDST_v_reg)
            scale |= (word >> 23 & 1) << 2;
        uint64_t offset = rm == A64_ZR ? 0 : extended(*a64_x(state, (int)rm), word >> 13 & 7);
        return base + (word >> 12 & 1 ? offset << scale : offset);
    }
    default:
        return base;
    }
}

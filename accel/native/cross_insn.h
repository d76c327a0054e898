/* An instruction of a guest as cross_host.c decodes it, for those that do some of them. */
#ifndef EMU_CROSS_INSN_H
#define EMU_CROSS_INSN_H

#include "cross_host.h"

enum { VECTOR_UD = 6, VECTOR_NM = 7, VECTOR_SS = 12, VECTOR_GP = 13, VECTOR_PF = 14, VECTOR_XM = 19 };
enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_WP = 1 << 16 };
enum { CR4_PSE = 1 << 4, CR4_PAE = 1 << 5, CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10, CR4_LA57 = 1 << 12,
       CR4_OSXSAVE = 1 << 18, CR4_SMAP = 1 << 21, CR4_PKE = 1 << 22 };
enum { EFER_LMA = 1 << 10, EFER_NXE = 1 << 11 };
enum { FLAG_AC = 1 << 18, FLAG_VM = 1 << 17, FLAG_TF = 1 << 8 };

enum escape { LEGACY, VEX, EVEX };

struct insn {
    const uint8_t *bytes;
    uint32_t n, at; /* at: how much has been read */
    bool wide, over; /* 64-bit mode; ran out of bytes */
    bool operand16, address32, lock;
    uint8_t repeat, rex, segment; /* F2 or F3; 0: none; 255: the default */
    enum escape escape;
    uint8_t map, opcode, modrm, prefix /* of P0 ... */, vvvv;
    bool w, broadcast, bare;
    uint8_t length; /* of vectors: 16, 32, 64 */
    uint8_t payload[3]; /* what follows C4 or 62 */
    const struct row *row;
    bool x87;
    uint8_t imm;
    /* memory */
    bool memory;
    int base, index, scale; /* -1: none; base 16: rip */
    int64_t displacement;
    uint32_t bytes_of_memory;
    bool store, load;
};

/* Reads SIB and displacement.  False: an address that is not done here. */
bool emu_insn_memory(struct insn *i);
/* Makes it what job->fault says; false. */
bool emu_insn_fault(emu_host_job *job, int vector, bool has_error, uint32_t error, uint64_t address);
/* Of the memory operand, whose size is known. */
enum emu_host_result emu_insn_linear(const struct insn *i, emu_host_job *job, uint64_t *out);
/* All of it or nothing. */
enum emu_host_result emu_insn_transfer(emu_host_job *job, uint64_t linear, uint8_t *data, uint32_t size, bool write);
/* Instructions of opcode maps 0F to 0F 3A that no row has: those of the operating system. */
enum emu_host_result emu_insn_system(struct insn *i, emu_host_job *job);

#endif

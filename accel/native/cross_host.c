/*
 * The instruction is encoded anew with its memory operand at a register that it
 * does not name otherwise, and stands in one of some slots of a page of code.
 * Around it, enter() loads the guest's registers and leave() stores them.  In
 * guest RAM it works in place, so that it is as atomic and as well aligned as it
 * would be; an operand that crosses pages or is no RAM is copied.
 *
 * What the instruction raises comes as a signal, whose handler leaves the slot.
 * The guest's bytes are anything: only what cross_table.h has is executed, and
 * it can reach nothing but registers and that operand.
 */
#if defined(__x86_64__) && defined(__linux__)

#include "cross_insn.h"
#include "cross_table.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)
#define CODE_SIZE 8192
#define SLOTS 64
#define SLOT_SIZE 64
#define SLOTS_AT (CODE_SIZE - SLOTS * SLOT_SIZE)
#define ARITHMETIC 0x8d5u /* CF PF AF ZF SF OF */
#define RF 0x10000u
#define NUMBERS_OF_XSAVE 0xe7u /* x87 SSE AVX, AVX-512: not what concerns the host's own memory */

/* What code reaches relative to itself: behind it in one mapping. */
struct frame {
    _Alignas(64) uint8_t xsave[EMU_X86_XSAVE_SIZE];
    _Alignas(64) uint8_t copy[128];
    uint64_t general[16], flags, stack, slot;
    uint32_t mask, mxcsr, fault_mxcsr;
    uint16_t fcw;
};

struct emu_host {
    uint8_t *code; /* executable; frame behind it */
    uint8_t *writable; /* the same code */
    struct frame *frame;
    size_t enter[2], leave[2], out[2]; /* by whether vector registers are concerned */
    struct slot {
        uint8_t bytes[SLOT_SIZE];
        uint8_t length;
    } slots[SLOTS];
    bool stale; /* code was written since the last enter */
    volatile int vector; /* of the signal, or -1 */
};

/* ---- signals --------------------------------------------------------------------------- */

static _Thread_local emu_host *volatile inside;
static _Thread_local int inside_vectors;
static struct sigaction before[4];
static const int signals[4] = {SIGILL, SIGFPE, SIGSEGV, SIGBUS};

static void pass_on(int number, siginfo_t *info, void *context)
{
    int i = 0;
    while (signals[i] != number)
        i++;
    if (before[i].sa_flags & SA_SIGINFO) {
        before[i].sa_sigaction(number, info, context);
    } else if (before[i].sa_handler == SIG_DFL) {
        signal(number, SIG_DFL); /* it comes again */
    } else if (before[i].sa_handler != SIG_IGN) {
        before[i].sa_handler(number);
    }
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    ucontext_t *at = context;
    emu_host *host = inside;
    uintptr_t pc = (uintptr_t)at->uc_mcontext.gregs[REG_RIP];
    if (host == NULL || pc - (uintptr_t)host->code >= CODE_SIZE) {
        pass_on(number, info, context);
        return;
    }
    host->vector = number == SIGBUS ? VECTOR_GP : (int)at->uc_mcontext.gregs[REG_TRAPNO];
    if (at->uc_mcontext.fpregs != NULL)
        host->frame->fault_mxcsr = at->uc_mcontext.fpregs->mxcsr;
    at->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)(host->code + host->out[inside_vectors]);
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < 4; i++)
        sigaction(signals[i], &action, &before[i]);
}

/* ---- the code around an instruction ------------------------------------------------------- */

struct emitter {
    emu_host *host;
    size_t at;
};

static void byte(struct emitter *e, unsigned value) { e->host->writable[e->at++] = (uint8_t)value; }

static void emit(struct emitter *e, const char *bytes, size_t n)
{
    memcpy(e->host->writable + e->at, bytes, n);
    e->at += n;
}
#define EMIT(e, text) emit(e, text, sizeof text - 1)

/* The last bytes of an instruction: ModRM that says rip, and how far the field of the frame is. */
static void field(struct emitter *e, unsigned reg, size_t offset)
{
    byte(e, 5 | (reg & 7) << 3);
    uint32_t distance = (uint32_t)(CODE_SIZE + offset - (e->at + 4));
    emit(e, (const char *)&distance, 4);
}
#define FIELD(e, reg, name) field(e, reg, offsetof(struct frame, name))

static void general(struct emitter *e, unsigned opcode)
{
    for (unsigned i = 0; i < 16; i++) {
        if (i == EMU_X86_RSP)
            continue;
        byte(e, 0x48 | (i > 7) << 2);
        byte(e, opcode);
        field(e, i, offsetof(struct frame, general) + 8 * i);
    }
}

static void masked(struct emitter *e, unsigned reg) /* xrstor64 (5), xsave64 (4) */
{
    EMIT(e, "\x8b");
    FIELD(e, EMU_X86_RAX, mask);
    EMIT(e, "\x31\xd2\x48\x0f\xae"); /* xor edx,edx */
    FIELD(e, reg, xsave);
}

static void write_code(emu_host *host, bool avx)
{
    struct emitter e = {.host = host};
    for (int vectors = 0; vectors < 2; vectors++) {
        host->enter[vectors] = e.at;
        EMIT(&e, "\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57\x48\x83\xec\x08"); /* push rbx rbp r12-r15; sub rsp,8 */
        EMIT(&e, "\x48\x89");
        FIELD(&e, EMU_X86_RSP, stack);
        if (vectors) {
            EMIT(&e, "\x0f\xae");
            FIELD(&e, 3, mxcsr); /* stmxcsr */
            EMIT(&e, "\xd9");
            FIELD(&e, 7, fcw); /* fnstcw */
            masked(&e, 5);
        }
        EMIT(&e, "\xff");
        FIELD(&e, 6, flags); /* push; popf */
        EMIT(&e, "\x9d");
        general(&e, 0x8b);
        EMIT(&e, "\xff");
        FIELD(&e, 4, slot); /* jmp */
        host->leave[vectors] = e.at;
        general(&e, 0x89);
        EMIT(&e, "\x9c\x8f");
        FIELD(&e, 0, flags); /* pushf; pop */
        if (vectors)
            masked(&e, 4);
        host->out[vectors] = e.at;
        EMIT(&e, "\x48\x8b");
        FIELD(&e, EMU_X86_RSP, stack);
        if (vectors) {
            EMIT(&e, "\xdb\xe3\xd9"); /* fninit; fldcw */
            FIELD(&e, 5, fcw);
            EMIT(&e, "\x0f\xae");
            FIELD(&e, 2, mxcsr); /* ldmxcsr */
            if (avx)
                EMIT(&e, "\xc5\xf8\x77"); /* vzeroupper */
        }
        /* cld; add rsp,8; pop r15-r12 rbp rbx; ret */
        EMIT(&e, "\xfc\x48\x83\xc4\x08\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xc3");
    }
}

static uint64_t xcr0(void)
{
    uint32_t low, high, a = 1, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (!(c & 1u << 27))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* What a processor does before it executes code that was written under another address (SDM vol. 3, 8.1.3). */
static void serialize(void)
{
    uint64_t scratch;
    __asm__ volatile("lea -128(%%rsp), %%rsp; mov %%ss, %k0; push %0; lea 8(%%rsp), %0; push %0; pushf;"
                     "mov %%cs, %k0; push %0; lea 1f(%%rip), %0; push %0; iretq; 1: lea 128(%%rsp), %%rsp"
                     : "=&r"(scratch)
                     :
                     : "memory", "cc");
}

emu_host *emu_host_new(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    uint64_t features = xcr0();
    if ((features & 3) != 3)
        return NULL;
    emu_host *host = calloc(1, sizeof *host);
    size_t size = CODE_SIZE + (sizeof *host->frame + PAGE - 1) / PAGE * PAGE;
    int fd = memfd_create("crossing", MFD_CLOEXEC);
    if (host == NULL || fd < 0 || ftruncate(fd, (off_t)size) != 0) {
        if (fd >= 0)
            close(fd);
        free(host);
        return NULL;
    }
    host->code = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    host->writable = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (host->code == MAP_FAILED || host->writable == MAP_FAILED) {
        emu_host_free(host);
        return NULL;
    }
    host->frame = (struct frame *)(host->code + CODE_SIZE);
    host->frame->mask = (uint32_t)features & NUMBERS_OF_XSAVE;
    write_code(host, (features & 4) != 0);
    host->stale = true;
    if (mprotect(host->code, CODE_SIZE, PROT_READ | PROT_EXEC) != 0) {
        emu_host_free(host);
        return NULL;
    }
    pthread_once(&once, install);
    return host;
}

void emu_host_free(emu_host *host)
{
    if (host == NULL)
        return;
    size_t size = CODE_SIZE + (sizeof *host->frame + PAGE - 1) / PAGE * PAGE;
    if (host->code != MAP_FAILED)
        munmap(host->code, size);
    if (host->writable != MAP_FAILED)
        munmap(host->writable, CODE_SIZE);
    free(host);
}

/* ---- decoding ---------------------------------------------------------------------------- */

static uint8_t next(struct insn *i)
{
    if (i->at >= i->n) {
        i->over = true;
        return 0;
    }
    return i->bytes[i->at++];
}

static bool prefixes(struct insn *i)
{
    for (;;) {
        uint8_t b = next(i);
        switch (b) {
        case 0x66: i->operand16 = true; continue;
        case 0x67: i->address32 = true; continue;
        case 0xf0: i->lock = true; continue;
        case 0xf2: case 0xf3: i->repeat = b; continue;
        case 0x26: i->segment = EMU_X86_ES; continue;
        case 0x2e: i->segment = EMU_X86_CS; continue;
        case 0x36: i->segment = EMU_X86_SS; continue;
        case 0x3e: i->segment = EMU_X86_DS; continue;
        case 0x64: i->segment = EMU_X86_FS; continue;
        case 0x65: i->segment = EMU_X86_GS; continue;
        }
        if (i->wide && (b & 0xf0) == 0x40) {
            i->rex = b;
            b = next(i);
            /* a prefix behind it makes it void: not worth the trouble */
        }
        i->at--;
        return !i->over;
    }
}

static void vex(struct insn *i, uint8_t first)
{
    i->escape = VEX;
    if (first == 0xc5) {
        uint8_t p = next(i);
        i->payload[0] = (uint8_t)((p & 0x80) | 0x61);
        i->payload[1] = p & 0x7f;
    } else {
        i->payload[0] = next(i);
        i->payload[1] = next(i);
    }
    i->map = i->payload[0] & 31;
    i->w = (i->payload[1] & 0x80) != 0;
    i->vvvv = ~i->payload[1] >> 3 & 15;
    i->length = i->payload[1] & 4 ? 32 : 16;
    i->prefix = (uint8_t)(1 << (i->payload[1] & 3));
}

static void evex(struct insn *i)
{
    static const uint8_t lengths[4] = {16, 32, 64, 64};
    i->escape = EVEX;
    for (int k = 0; k < 3; k++)
        i->payload[k] = next(i);
    i->map = i->payload[0] & 7;
    i->w = (i->payload[1] & 0x80) != 0;
    i->vvvv = ~i->payload[1] >> 3 & 15;
    i->length = lengths[i->payload[2] >> 5 & 3];
    i->broadcast = (i->payload[2] & 0x10) != 0;
    i->prefix = (uint8_t)(1 << (i->payload[1] & 3));
    if ((i->payload[0] & 8) != 0 || !(i->payload[1] & 4))
        i->over = true;
}

static const struct row *find_row(const struct insn *i)
{
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        const struct row *row = &rows[k];
        if (row->map == i->map && i->opcode >= row->first && i->opcode <= row->last &&
            (row->prefixes & i->prefix) && (row->encodings & 1u << i->escape))
            return row;
    }
    return NULL;
}

/* Three more that are told apart by ModRM.reg. */
static const struct row *group_row(const struct insn *i)
{
    static const struct row ldmxcsr = {1, P0, 0xae, 0xae, LV, S_4, F_MEM},
                            stmxcsr = {1, P0, 0xae, 0xae, LV, S_4, F_MEM | F_STORE},
                            cmpxchg8b = {1, P0, 0xc7, 0xc7, L, S_8, F_MEM | F_STORE | F_LOAD | F_PLAIN},
                            cmpxchg16b = {1, P0, 0xc7, 0xc7, L, S_16,
                                          F_MEM | F_STORE | F_LOAD | F_PLAIN | F_ALIGNED},
                            random = {1, PD, 0xc7, 0xc7, L, S_NONE, F_REGS | F_RM | F_PLAIN};
    uint8_t reg = i->modrm >> 3 & 7;
    if (i->map != 1 || i->escape == EVEX)
        return NULL;
    if (i->opcode == 0xae && i->prefix == P0 && (reg & 6) == 2)
        return reg == 2 ? &ldmxcsr : &stmxcsr;
    if (i->opcode == 0xc7 && i->escape == LEGACY && i->repeat == 0 && reg == 1)
        return i->rex & 8 ? &cmpxchg16b : &cmpxchg8b;
    if (i->opcode == 0xc7 && i->escape == LEGACY && i->repeat == 0 && reg >= 6)
        return &random;
    return NULL;
}

bool emu_insn_memory(struct insn *i)
{
    unsigned mod = i->modrm >> 6, rm = i->modrm & 7;
    unsigned b = i->escape == LEGACY ? i->rex & 1u : ~i->payload[0] >> 5 & 1u;
    unsigned x = i->escape == LEGACY ? i->rex >> 1 & 1u : ~i->payload[0] >> 6 & 1u;
    if (!i->wide) {
        if (i->address32) /* 16-bit addresses */
            return false;
        b = x = 0;
    }
    i->base = (int)(rm | b << 3);
    i->index = -1;
    int size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    if (rm == 4) {
        uint8_t sib = next(i);
        i->base = (int)((sib & 7) | b << 3);
        i->index = (int)((sib >> 3 & 7) | x << 3);
        i->scale = sib >> 6;
        if (i->index == 4)
            i->index = -1;
        if ((sib & 7) == 5 && mod == 0) {
            i->base = -1;
            size = 4;
        }
    } else if (rm == 5 && mod == 0) {
        i->base = i->wide ? 16 : -1;
        size = 4;
    }
    uint32_t d = 0;
    for (int k = 0; k < size; k++)
        d |= (uint32_t)next(i) << 8 * k;
    i->displacement = size == 1 ? (int8_t)d : (int32_t)d;
    return true;
}

/* EVEX counts a displacement of one byte in units of the operand (SDM vol. 2, 2.7.5). */
static void scale_displacement(struct insn *i)
{
    if (i->escape == EVEX && i->modrm >> 6 == 1)
        i->displacement *= i->bytes_of_memory;
}

static bool is_mmx(const struct insn *i)
{
    return i->escape == LEGACY && (i->prefix & P0) && !(i->row->prefixes & P66) && !(i->row->flags & F_ALIGNED);
}

static uint32_t memory_size(const struct insn *i)
{
    const struct row *row = i->row;
    uint32_t full = is_mmx(i) ? 8 : i->length;
    if (i->escape == EVEX && i->broadcast)
        return i->w ? 8 : 4;
    switch (row->size) {
    case S_1: return 1;
    case S_2: return 2;
    case S_4: return 4;
    case S_8: return 8;
    case S_10: return 10;
    case S_16: return 16;
    case S_32: return 32;
    case S_FULL: return full;
    case S_HALF: return i->escape == LEGACY ? 8 : full / 2;
    case S_QUARTER: return i->escape == LEGACY ? 4 : full / 4;
    case S_EIGHTH: return i->escape == LEGACY ? 2 : full / 8;
    case S_HW: return i->w ? full : full / 2;
    case S_DUP: return full == 16 ? 8 : full;
    case S_G: return i->rex & 8 ? 8 : i->operand16 ? 2 : 4;
    case S_W: return i->w && (i->wide || !(row->flags & (F_REG | F_RM | F_VVVV))) ? 8 : 4;
    case S_MASK: return i->prefix == P0 ? (i->w ? 8 : 2) : (i->w ? 4 : 1);
    default: return 0;
    }
}

static bool decode_x87(struct insn *i)
{
    i->x87 = true;
    if (i->lock || i->repeat)
        return false;
    if (i->opcode == 0x9b)
        return true;
    i->modrm = next(i);
    i->memory = i->modrm < 0xc0;
    if (!i->memory)
        return !i->over;
    int size = x87_memory[i->opcode - 0xd8][i->modrm >> 3 & 7];
    if (size == 0 || !emu_insn_memory(i))
        return false;
    i->bytes_of_memory = (uint32_t)(size < 0 ? -size : size);
    i->store = size < 0;
    i->load = !i->store;
    return !i->over;
}

static bool decode(struct insn *i)
{
    i->segment = 255;
    if (!prefixes(i))
        return false;
    uint8_t b = next(i);
    bool escapes = i->wide || (i->at < i->n && i->bytes[i->at] >= 0xc0);
    if ((b & 0xf8) == 0xd8 || b == 0x9b) {
        i->opcode = b;
        return decode_x87(i);
    }
    if (((b & 0xfe) == 0xc4 || b == 0x62) && escapes) {
        if (i->operand16 || i->repeat || i->lock || i->rex)
            return false;
        if (b == 0x62)
            evex(i);
        else
            vex(i, b);
        i->opcode = next(i);
    } else if (b == 0x0f) {
        i->map = 1;
        i->opcode = next(i);
        if (i->opcode == 0x38 || i->opcode == 0x3a) {
            i->map = i->opcode == 0x38 ? 2 : 3;
            i->opcode = next(i);
        }
        i->prefix = i->repeat == 0xf3 ? PF3 : i->repeat == 0xf2 ? PF2 : i->operand16 ? P66 : P0;
        i->w = (i->rex & 8) != 0;
        i->length = 16;
    } else {
        return false;
    }
    if (i->opcode == 0x77 && i->map == 1 && i->escape != EVEX && i->prefix == P0) { /* EMMS, VZEROUPPER */
        static const struct row bare = {1, P0, 0x77, 0x77, LV, S_NONE, F_REGS};
        i->row = &bare;
        i->bare = true;
        return !i->over && !i->lock;
    }
    i->modrm = next(i);
    i->memory = i->modrm < 0xc0;
    i->row = i->over ? NULL : find_row(i);
    if (i->row == NULL)
        i->row = i->over ? NULL : group_row(i);
    if (i->row == NULL || (i->row->flags & (i->memory ? F_REGS : F_MEM)))
        return false;
    if (i->memory) {
        i->bytes_of_memory = memory_size(i);
        i->store = (i->row->flags & F_STORE) != 0;
        i->load = !i->store || (i->row->flags & F_LOAD);
        /* what a mask leaves out must stay as it was */
        if (i->escape == EVEX && (i->payload[2] & 7))
            i->load = true;
        if (i->bytes_of_memory == 0 || i->bytes_of_memory > 64 || !emu_insn_memory(i))
            return false;
        scale_displacement(i);
    }
    if (i->lock && (i->row->flags & (F_LOAD | F_STORE)) != (F_LOAD | F_STORE))
        return false;
    if (i->row->flags & F_IMM)
        i->imm = next(i);
    return !i->over;
}

/* ---- the guest's memory -------------------------------------------------------------------- */

bool emu_insn_fault(emu_host_job *job, int vector, bool has_error, uint32_t error, uint64_t address)
{
    job->fault.vector = (uint8_t)vector;
    job->fault.has_error = has_error;
    job->fault.error = error;
    job->fault.address = address;
    return false;
}

/* An entry of the tables; NULL: they are no memory. */
static void *entry_at(emu_space *memory, uint64_t address, bool *constant)
{
    emu_range range;
    if (!emu_space_find(memory, address, &range) || emu_region_kind(range.region) == EMU_IO)
        return NULL;
    *constant = emu_region_kind(range.region) == EMU_ROM;
    uint64_t skip = address - range.base;
    return range.size - skip < 8 ? NULL : (uint8_t *)emu_region_host(range.region) + range.offset + skip;
}

enum walk { WALKED, NOWHERE, FAULTS };
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 32, PTE_D = 64, PTE_PS = 128 };

/* Intel SDM vol. 3, 4.3 to 4.6.  Sets accessed and dirty bits as the CPU does. */
static enum walk walk(emu_host_job *job, uint64_t linear, bool write, uint64_t *physical)
{
    const emu_x86 *s = job->state;
    bool user = (s->segment[EMU_X86_SS].attributes >> 5 & 3) == 3 && (s->cr0 & CR0_PE);
    uint32_t error = (uint32_t)(write ? 2 : 0) | (user ? 4 : 0);
    if (!(s->cr0 >> 31 & 1)) {
        *physical = linear & UINT32_MAX;
        return WALKED;
    }
    bool lma = (s->efer & EFER_LMA) != 0, pae = lma || (s->cr4 & CR4_PAE);
    if (lma && (s->cr4 & CR4_PKE))
        return NOWHERE;
    int levels = lma ? (s->cr4 & CR4_LA57 ? 5 : 4) : pae ? 3 : 2;
    unsigned bits = pae ? 9 : 10, width = pae ? 8 : 4;
    uint64_t table = pae && !lma ? s->cr3 & 0xffffffe0 : s->cr3 & UINT64_C(0xffffffffff000);
    if (!lma)
        linear &= UINT32_MAX;
    bool writable = true, for_user = true;
    for (int level = levels; level > 0; level--) {
        unsigned shift = 12 + bits * (unsigned)(level - 1);
        uint64_t index = linear >> shift & (pae && !lma && level == 3 ? 3 : (1u << bits) - 1);
        bool constant;
        void *at = entry_at(job->memory, table + index * width, &constant);
        if (at == NULL)
            return NOWHERE;
        uint64_t entry = width == 8 ? __atomic_load_n((uint64_t *)at, __ATOMIC_ACQUIRE)
                                    : __atomic_load_n((uint32_t *)at, __ATOMIC_ACQUIRE);
        if (!(entry & PTE_P)) {
            emu_insn_fault(job, VECTOR_PF, true, error, linear);
            return FAULTS;
        }
        bool top_of_pae = pae && !lma && level == 3;
        if (!top_of_pae) {
            writable = writable && (entry & PTE_W);
            for_user = for_user && (entry & PTE_U);
        }
        bool leaf = level == 1 || (level <= 3 && !top_of_pae && (entry & PTE_PS) && (pae || (s->cr4 & CR4_PSE)));
        uint64_t set = top_of_pae ? 0 : PTE_A;
        if (leaf) {
            bool smap = !user && for_user && (s->cr4 & CR4_SMAP) && !(s->rflags & FLAG_AC);
            if ((user && !for_user) || smap || (write && !writable && (user || (s->cr0 & CR0_WP)))) {
                emu_insn_fault(job, VECTOR_PF, true, error | 1, linear);
                return FAULTS;
            }
            if (write)
                set |= PTE_D;
        }
        if ((entry & set) != set && !constant) {
            if (width == 8)
                __atomic_fetch_or((uint64_t *)at, set, __ATOMIC_ACQ_REL);
            else
                __atomic_fetch_or((uint32_t *)at, (uint32_t)set, __ATOMIC_ACQ_REL);
            emu_space_written(job->memory, table + index * width, width);
        }
        if (leaf) {
            uint64_t size = UINT64_C(1) << shift;
            uint64_t frame = entry & UINT64_C(0xffffffffff000) & ~(size - 1);
            if (width == 4 && level == 2)
                frame = (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32;
            *physical = frame | (linear & (size - 1));
            return WALKED;
        }
        table = entry & UINT64_C(0xffffffffff000);
    }
    return NOWHERE;
}

enum emu_host_result emu_insn_linear(const struct insn *i, emu_host_job *job, uint64_t *out)
{
    const emu_x86 *s = job->state;
    uint64_t address = (uint64_t)i->displacement;
    if (i->base == 16)
        address += s->rip + i->at;
    else if (i->base >= 0)
        address += s->general[i->base];
    if (i->index >= 0)
        address += s->general[i->index] << i->scale;
    if (!i->wide || i->address32)
        address &= UINT32_MAX;
    unsigned which = i->segment;
    bool stack = i->base == EMU_X86_RSP || i->base == EMU_X86_RBP;
    if (which == 255 || (i->wide && which < EMU_X86_FS))
        which = stack ? EMU_X86_SS : EMU_X86_DS;
    const struct emu_x86_segment *segment = &s->segment[which];
    if (i->wide) {
        if (which >= EMU_X86_FS)
            address += segment->base;
        int unused = s->cr4 & CR4_LA57 ? 7 : 16;
        uint64_t last = address + i->bytes_of_memory - 1;
        if ((uint64_t)((int64_t)(address << unused) >> unused) != address ||
            (uint64_t)((int64_t)(last << unused) >> unused) != last) {
            emu_insn_fault(job, which == EMU_X86_SS ? VECTOR_SS : VECTOR_GP, true, 0, 0);
            return EMU_HOST_FAULT;
        }
    } else {
        /* flat and writable, or none of ours */
        if (segment->limit != UINT32_MAX || (segment->attributes & 0x1009e) != 0x92)
            return EMU_HOST_NOT;
        address = (address + segment->base) & UINT32_MAX;
    }
    *out = address;
    return EMU_HOST_DONE;
}

struct operand {
    uint64_t physical[2];
    uint32_t first; /* bytes in the first page */
    uint8_t *host;  /* in RAM and in one piece, else NULL */
};

static uint8_t *ram_at(emu_space *memory, uint64_t physical, uint32_t size, bool write)
{
    emu_range range;
    if (!emu_space_find(memory, physical, &range) || range.size - (physical - range.base) < size)
        return NULL;
    uint32_t kind = emu_region_kind(range.region);
    if (kind == EMU_IO || (kind == EMU_ROM && write))
        return NULL;
    return (uint8_t *)emu_region_host(range.region) + range.offset + (physical - range.base);
}

static int transfer(emu_space *memory, uint64_t physical, uint8_t *data, uint32_t size, bool write)
{
    uint8_t *host = ram_at(memory, physical, size, write);
    if (host != NULL) {
        memcpy(write ? host : data, write ? data : host, size);
        if (write)
            emu_space_written(memory, physical, size);
        return EMU_OK;
    }
    while (size != 0) {
        uint32_t width = size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
        uint64_t value = 0;
        if (write)
            memcpy(&value, data, width);
        int status = write ? emu_space_write(memory, physical, width, value)
                           : emu_space_read(memory, physical, width, &value);
        if (status == EMU_RAISED)
            return status;
        if (!write)
            memcpy(data, &value, width);
        physical += width;
        data += width;
        size -= width;
    }
    return EMU_OK;
}

static int transfer_operand(emu_space *memory, const struct operand *o, uint8_t *data, uint32_t size, bool write)
{
    uint32_t first = size < o->first ? size : o->first;
    int status = transfer(memory, o->physical[0], data, first, write);
    if (status == EMU_OK && size > first)
        status = transfer(memory, o->physical[1], data + first, size - first, write);
    return status;
}

enum emu_host_result emu_insn_transfer(emu_host_job *job, uint64_t linear, uint8_t *data, uint32_t size, bool write)
{
    for (int pass = 0; pass < 2; pass++) /* first whether all of it is there */
        for (uint32_t done = 0, n; done < size; done += n) {
            uint64_t at = linear + done, physical;
            n = (uint32_t)(PAGE - at % PAGE);
            if (n > size - done)
                n = size - done;
            if (pass == 0 && job->touch != NULL)
                job->touch(job->opaque, at, write);
            switch (walk(job, at, write, &physical)) {
            case NOWHERE: return EMU_HOST_NOT;
            case FAULTS: return EMU_HOST_FAULT;
            case WALKED: break;
            }
            if (pass == 1 && transfer(job->memory, physical, data + done, n, write) == EMU_RAISED)
                return EMU_HOST_RAISED;
        }
    return EMU_HOST_DONE;
}

uint32_t emu_host_fetch(emu_host_job *job, uint8_t *bytes)
{
    const emu_x86 *s = job->state;
    const uint32_t most = 15;
    uint64_t linear = s->rip + ((s->efer & EFER_LMA) && (s->segment[EMU_X86_CS].attributes & 0x2000)
                                    ? 0 : s->segment[EMU_X86_CS].base);
    void (*touch)(void *, uint64_t, bool) = job->touch;
    uint32_t first = (uint32_t)(PAGE - linear % PAGE), n = first < most ? first : most;
    job->touch = NULL;
    if (emu_insn_transfer(job, linear, bytes, n, false) != EMU_HOST_DONE)
        n = 0;
    else if (n < most && emu_insn_transfer(job, linear + n, bytes + n, most - n, false) == EMU_HOST_DONE)
        n = most;
    job->touch = touch;
    return n;
}

/* ---- doing it -------------------------------------------------------------------------------- */

static enum emu_host_result allowed(const struct insn *i, emu_host_job *job)
{
    const emu_x86 *s = job->state;
    const bool plain = !i->x87 && (i->row->flags & F_PLAIN);
    if (!(s->cr0 & CR0_PE) || (s->rflags & FLAG_VM))
        return EMU_HOST_NOT;
    if (i->x87) {
        uint64_t bits = i->opcode == 0x9b ? CR0_MP | CR0_TS : 0;
        if (bits ? (s->cr0 & bits) == bits : (s->cr0 & (CR0_EM | CR0_TS)) != 0) {
            emu_insn_fault(job, VECTOR_NM, false, 0, 0);
            return EMU_HOST_FAULT;
        }
        return EMU_HOST_DONE;
    }
    if (plain)
        return EMU_HOST_DONE;
    bool enabled = !(s->cr0 & CR0_EM) && (is_mmx(i) || (s->cr4 & CR4_OSFXSR));
    if (i->escape != LEGACY && (enabled = (s->cr4 & CR4_OSXSAVE) != 0)) {
        uint64_t need = i->escape == EVEX || (i->row->flags & F_OPMASK) ? 0xe6 : 6;
        if (!(job->have & EMU_X86_XCR0)) {
            if (job->more(job->opaque, EMU_X86_XCR0) < 0)
                return EMU_HOST_FAILED;
            job->have |= EMU_X86_XCR0;
        }
        enabled = (s->xcr0 & need) == need;
    }
    if (!enabled) {
        emu_insn_fault(job, VECTOR_UD, false, 0, 0);
        return EMU_HOST_FAULT;
    }
    if (s->cr0 & CR0_TS) {
        emu_insn_fault(job, VECTOR_NM, false, 0, 0);
        return EMU_HOST_FAULT;
    }
    return EMU_HOST_DONE;
}

/* General registers that an instruction does not name: for the operand's address, and in place of rsp, which stays ours. */
struct spare {
    int base, rsp; /* -1: it does not name rsp */
};

/* As the encodings have it; of 32-bit code, too, which has no others. */
enum { CANDIDATES = 5 };

static struct spare choose(struct insn *i)
{
    static const int candidates[CANDIDATES] = {15, 14, 11, 10, 9};
    uint32_t used = 0, flags = i->x87 ? 0 : i->row->flags;
    bool r = i->escape == LEGACY ? i->rex & 4 : !(i->payload[0] & 0x80);
    bool b = i->escape == LEGACY ? i->rex & 1 : !(i->payload[0] & 0x20);
    unsigned reg = (i->modrm >> 3 & 7) | (r && i->wide) << 3, rm = (i->modrm & 7) | (b && i->wide) << 3;
    unsigned vvvv = i->wide ? i->vvvv : i->vvvv & 7;
    bool has_reg = flags & F_REG, has_vvvv = flags & F_VVVV;
    /* AH is no part of rsp */
    bool has_rm = (flags & F_RM) && !i->memory && !(i->row->size == S_1 && i->escape == LEGACY && i->rex == 0);
    used |= (has_reg ? 1u << reg : 0) | (has_vvvv ? 1u << vvvv : 0) | (has_rm ? 1u << rm : 0);
    struct spare spare = {.base = -1, .rsp = -1};
    for (int k = 0; k < CANDIDATES; k++) {
        if (used & 1u << candidates[k])
            continue;
        if (spare.base >= 0) {
            spare.rsp = candidates[k];
            break;
        }
        spare.base = candidates[k];
    }
    if (!(used & 1u << EMU_X86_RSP)) {
        spare.rsp = -1;
        return spare;
    }
    unsigned low = spare.rsp & 7;
    if (has_reg && reg == EMU_X86_RSP) {
        i->modrm = (uint8_t)((i->modrm & ~0x38) | low << 3);
        i->rex |= 0x44;
        i->payload[0] &= 0x7f;
    }
    if (has_rm && rm == EMU_X86_RSP) {
        i->modrm = (uint8_t)((i->modrm & ~7) | low);
        i->rex |= 0x41;
        i->payload[0] &= 0xdf;
    }
    if (has_vvvv && vvvv == EMU_X86_RSP)
        i->payload[1] = (uint8_t)((i->payload[1] & ~0x78) | (~spare.rsp & 15) << 3);
    return spare;
}

static uint8_t encode(const struct insn *i, int base, uint8_t *out)
{
    uint8_t *at = out;
    uint8_t modrm = i->memory ? (uint8_t)((i->modrm & 0x38) | (base & 7)) : i->modrm;
    if (i->x87) {
        if (i->memory)
            *at++ = 0x41;
        *at++ = i->opcode;
        if (i->opcode != 0x9b)
            *at++ = modrm;
        return (uint8_t)(at - out);
    }
    if (i->escape == LEGACY) {
        uint8_t rex = i->memory ? (uint8_t)((i->rex & 0xc) | 0x41) : i->rex;
        if (i->lock)
            *at++ = 0xf0;
        if (i->operand16)
            *at++ = 0x66;
        if (i->repeat)
            *at++ = i->repeat;
        if (rex)
            *at++ = rex;
        *at++ = 0x0f;
        if (i->map > 1)
            *at++ = i->map == 2 ? 0x38 : 0x3a;
    } else {
        uint8_t p0 = i->payload[0], p1 = i->payload[1];
        if (i->memory)
            p0 = (uint8_t)((p0 | 0x40) & ~0x20);
        if (!i->wide && (i->row->flags & (F_REG | F_RM | F_VVVV)))
            p1 &= 0x7f; /* W means nothing there */
        *at++ = i->escape == VEX ? 0xc4 : 0x62;
        *at++ = p0;
        *at++ = p1;
        if (i->escape == EVEX)
            *at++ = i->payload[2];
    }
    *at++ = i->opcode;
    if (!i->bare)
        *at++ = modrm;
    if (i->row->flags & F_IMM)
        *at++ = i->imm;
    return (uint8_t)(at - out);
}

/* The slot with these bytes and the way out behind them. */
static uint8_t *slot_of(emu_host *host, const uint8_t *bytes, uint8_t length, int vectors)
{
    uint8_t text[SLOT_SIZE] = {0};
    memcpy(text, bytes, length);
    uint32_t hash = 2166136261u;
    for (int k = 0; k < length; k++)
        hash = (hash ^ text[k]) * 16777619u;
    uint32_t number = hash % SLOTS;
    size_t at = SLOTS_AT + number * SLOT_SIZE;
    uint32_t distance = (uint32_t)(host->leave[vectors] - (at + length + 5u));
    text[length] = 0xe9;
    memcpy(text + length + 1, &distance, 4);
    struct slot *slot = &host->slots[number];
    if (slot->length != length || memcmp(slot->bytes, text, sizeof text) != 0) {
        memcpy(slot->bytes, text, sizeof text);
        slot->length = length;
        memcpy(host->writable + at, text, sizeof text);
        host->stale = true;
    }
    return host->code + at;
}

/* The guest's exception, or -1. */
static int execute(emu_host *host, emu_x86 *s, uint8_t *slot, int vectors, struct spare spare, uint64_t address)
{
    struct frame *frame = host->frame;
    void (*enter)(void);
    uint8_t *at = host->code + host->enter[vectors];
    memcpy(&enter, &at, sizeof enter);
    memcpy(frame->general, s->general, sizeof frame->general);
    if (address != 0)
        frame->general[spare.base] = address;
    if (spare.rsp >= 0)
        frame->general[spare.rsp] = s->general[EMU_X86_RSP];
    frame->flags = (s->rflags & ARITHMETIC) | 0x202;
    frame->slot = (uint64_t)(uintptr_t)slot;
    if (vectors)
        memcpy(frame->xsave, s->xsave, sizeof frame->xsave);
    if (host->stale) {
        serialize();
        host->stale = false;
    }
    host->vector = -1;
    inside_vectors = vectors;
    inside = host;
    atomic_signal_fence(memory_order_seq_cst);
    enter();
    atomic_signal_fence(memory_order_seq_cst);
    inside = NULL;
    return host->vector;
}

/* x87's pointers are those of our code: give them the guest's. */
static void mend_pointers(const struct insn *i, emu_host *host, emu_x86 *s, uint64_t linear)
{
    uint64_t pointer;
    memcpy(&pointer, host->frame->xsave + 8, sizeof pointer);
    if (pointer - (uintptr_t)host->code >= CODE_SIZE)
        return;
    memcpy(host->frame->xsave + 8, &s->rip, sizeof s->rip);
    linear = i->memory ? linear : 0;
    memcpy(host->frame->xsave + 16, &linear, sizeof linear);
}

static enum emu_host_result of_fault(emu_host *host, emu_host_job *job, int vector)
{
    emu_x86 *s = job->state;
    if (vector == VECTOR_XM) {
        memcpy(s->xsave + 24, &host->frame->fault_mxcsr, 4);
        job->changed |= EMU_X86_VECTORS;
        vector = s->cr4 & CR4_OSXMMEXCPT ? VECTOR_XM : VECTOR_UD;
    } else if (vector == VECTOR_UD) {
        return EMU_HOST_NOT; /* the host lacks it; perhaps the companion does not */
    } else if (vector == VECTOR_PF) {
        return EMU_HOST_NOT; /* guest memory that the host has not got */
    }
    emu_insn_fault(job, vector, vector == VECTOR_GP || vector == VECTOR_SS || vector == 17, 0, 0);
    return EMU_HOST_FAULT;
}

static enum emu_host_result reach(const struct insn *i, emu_host_job *job, uint64_t linear, struct operand *o)
{
    uint32_t size = i->bytes_of_memory;
    o->first = (uint32_t)(PAGE - linear % PAGE);
    int parts = size > o->first ? 2 : 1;
    for (int part = 0; part < parts; part++) {
        uint64_t at = part == 0 ? linear : linear + o->first;
        if (job->touch != NULL)
            job->touch(job->opaque, at, i->store);
        switch (walk(job, at, i->store, &o->physical[part])) {
        case NOWHERE: return EMU_HOST_NOT;
        case FAULTS: return EMU_HOST_FAULT;
        case WALKED: break;
        }
    }
    o->host = parts == 1 ? ram_at(job->memory, o->physical[0], size, i->store) : NULL;
    return EMU_HOST_DONE;
}

enum emu_host_result emu_host_do(emu_host *host, emu_host_job *job, const uint8_t *bytes, uint32_t nbytes)
{
    emu_x86 *s = job->state;
    uint32_t cs = s->segment[EMU_X86_CS].attributes;
    struct insn i = {.bytes = bytes, .n = nbytes > 15 ? 15 : nbytes, .base = -1};
    i.wide = (s->efer & EFER_LMA) && (cs & 0x2000);
    if (!i.wide && !(cs & 0x4000)) /* 16-bit code */
        return EMU_HOST_NOT;
    if (!decode(&i))
        return !i.over && i.map != 0 && i.escape == LEGACY && (s->cr0 & CR0_PE) ? emu_insn_system(&i, job) : EMU_HOST_NOT;
    if (host == NULL)
        return EMU_HOST_NOT;
    enum emu_host_result result = allowed(&i, job);
    if (result != EMU_HOST_DONE)
        return result;
    int vectors = i.x87 || !(i.row->flags & F_PLAIN);
    if (vectors && !(job->have & EMU_X86_VECTORS)) {
        if (job->more(job->opaque, EMU_X86_VECTORS) < 0)
            return EMU_HOST_FAILED;
        job->have |= EMU_X86_VECTORS;
    }
    uint64_t linear = 0, address = 0;
    struct operand o = {0};
    if (i.memory) {
        if ((result = emu_insn_linear(&i, job, &linear)) != EMU_HOST_DONE)
            return result;
        bool aligned = !i.x87 && (i.row->flags & F_ALIGNED) && (i.escape == LEGACY || (i.row->flags & F_ALL));
        if (aligned && linear % i.bytes_of_memory != 0) {
            emu_insn_fault(job, VECTOR_GP, true, 0, 0);
            return EMU_HOST_FAULT;
        }
        if ((result = reach(&i, job, linear, &o)) != EMU_HOST_DONE)
            return result;
        address = (uintptr_t)o.host;
        if (o.host == NULL) {
            memset(host->frame->copy, 0, sizeof host->frame->copy);
            uint8_t *copy = host->frame->copy + linear % 64;
            if (i.load && transfer_operand(job->memory, &o, copy, i.bytes_of_memory, false) == EMU_RAISED)
                return EMU_HOST_RAISED;
            address = (uintptr_t)copy;
        }
    }
    uint8_t text[24];
    struct spare spare = choose(&i);
    uint8_t length = encode(&i, spare.base, text);
    int vector = execute(host, s, slot_of(host, text, length, vectors), vectors, spare, address);
    if (vector >= 0)
        return of_fault(host, job, vector);
    struct frame *frame = host->frame;
    if (i.memory && i.store) {
        if (o.host == NULL) {
            if (transfer_operand(job->memory, &o, (uint8_t *)(uintptr_t)address, i.bytes_of_memory, true) == EMU_RAISED)
                return EMU_HOST_RAISED;
        } else {
            emu_space_written(job->memory, o.physical[0], i.bytes_of_memory);
        }
    }
    frame->general[EMU_X86_RSP] = spare.rsp >= 0 ? frame->general[spare.rsp] : s->general[EMU_X86_RSP];
    if (i.memory)
        frame->general[spare.base] = s->general[spare.base];
    if (spare.rsp >= 0)
        frame->general[spare.rsp] = s->general[spare.rsp];
    for (int k = 0; k < 16 && !i.wide; k++)
        if (k < 8)
            frame->general[k] &= UINT32_MAX;
    memcpy(s->general, frame->general, sizeof frame->general);
    s->rflags = (s->rflags & ~(uint64_t)(ARITHMETIC | RF)) | (frame->flags & ARITHMETIC);
    if (vectors) {
        if (i.x87)
            mend_pointers(&i, host, s, linear);
        memcpy(s->xsave, frame->xsave, sizeof frame->xsave);
        job->changed |= EMU_X86_VECTORS;
    }
    s->rip = i.wide ? s->rip + i.at : (s->rip + i.at) & UINT32_MAX;
    job->stepped = (s->rflags & FLAG_TF) != 0;
    job->changed |= EMU_X86_GENERAL;
    return EMU_HOST_DONE;
}

#endif

/* Blocks of AArch64 code, their exits, and the fixed pieces of code. */
#include "a64.h"
#include "a64_fp.h"
#include "trace_write.h"

#include <cpuid.h>
#include <stdlib.h>

a64_host a64_host_has;

/* EMU_HOST_WITHOUT=avx,fma: what the host has and is not used, so that both paths can be tested. */
static void look_away(const char *names)
{
#define A64_FEATURE(name) {#name, &a64_host_has.name}
    static const struct {
        const char *name;
        bool *has;
    } features[] = {
        A64_FEATURE(avx),  A64_FEATURE(avx2), A64_FEATURE(bmi1), A64_FEATURE(bmi2),   A64_FEATURE(lzcnt),
        A64_FEATURE(fma),  A64_FEATURE(f16c), A64_FEATURE(aes),  A64_FEATURE(pclmul), A64_FEATURE(popcnt),
        A64_FEATURE(sha),  A64_FEATURE(adx),  A64_FEATURE(sse42),
    };
#undef A64_FEATURE
    while (*names) {
        size_t length = strcspn(names, ",");
        for (size_t i = 0; i < sizeof features / sizeof features[0]; i++)
            if (strlen(features[i].name) == length && memcmp(features[i].name, names, length) == 0)
                *features[i].has = false;
        names += length + (names[length] == ',');
    }
    /* What is encoded with VEX wants AVX's registers. */
    if (!a64_host_has.avx)
        a64_host_has.avx2 = a64_host_has.fma = a64_host_has.f16c = false;
}

/* CPUID leaves 1, 7 and 0x80000001; AVX counts where the system saves its registers (XCR0). */
__attribute__((constructor)) static void look(void)
{
    unsigned a, b, c, d, xcr0 = 0, high;
    __cpuid(1, a, b, c, d); /* every x86-64 has it; in a virtual machine each CPUID costs microseconds */
    if (c >> 27 & 1)
        __asm__("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    a64_host_has.avx = c >> 28 & 1 && (xcr0 & 6) == 6;
    a64_host_has.fma = a64_host_has.avx && c >> 12 & 1;
    a64_host_has.f16c = a64_host_has.avx && c >> 29 & 1;
    a64_host_has.pclmul = c >> 1 & 1;
    a64_host_has.aes = c >> 25 & 1;
    a64_host_has.popcnt = c >> 23 & 1;
    a64_host_has.sse42 = c >> 20 & 1;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        a64_host_has.avx2 = a64_host_has.avx && b >> 5 & 1;
        a64_host_has.bmi1 = b >> 3 & 1;
        a64_host_has.bmi2 = b >> 8 & 1;
        a64_host_has.adx = b >> 19 & 1;
        a64_host_has.sha = b >> 29 & 1;
    }
    __cpuid(0x80000001, a, b, c, d);
    a64_host_has.lzcnt = c >> 5 & 1;
    const char *without = getenv("EMU_HOST_WITHOUT");
    if (without != NULL)
        look_away(without);
}

#define PAGE UINT64_C(4096)
/* Guest instructions that are looked at to see whether flags are wanted behind an exit. */
enum { PEEK = 12 };

/* ---- operands ------------------------------------------------------------------------- */

x64_mem a64_guest(a64_translator *t, int host, int index, int scale, int64_t disp)
{
    x64_mem m = index < 0 ? x64_at(host, (int32_t)disp) : x64_indexed(host, index, scale, (int32_t)disp);
    if (!t->masked && !t->based)
        return m;
    int sum = a64_tmp(t);
    a64_flags_lose(t);
    x_lea(&t->e, 1, sum, m);
    if (t->masked) {
        x_shift_ri(&t->e, X_SHL, 1, sum, (unsigned)t->masked);
        x_shift_ri(&t->e, X_SHR, 1, sum, (unsigned)t->masked);
    }
    if (t->based)
        x_alu_rm(&t->e, X_ADD, 1, sum, A64_AT(base));
    return x64_at(sum, 0);
}

x64_mem a64_constant(a64_translator *t, uint64_t low, uint64_t high)
{
    return x64_at(X64_NEAR, tr_constant(t->code, low, high));
}

/* ---- exits --------------------------------------------------------------------------------- */

static const uint8_t *executed(const a64_translator *t, const uint8_t *written)
{
    return written - t->code->view;
}

static uint8_t *written(const a64_translator *t, const uint8_t *code)
{
    return (uint8_t *)code + t->code->view;
}

static void jump(a64_translator *t, const uint8_t *code)
{
    x_jmp_to(&t->e, written(t, code));
}

uint64_t a64_branch_target(uint32_t word, uint64_t pc)
{
    int64_t distance;
    if ((word & 0x7c000000) == 0x14000000)
        distance = (int64_t)((uint64_t)word << 38) >> 36;
    else if ((word & 0x7e000000) == 0x36000000)
        distance = (int64_t)((uint64_t)(word >> 5) << 50) >> 48;
    else
        distance = (int64_t)((uint64_t)(word >> 5) << 45) >> 43;
    return pc + (uint64_t)distance;
}

bool a64_told(const tr_code *code, uint64_t pc)
{
    return emu_trace_wants(code->trace, EMU_TRACE_INSTRUCTIONS | EMU_TRACE_BLOCKS) &&
           emu_trace_in_range(code->trace, pc);
}

bool a64_flags_dead_at(a64_translator *t, uint64_t pc)
{
    if (t->told || t->alone)
        return false;
    for (int i = 0; i < PEEK; i++, pc += 4) {
        if (pc >> 12 != t->start >> 12) /* a block is good as long as its own page does not change */
            return false;
        tr_look(t->code, pc);
        uint32_t word;
        memcpy(&word, t->code->memory.base + pc, 4);
        unsigned encoding = a64_decode(word);
        unsigned effect = a64_flags_of(encoding, word);
        if (effect & A64_USES)
            return false;
        if (effect & A64_SETS)
            return true;
        switch (encoding) {
        case A64_NONE:
        case A64_BR:
        case A64_SVC:
        case A64_BRK:
        case A64_CBZ:
        case A64_TBZ:
            return false;
        case A64_B:
            if (word >> 31)
                return false;
            pc = a64_branch_target(word, pc) - 4;
            break;
        default:
            break;
        }
    }
    return false;
}

static void leave_flags(a64_translator *t, uint64_t target)
{
    if (t->flags == FLAGS_PENDING)
        return;
    if (t->flags != FLAGS_SAVED && !t->flags_saved && !a64_flags_dead_at(t, target))
        a64_flags_save(t);
    t->flags = FLAGS_SAVED;
}

/* A jump to translated or yet untranslated code; registers and flags are where they belong. */
static void chain(a64_translator *t, uint64_t target)
{
    bool direct = !t->told && !t->alone && !a64_told(t->code, target);
    if (direct && target == t->start) {
        x_jmp_to(&t->e, t->entry);
        return;
    }
    uint32_t found = direct && target >> 12 == t->start >> 12 ? tr_find_beside(t->code, target) : 0;
    if (found != 0) {
        jump(t, t->code->code + t->code->blocks[found - 1].at);
        return;
    }
    uint32_t slot = tr_slot_new(t->code, target);
    x_byte(&t->e, 0xff); /* jmp [rip + slot] */
    x_byte(&t->e, 0x25);
    x_word(&t->e, 0);
    int32_t distance = (int32_t)((const uint8_t *)&t->code->slots[slot] - executed(t, t->e.at));
    memcpy(t->e.at - 4, &distance, 4);
    tr_slot_stub(t->code, slot, executed(t, t->e.at));
    x_mov_ri(&t->e, RAX, slot);
    jump(t, a64_pieces_of(t->engine)->link);
}

static void leave_for(a64_translator *t, enum a64_reason reason, uint64_t pc)
{
    x_mov_mi(&t->e, 0, A64_AT(reason), (int32_t)reason);
    x_mov_ri(&t->e, RAX, pc);
    jump(t, a64_pieces_of(t->engine)->leave);
}

/* Leaves for the runtime if it has asked for that.  Registers and flags are where they belong; EFLAGS change. */
static void poll(a64_translator *t, uint64_t target)
{
    x_alu_mi(&t->e, X_CMP, 0, A64_AT(poll), 0);
    a64_exit *exit = &t->exit[t->exits++];
    memset(exit, 0, sizeof *exit);
    exit->place = x_jcc(&t->e, X_NE);
    exit->target = target;
    exit->flags_saved = true;
    exit->kind = A64_EXIT_KICK;
}

void a64_exit_to(a64_translator *t, uint64_t target)
{
    if (t->flags == FLAGS_PENDING && !a64_flags_dead_at(t, target)) /* the block ends before whoever asks */
        a64_flags_save(t);
    a64_discard(t, A64_PENDING);
    a64_flush(t);
    a64_forget(t);
    leave_flags(t, target);
    if (target <= t->pc)
        poll(t, target);
    chain(t, target);
    t->ended = true;
}

void a64_exit_reason(a64_translator *t, enum a64_reason reason, uint64_t pc)
{
    a64_flush(t);
    a64_forget(t);
    a64_flags_save(t);
    leave_for(t, reason, pc);
    t->ended = true;
}

/* Who holds what where the block is left: nobody asks for the pending condition there. */
static a64_file held_outside(const a64_translator *t)
{
    a64_file file = t->general;
    if (file.host[A64_PENDING] >= 0)
        file.dirty &= (uint16_t)~(1u << file.host[A64_PENDING]);
    return file;
}

/* The jump back of a loop, in line: it is taken more often than not. */
static void loop_if(a64_translator *t, int cc, uint64_t target)
{
    uint8_t flags = t->flags;
    bool saved = t->flags_saved;
    uint8_t *go_on = x_jcc(&t->e, cc ^ 1);
    a64_file general = held_outside(t);
    a64_spill(t, &general, &t->vector);
    leave_flags(t, target);
    poll(t, target);
    chain(t, target);
    x_land(&t->e, go_on);
    t->flags = flags;
    t->flags_saved = saved;
}

void a64_exit_if(a64_translator *t, int cc, uint64_t target, unsigned reason)
{
    if (!reason && target <= t->pc) {
        loop_if(t, cc, target);
        return;
    }
    a64_exit *exit = &t->exit[t->exits++];
    exit->place = x_jcc(&t->e, cc);
    exit->target = target;
    exit->general = reason ? t->general : held_outside(t);
    exit->vector = t->vector;
    exit->flags = t->flags;
    exit->flags_saved = t->flags_saved;
    exit->pending = t->pending;
    exit->kind = (uint8_t)reason;
}

void a64_exit_unaligned(a64_translator *t, int host)
{
    a64_exit_if(t, X_NE, t->pc, A64_EXIT_ALIGN);
    t->exit[t->exits - 1].address = (int8_t)host;
}

void a64_exit_indirect(a64_translator *t, int host)
{
    x64_emit *e = &t->e;
    a64_discard(t, A64_PENDING);
    a64_flush(t);
    a64_forget(t);
    if (host == RAX || host == RCX) {
        x_mov_rr(e, 1, RDX, host);
        host = RDX;
    }
    a64_flags_save(t);
    t->flags = FLAGS_SAVED;
    x64_mem key = x64_indexed(RSP, RCX, 2, (int32_t)offsetof(a64_state, jumps) - A64_BIAS);
    x_lea(e, 1, RAX, x64_at(host, 1));
    if (t->told) {
        jump(t, a64_pieces_of(t->engine)->look_up);
        t->ended = true;
        return;
    }
    x_mov_rr(e, 0, RCX, host);
    x_alu_ri(e, X_AND, 0, RCX, (A64_JUMPS - 1) << 2);
    x_alu_rm(e, X_CMP, 1, RAX, key);
    uint8_t *miss = x_jcc8(e, X_NE);
    key.disp += 8;
    x_jmp_m(e, key);
    x_land8(e, miss);
    jump(t, a64_pieces_of(t->engine)->look_up);
    t->ended = true;
}

a64_later *a64_write_later(a64_translator *t, uint8_t *from, void (*write)(a64_translator *, const a64_later *))
{
    if (t->laters == A64_LATERS)
        __builtin_trap();
    a64_later *later = &t->later[t->laters++];
    later->write = write;
    later->from = from;
    later->back = t->e.at;
    return later;
}

void a64_call_soft(a64_translator *t, void (*function)(a64_state *))
{
    /* rax is kept where the piece looks for it, since the address wants a register. */
    x_mov_mr(&t->e, 1, A64_AT(kept), RAX);
    x_mov_ri(&t->e, RAX, (uint64_t)(uintptr_t)function);
    x_mov_mr(&t->e, 1, A64_AT(soft), RAX);
    x_byte(&t->e, 0xe8);
    x_word(&t->e, 0);
    x_land_at(t->e.at - 4, written(t, a64_pieces_of(t->engine)->soft));
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* The exits that were jumped to from inside. */
static void write_exits(a64_translator *t)
{
    for (int i = 0; i < t->exits; i++) {
        const a64_exit *exit = &t->exit[i];
        x_land(&t->e, exit->place);
        if (exit->kind == A64_EXIT_ALIGN)
            x_mov_mr(&t->e, 1, A64_AT(address), exit->address);
        a64_spill(t, &exit->general, &exit->vector);
        a64_forget(t);
        t->flags = exit->flags;
        t->flags_saved = exit->flags_saved;
        t->pending = exit->pending;
        if (exit->kind) {
            a64_flags_save(t);
            leave_for(t, (enum a64_reason)exit->kind, exit->target);
            continue;
        }
        leave_flags(t, exit->target);
        if (exit->target <= t->pc)
            poll(t, exit->target);
        chain(t, exit->target);
    }
}

/* Whether the block ends before pc because of who is told. */
static bool told_apart(const a64_translator *t, int n, uint64_t pc)
{
    const emu_trace *trace = t->code->trace;
    return n > 0 && ((t->told && trace->what & EMU_TRACE_INSTRUCTIONS) || a64_told(t->code, pc) != t->told);
}

/* Decodes up to the block's end, and finds where flags are wanted. */
static void scan(a64_translator *t, uint64_t pc)
{
    int n = 0;
    bool end = false, traced = t->code->trace != NULL;
    bool basic = traced && t->code->trace->what & (EMU_TRACE_BLOCKS | EMU_TRACE_COVERAGE);
    int most = t->alone ? 1 : A64_BLOCK;
    while (!end && n < most && (n == 0 || (pc & (PAGE - 1)) != 0) && !(traced && told_apart(t, n, pc))) {
        tr_look(t->code, pc);
        uint32_t word;
        memcpy(&word, t->code->memory.base + pc, 4);
        t->words[n] = word;
        t->encodings[n] = (uint16_t)a64_decode(word);
        switch (t->encodings[n]) {
        case A64_NONE:
        case A64_B:
        case A64_BR:
        case A64_SVC:
        case A64_BRK:
        case A64_HLT:
            end = true;
            break;
        case A64_B_cond:
        case A64_CBZ:
        case A64_TBZ:
            end = basic; /* what is behind it may not be executed */
            break;
        default:
            break;
        }
        n++;
        pc += 4;
    }
    t->count = n;
    t->live[n] = t->encodings[n - 1] == A64_B ? !a64_flags_dead_at(t, a64_branch_target(t->words[n - 1], pc - 4))
                 : end                        ? true
                                              : !a64_flags_dead_at(t, pc);
    for (int i = n - 1; i >= 0; i--) {
        pc -= 4;
        unsigned effect = a64_flags_of(t->encodings[i], t->words[i]);
        t->live[i] = effect & A64_USES ? true : effect & A64_SETS ? false : t->live[i + 1];
        unsigned encoding = t->encodings[i];
        if (!a64_implemented((enum a64_encoding)encoding))
            t->live[i] = true;
        else if ((encoding == A64_CBZ || encoding == A64_TBZ) && !t->live[i])
            t->live[i] = !a64_flags_dead_at(t, a64_branch_target(t->words[i], pc));
    }
}

const uint8_t *a64_translate(struct a64_engine *engine, a64_translator *t, uint64_t pc, bool alone)
{
    tr_code *code = a64_code_of(engine);
    t->engine = engine;
    t->code = code;
    t->start = t->pc = pc;
    t->ended = false;
    t->alone = alone;
    t->exits = t->laters = 0;
    t->flags = FLAGS_SAVED;
    t->flags_saved = true;
    t->masked = code->masked;
    t->based = code->memory.base != NULL;
    t->told = !alone && a64_told(code, pc);
    tr_page_now(code, pc);
    uint32_t at = code->used + (t->told ? (uint32_t)sizeof(a64_block_head) : 0);
    t->e.origin = code->code + code->view;
    t->e.at = t->entry = code->code + code->view + at;
    scan(t, pc);
    a64_alloc_start(t);
    for (t->index = 0; t->index < t->count && !t->ended; t->index++) {
        t->pc = pc + 4 * (uint64_t)t->index;
        t->consumed = false;
        t->places[t->index] = t->e.at;
        a64_alloc_next(t);
        int first = t->index;
        if (!a64_dispatch_as((enum a64_encoding)t->encodings[t->index], t, t->words[t->index])) {
            a64_alloc_next(t);
            a64_exit_reason(t, A64_EXIT_STEP, t->pc);
        }
        while (first++ < t->index)
            t->places[first] = t->e.at; /* done with the one before */
        if (t->exits > A64_EXITS / 2 - 8 || t->laters > A64_LATERS - 32 ||
            t->e.at - t->entry > TR_BLOCK_ROOM / 2) {
            t->index++;
            break;
        }
    }
    uint32_t size = 4 * (uint32_t)t->index;
    t->pc = pc + size - 4;
    if (!t->ended)
        a64_exit_to(t, pc + size);
    t->done = t->index;
    t->tail = t->e.at;
    for (int i = 0; i < t->laters; i++) {
        x_land(&t->e, t->later[i].from);
        t->later[i].write(t, &t->later[i]);
    }
    write_exits(t);
    a64_show(t);
    code->used = (uint32_t)(t->e.at - code->code - code->view);
    code->translated += (uint64_t)t->index;
    tr_enter(code, pc, at, size, alone);
    if (t->told)
        memcpy(t->entry - sizeof(a64_block_head), &(a64_block_head){t->words[0], size}, sizeof(a64_block_head));
    if (code->trace != NULL)
        a64_covered(engine, pc, size);
    return code->code + at;
}

/* ---- the fixed pieces -------------------------------------------------------------------------- */

static const uint8_t *begin(tr_code *code, x64_emit *e)
{
    while ((uintptr_t)e->at & 15)
        x_byte(e, 0xcc);
    return e->at - code->view;
}

/* A call into the translator: rsi is set; goes on at what it returns. */
static void resolve(x64_emit *e, const void *function)
{
    a64_store_pins(e, true);
    x_lea(e, 1, RDI, x64_at(RSP, -A64_BIAS));
    x_mov_rr(e, 1, RSI, RAX);
    x_mov_ri(e, RAX, (uint64_t)(uintptr_t)function);
    x_lea(e, 1, RSP, x64_at(RSP, -A64_BIAS));
    x_call_r(e, RAX);
    x_lea(e, 1, RSP, x64_at(RSP, A64_BIAS));
    a64_load_pins(e, true);
    x_jmp_r(e, RAX);
}

void a64_write_pieces(tr_code *code, a64_pieces *pieces)
{
    static const int8_t saved[] = {RBX, RBP, R12, R13, R14, R15};
    x64_emit emit = {.at = code->code + code->view}, *e = &emit;
    pieces->enter = (int (*)(a64_state *, const uint8_t *))(uintptr_t)begin(code, e);
    for (size_t i = 0; i < sizeof saved; i++) {
        if (saved[i] >= 8)
            x_byte(e, 0x41);
        x_byte(e, 0x50 | (saved[i] & 7));
    }
    x_lea(e, 1, RAX, x64_at(RDI, A64_BIAS));
    x_mov_mr(e, 1, x64_at(RDI, (int32_t)offsetof(a64_state, host_rsp)), RSP);
    x_mov_rr(e, 1, RSP, RAX);
    x_sse_rm(e, PP_NONE, MAP_0F, 0, 0xae, 3, A64_AT(host_mxcsr)); /* stmxcsr */
    x_sse_rm(e, PP_NONE, MAP_0F, 0, 0xae, 2, A64_AT(mxcsr));      /* ldmxcsr */
    x_mov_rr(e, 1, RAX, RSI);
    a64_load_pins(e, true);
    x_jmp_r(e, RAX);

    pieces->leave = begin(code, e);
    x_mov_mr(e, 1, A64_AT(pc), RAX);
    a64_store_pins(e, true);
    pieces->faulted = e->at - code->view;
    x_sse_rm(e, PP_NONE, MAP_0F, 0, 0xae, 3, A64_AT(mxcsr));
    x_sse_rm(e, PP_NONE, MAP_0F, 0, 0xae, 2, A64_AT(host_mxcsr));
    x_mov_rm(e, 1, RSP, A64_AT(host_rsp));
    for (size_t i = sizeof saved; i-- > 0;) {
        if (saved[i] >= 8)
            x_byte(e, 0x41);
        x_byte(e, 0x58 | (saved[i] & 7));
    }
    x_byte(e, 0xc3);

    pieces->link = begin(code, e);
    resolve(e, (const void *)(uintptr_t)a64_linked);

    pieces->look_up = begin(code, e);
    x_lea(e, 1, RAX, x64_at(RAX, -1));
    resolve(e, (const void *)(uintptr_t)a64_looked_up);

    static const int8_t kept[] = {RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11};
    pieces->soft_fp = begin(code, e);
    x_lea(e, 1, RSP, x64_at(RSP, 8));
    x_mov_mr(e, 1, A64_AT(kept), RAX);
    x_mov_ri(e, RAX, (uint64_t)(uintptr_t)a64_soft_lanes);
    x_mov_mr(e, 1, A64_AT(soft), RAX);
    uint8_t *known = x_jmp(e);

    pieces->soft = begin(code, e);
    x_lea(e, 1, RSP, x64_at(RSP, 8));
    x_land(e, known);
    x_lahf(e);
    x_setcc(e, X_O, RAX);
    x_mov_mr16(e, A64_AT(kept_flags), RAX);
    for (int i = 1; i < 9; i++)
        x_mov_mr(e, 1, x64_at(RSP, A64_AT(kept).disp + 8 * i), kept[i]);
    for (int i = 0; i < 16; i++)
        x_movaps_mr(e, x64_at(RSP, A64_AT(kept_v).disp + 16 * i), i);
    x_lea(e, 1, RDI, x64_at(RSP, -A64_BIAS));
    x_lea(e, 1, RSP, x64_at(RSP, -A64_BIAS));
    x_call_m(e, x64_at(RDI, (int32_t)offsetof(a64_state, soft)));
    x_lea(e, 1, RSP, x64_at(RSP, A64_BIAS));
    for (int i = 0; i < 16; i++)
        x_movaps_rm(e, i, x64_at(RSP, A64_AT(kept_v).disp + 16 * i));
    x_movzx16_rm(e, RAX, A64_AT(kept_flags));
    x_byte(e, 0x04); /* add al, 0x7f */
    x_byte(e, 0x7f);
    x_sahf(e);
    for (int i = 8; i >= 0; i--)
        x_mov_rm(e, 1, kept[i], x64_at(RSP, A64_AT(kept).disp + 8 * i));
    x_jmp_m(e, A64_AT(pushed));

    code->first = code->used = (uint32_t)(e->at - code->view - code->code);
}

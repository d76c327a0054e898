/*
 * The engine that runs AArch64 programs by translation (engine.h).
 *
 * Threads of a program share one tr_code.  A thread is inside while it runs
 * translated code; translations are dropped (tr_drop) only while nobody is:
 * whoever wants that asks all to leave and waits.
 */
#include "a64.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "a64_engine.h"
#include "trace_write.h"
#include "uc.h"

#define NO_SLOT UINT32_MAX

enum { TAG = 8 /* bits of an address's top byte, which Linux lets programs use (TBI) */ };

enum { STACK = 256 << 10 /* bytes below the state, for the functions that translated code calls */ };

/* For whoever works on the translator: EMU_TRACE_STEPS=1 names each instruction that another engine does. */
static bool trace_steps(void)
{
    static int on = -1;
    if (on < 0)
        on = getenv("EMU_TRACE_STEPS") != NULL;
    return on;
}

/* What engines of one program share. */
typedef struct shared {
    tr_code *code;
    a64_pieces pieces;
    a64_translator translator; /* under the code's lock */
    struct a64_engine *engines;
    pthread_cond_t left; /* somebody has left translated code, or may enter it again */
    _Atomic int full; /* translations are to be dropped before anybody enters */
    _Atomic int dropping;
    _Atomic int tagged;
    _Atomic uint32_t changes; /* of mappings and of code, so far */
    uint32_t what, ranges;    /* of a trace: what translations are made for */
} shared;

typedef struct a64_engine {
    a64_state *state;
    void *memory;
    shared *shared;
    struct a64_engine *next;
    _Atomic int inside; /* translated code */
    _Atomic int kicked;
    uint32_t generation; /* of the translations that the jump table leads to */
    bool alone;          /* the jump table is empty, and `poll` is set: who runs leaves behind its block */
    emu_engine *stepper; /* Unicorn, for what is not translated */
    uint32_t changes;    /* that it has been told of */
    uint64_t stepped;
    uint64_t told; /* of stepped, by a64_counts */
    emu_tracer tracer;
    bool telling; /* the block that runs is told of */
} a64_engine;

const a64_pieces *a64_pieces_of(const a64_engine *engine)
{
    return &engine->shared->pieces;
}

tr_code *a64_code_of(const a64_engine *engine)
{
    return engine->shared->code;
}

/* ---- opening ------------------------------------------------------------------------------ */

static a64_engine *make(shared *shared, char *text, size_t size)
{
    size_t bytes = (STACK + sizeof(a64_state) + 4095) & ~(size_t)4095;
    a64_engine *engine = calloc(1, sizeof *engine);
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (engine == NULL || memory == MAP_FAILED) {
        snprintf(text, size, "no memory for a thread: %s; see ulimit -v", strerror(ENOMEM));
        free(engine);
        return NULL;
    }
    mprotect(memory, 4096, PROT_NONE);
    engine->memory = memory;
    engine->state = (a64_state *)(void *)(memory + STACK);
    engine->state->engine = engine;
    engine->state->base = (uint64_t)(uintptr_t)shared->code->memory.base;
    engine->state->mxcsr = a64_mxcsr(0);
    a64_flags_tables(engine->state);
    engine->shared = shared;
    pthread_mutex_lock(&shared->code->lock);
    engine->next = shared->engines;
    shared->engines = engine;
    pthread_mutex_unlock(&shared->code->lock);
    return engine;
}

static emu_engine *a64_open(uint32_t isa, const emu_user_memory *memory, char *text, size_t size)
{
    if (isa != EMU_ISA_AARCH64) {
        snprintf(text, size, "the translator runs aarch64 programs only");
        return NULL;
    }
    shared *made = calloc(1, sizeof *made);
    if (made == NULL) {
        snprintf(text, size, "no memory for the translator");
        return NULL;
    }
    made->code = tr_code_new(memory, text, size);
    if (made->code == NULL) {
        free(made);
        return NULL;
    }
    pthread_cond_init(&made->left, NULL);
    if (memory->confined)
        made->code->masked = __builtin_clzll(memory->size - 1);
    a64_write_pieces(made->code, &made->pieces);
    a64_engine *engine = make(made, text, size);
    if (engine == NULL) {
        tr_code_free(made->code);
        free(made);
    }
    return (emu_engine *)engine;
}

static emu_engine *a64_another(emu_engine *opaque, char *text, size_t size)
{
    a64_engine *engine = (a64_engine *)opaque;
    a64_engine *made = make(engine->shared, text, size);
    if (made != NULL)
        engine->shared->code->threads++;
    return (emu_engine *)made;
}

static void a64_close(emu_engine *opaque)
{
    a64_engine *engine = (a64_engine *)opaque;
    shared *shared = engine->shared;
    if (engine->stepper != NULL)
        emu_uc_user()->close(engine->stepper);
    pthread_mutex_lock(&shared->code->lock);
    for (a64_engine **at = &shared->engines; *at != NULL; at = &(*at)->next)
        if (*at == engine) {
            *at = engine->next;
            break;
        }
    bool last = --shared->code->threads == 0;
    pthread_mutex_unlock(&shared->code->lock);
    munmap(engine->memory, (STACK + sizeof(a64_state) + 4095) & ~(size_t)4095);
    free(engine);
    if (last) {
        tr_code_free(shared->code);
        pthread_cond_destroy(&shared->left);
        free(shared);
    }
}

/* ---- finding code --------------------------------------------------------------------------- */

static void clear_jumps(a64_engine *engine)
{
    memset(engine->state->jumps, 0, sizeof engine->state->jumps);
    engine->generation = engine->shared->code->generation;
}

/* Whether no code can be at pc; the state has the reason to leave then. */
static bool found_not(a64_state *state, const tr_code *code, uint64_t pc)
{
    if (pc & 3) {
        state->reason = A64_EXIT_ALIGN;
    } else if (pc >= code->memory.size || !(code->memory.rights(code->memory.opaque, pc) & EMU_RIGHT_X)) {
        state->reason = A64_EXIT_FAULT;
        state->access = EMU_RIGHT_X;
    } else {
        return false;
    }
    state->address = pc;
    return true;
}

/* Whether a block can be written; the state has the reason to leave otherwise. */
static bool may_translate(a64_state *state, tr_code *code)
{
    int error = tr_prepare(code);
    if (error != 0)
        state->reason = error == -ENOSPC ? A64_EXIT_DROP : A64_EXIT_MEMORY;
    return error == 0;
}

/*
 * The code of the block at pc; NULL with a reason to leave in the state.  The
 * guest's memory is held so that what was asked about it stays true.
 */
static const uint8_t *find(a64_engine *engine, uint64_t pc, uint32_t slot)
{
    shared *shared = engine->shared;
    tr_code *code = shared->code;
    a64_state *state = engine->state;
    const uint8_t *at = NULL;
    if (code->memory.hold != NULL)
        code->memory.hold(code->memory.opaque);
    pthread_mutex_lock(&code->lock);
    bool waits = shared->dropping || shared->full || __atomic_load_n(&state->poll, __ATOMIC_SEQ_CST);
    if (waits) {
        state->reason = A64_EXIT_KICK; /* and in again, behind the drop */
    } else if (!found_not(state, code, pc)) {
        uint32_t found = tr_find(code, pc);
        if (found != 0) {
            at = code->code + code->blocks[found - 1].at;
        } else if (may_translate(state, code)) {
            at = a64_translate(engine, &shared->translator, pc, false);
            found = code->block_count;
        }
        if (at != NULL && slot != NO_SLOT)
            tr_link(code, slot, found);
    }
    if (at != NULL && !a64_told(code, pc)) {
        size_t i = pc >> 2 & (A64_JUMPS - 1);
        state->jumps[i].code = at;
        __atomic_store_n(&state->jumps[i].pc, pc + 1, __ATOMIC_SEQ_CST);
        /* A kick since the look above has not seen this entry. */
        if (__atomic_load_n(&state->poll, __ATOMIC_SEQ_CST)) {
            state->jumps[i].pc = 0;
            state->reason = A64_EXIT_KICK;
            at = NULL;
        }
    }
    pthread_mutex_unlock(&code->lock);
    if (code->memory.release != NULL)
        code->memory.release(code->memory.opaque);
    if (at == NULL)
        state->pc = pc;
    return at;
}

/* Where a piece goes on when there is nothing to run: out, the reason being there already. */
static const uint8_t *out(a64_state *state)
{
    return state->engine->shared->pieces.faulted;
}

/* Out to a64_run, which goes on at pc. */
static bool between_told(a64_state *state, uint64_t pc)
{
    const a64_engine *engine = state->engine;
    if (engine->tracer.trace == NULL || !(engine->telling || a64_told(engine->shared->code, pc)))
        return false;
    state->pc = pc;
    state->reason = A64_EXIT_TOLD;
    return true;
}

const uint8_t *a64_linked(a64_state *state, uint32_t slot)
{
    a64_engine *engine = state->engine;
    uint64_t pc = engine->shared->code->slots[slot].pc;
    const uint8_t *code = between_told(state, pc) ? NULL : find(engine, pc, slot);
    return code == NULL ? out(state) : code;
}

const uint8_t *a64_looked_up(a64_state *state, uint64_t pc)
{
    const uint8_t *code = between_told(state, pc) ? NULL : find(state->engine, pc, NO_SLOT);
    return code == NULL ? out(state) : code;
}

/* Makes a thread leave translated code soon, and look its next address up.  In signal handlers too. */
static void call_out(a64_engine *engine)
{
    a64_state *state = engine->state;
    __atomic_store_n(&state->poll, 1, __ATOMIC_SEQ_CST);
    for (size_t i = 0; i < A64_JUMPS; i++)
        __atomic_store_n(&state->jumps[i].pc, 0, __ATOMIC_RELAXED);
    /* It may have left and come in again meanwhile, by an entry that was still there. */
    __atomic_store_n(&state->poll, 1, __ATOMIC_SEQ_CST);
}

/* ---- dropping all ------------------------------------------------------------------------------ */

static bool somebody_inside(const shared *shared)
{
    for (const a64_engine *engine = shared->engines; engine != NULL; engine = engine->next)
        if (engine->inside)
            return true;
    return false;
}

/* Called outside; no lock is held. */
static void drop(a64_engine *engine)
{
    shared *shared = engine->shared;
    tr_code *code = shared->code;
    pthread_mutex_lock(&code->lock);
    if (!shared->dropping) {
        shared->dropping = 1;
        for (a64_engine *other = shared->engines; other != NULL; other = other->next)
            call_out(other);
        while (somebody_inside(shared))
            pthread_cond_wait(&shared->left, &code->lock);
        tr_drop(code);
        if (shared->tagged && code->masked == 0)
            code->masked = TAG;
        shared->full = 0;
        shared->dropping = 0;
        pthread_cond_broadcast(&shared->left);
    }
    pthread_mutex_unlock(&code->lock);
}

/* FPCR has been set as few programs do: see a64_fp.h. */
static void become_odd(a64_engine *engine)
{
    tr_code *code = engine->shared->code;
    pthread_mutex_lock(&code->lock);
    bool news = !code->odd;
    code->odd = true;
    pthread_mutex_unlock(&code->lock);
    if (news)
        drop(engine);
}

/* Either who drops sees us inside, or we see that somebody drops. */
static void go_in(a64_engine *engine)
{
    shared *shared = engine->shared;
    for (;;) {
        engine->inside = 1;
        if (!shared->dropping)
            return;
        pthread_mutex_lock(&shared->code->lock);
        engine->inside = 0;
        pthread_cond_broadcast(&shared->left);
        while (shared->dropping)
            pthread_cond_wait(&shared->left, &shared->code->lock);
        pthread_mutex_unlock(&shared->code->lock);
    }
}

static void go_out(a64_engine *engine)
{
    shared *shared = engine->shared;
    engine->inside = 0;
    if (shared->dropping) {
        pthread_mutex_lock(&shared->code->lock);
        pthread_cond_broadcast(&shared->left);
        pthread_mutex_unlock(&shared->code->lock);
    }
}

/*
 * Guest code in a range may have changed.  Whoever runs it leaves it at the next
 * back edge, jump through a slot or to an address in a register; and nobody
 * waits for that: the lock of the guest's memory may be held.
 */
static void suspend(a64_engine *engine, uint64_t addr, uint64_t size, bool exact)
{
    shared *shared = engine->shared;
    pthread_mutex_lock(&shared->code->lock);
    if (tr_suspend(shared->code, addr, size, exact))
        for (a64_engine *other = shared->engines; other != NULL; other = other->next)
            call_out(other);
    pthread_mutex_unlock(&shared->code->lock);
}

/* ---- running --------------------------------------------------------------------------------------- */

static void save_state(a64_engine *engine, emu_cpu_state *out)
{
    a64_state *state = engine->state;
    memset(out, 0, sizeof *out);
    for (int n = 0; n < 32; n++)
        out->r[n] = *a64_x(state, n);
    out->pc = state->pc;
    unsigned flags = state->nzcv;
    out->flags = (uint64_t)((flags >> 15 & 1) << 31 | (flags >> 14 & 1) << 30 | (flags >> 8 & 1) << 29 |
                            (flags & 1) << 28);
    out->tls[0] = state->tpidr;
    out->fpcr = state->fpcr;
    out->fpsr = a64_fpsr(state, state->mxcsr);
    out->flags |= state->pstate;
    memcpy(out->v, state->v, sizeof out->v);
}

static void load_state(a64_engine *engine, const emu_cpu_state *in)
{
    a64_state *state = engine->state;
    for (int n = 0; n < 32; n++)
        *a64_x(state, n) = in->r[n];
    state->pc = in->pc;
    state->nzcv = (uint16_t)((in->flags >> 31 & 1) << 15 | (in->flags >> 30 & 1) << 14 | (in->flags >> 29 & 1) << 8 |
                             (in->flags >> 28 & 1));
    state->pstate = (uint32_t)in->flags & (A64_DIT | A64_SSBS);
    state->tpidr = in->tls[0];
    state->fpcr = (uint32_t)in->fpcr & A64_FPCR_BITS;
    state->fpsr = (uint32_t)in->fpsr & A64_FPSR_BITS;
    state->qc[0] = state->qc[1] = 0;
    state->mxcsr = a64_mxcsr(state->fpcr);
    state->exclusive = 0;
    memcpy(state->v, in->v, sizeof in->v);
}

static void a64_save(emu_engine *engine, emu_cpu_state *state)
{
    save_state((a64_engine *)engine, state);
}

static void a64_load(emu_engine *engine, const emu_cpu_state *state)
{
    load_state((a64_engine *)engine, state);
}

static void a64_result(emu_engine *engine, uint64_t value)
{
    *a64_x(((a64_engine *)engine)->state, 0) = value;
}

/*
 * One instruction by the other engine, which has no atomics: one thread at a
 * time.  True: go on; else *stop says what it met.
 */
static bool step(a64_engine *engine, emu_stop *stop)
{
    static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
    const tr_code *code = engine->shared->code;
    uint64_t pc = engine->state->pc;
    if (trace_steps()) {
        uint32_t word;
        memcpy(&word, code->memory.base + pc, 4);
        fprintf(stderr, "step %llx %08x %s\n", (unsigned long long)pc, word, a64_name(a64_decode(word)));
    }
    if (engine->stepper == NULL)
        engine->stepper = emu_uc_user()->open(EMU_ISA_AARCH64, &code->memory, stop->text, sizeof stop->text);
    if (engine->stepper == NULL) {
        stop->kind = EMU_STOP_ILLEGAL;
        stop->pc = pc;
        return false;
    }
    emu_cpu_state state;
    save_state(engine, &state);
    pthread_mutex_lock(&turn);
    uint32_t changes = engine->shared->changes;
    if (engine->changes != changes) {
        engine->changes = changes;
        emu_uc_user()->before_change(engine->stepper, 0, code->memory.size);
        emu_uc_user()->after_change(engine->stepper, 0, code->memory.size);
    }
    emu_uc_user()->load(engine->stepper, &state);
    int kind = emu_uc_user()->step(engine->stepper, stop);
    emu_uc_user()->save(engine->stepper, &state);
    pthread_mutex_unlock(&turn);
    load_state(engine, &state);
    engine->stepped++;
    return kind == 0;
}

static bool readable(const a64_engine *engine, uint64_t addr)
{
    const emu_user_memory *memory = &engine->shared->code->memory;
    if (addr >= memory->size)
        return false;
    if (memory->hold != NULL)
        memory->hold(memory->opaque);
    bool is = memory->rights(memory->opaque, addr) & EMU_RIGHT_R;
    if (memory->release != NULL)
        memory->release(memory->opaque);
    return is;
}

static int stop_for(a64_engine *engine, emu_stop *stop)
{
    a64_state *state = engine->state;
    memset(stop, 0, offsetof(emu_stop, text));
    stop->text[0] = 0;
    stop->pc = state->pc;
    switch (state->reason) {
    case A64_EXIT_SYSCALL:
        stop->kind = EMU_STOP_SYSCALL;
        stop->nr = *a64_x(state, 8);
        for (int i = 0; i < 6; i++)
            stop->args[i] = *a64_x(state, i);
        break;
    case A64_EXIT_FAULT:
        stop->kind = EMU_STOP_FAULT;
        stop->addr = state->address;
        stop->access = state->access;
        /* What both reads and writes fails as a read, unless that alone would have been allowed (Arm ARM, ESR.WnR). */
        if (stop->access == (EMU_RIGHT_R | EMU_RIGHT_W))
            stop->access = readable(engine, stop->addr) ? EMU_RIGHT_W : EMU_RIGHT_R;
        break;
    case A64_EXIT_ALIGN:
        stop->kind = EMU_STOP_ALIGN;
        stop->addr = state->address;
        break;
    case A64_EXIT_BREAK:
        stop->kind = EMU_STOP_BREAK;
        break;
    case A64_EXIT_ILLEGAL:
        stop->kind = EMU_STOP_ILLEGAL;
        break;
    case A64_EXIT_MEMORY:
        snprintf(stop->text, sizeof stop->text, "no memory for translated code; see ulimit -v");
        stop->kind = EMU_STOP_ERROR;
        break;
    default:
        stop->kind = EMU_STOP_KICK;
        break;
    }
    return stop->kind;
}

/* ---- telling --------------------------------------------------------------------------------------- */

static uint32_t wanted(const emu_trace *trace)
{
    return __atomic_load_n(&trace->what, __ATOMIC_RELAXED) & (EMU_TRACE_INSTRUCTIONS | EMU_TRACE_BLOCKS);
}

/* The reader has had enough, or wants more places: code is translated once more. */
static void look_at_trace(a64_engine *engine)
{
    uint32_t what = wanted(engine->tracer.trace);
    uint32_t ranges = __atomic_load_n(&engine->tracer.trace->range_count, __ATOMIC_ACQUIRE);
    if (what == engine->shared->what && ranges == engine->shared->ranges)
        return;
    engine->shared->what = what;
    engine->shared->ranges = ranges;
    engine->shared->full = 1;
}

static void a64_trace(emu_engine *opaque, emu_trace *trace, int32_t pid, int32_t tid)
{
    a64_engine *engine = (a64_engine *)opaque;
    tr_code *code = engine->shared->code;
    bool forked = engine->tracer.pid != 0 && engine->tracer.pid != pid;
    engine->tracer = (emu_tracer){.trace = trace, .pid = pid, .tid = tid, .isa = EMU_ISA_AARCH64};
    if (code->trace == NULL) {
        engine->shared->what = wanted(trace);
        engine->shared->ranges = __atomic_load_n(&trace->range_count, __ATOMIC_ACQUIRE);
    }
    code->trace = trace;
    if (forked && trace->what & EMU_TRACE_COVERAGE) { /* what the parent has executed is the parent's */
        pthread_mutex_lock(&code->lock);
        tr_drop(code);
        pthread_mutex_unlock(&code->lock);
    }
}

void a64_covered(const a64_engine *engine, uint64_t pc, uint32_t size)
{
    const emu_trace *trace = engine->tracer.trace;
    if (emu_trace_wants(trace, EMU_TRACE_COVERAGE) && emu_trace_in_range(trace, pc))
        emu_trace_block(&engine->tracer, EMU_TRACED_COVERED, pc, size);
}

/* The block whose code this is will be entered. */
static void begin_telling(a64_engine *engine, const uint8_t *code)
{
    emu_tracer *tracer = &engine->tracer;
    uint64_t pc = engine->state->pc;
    engine->telling = a64_told(engine->shared->code, pc);
    if (!engine->telling)
        return;
    a64_block_head head;
    memcpy(&head, code - sizeof head, sizeof head);
    if (emu_trace_wants(tracer->trace, EMU_TRACE_BLOCKS))
        emu_trace_block(tracer, EMU_TRACED_BLOCK, pc, head.size);
    tracer->begun = emu_trace_wants(tracer->trace, EMU_TRACE_INSTRUCTIONS);
    if (!tracer->begun)
        return;
    save_state(engine, &tracer->before);
    memcpy(tracer->bytes, &head.word, tracer->size = sizeof head.word);
}

/* It has been left, or the other engine has done its only instruction. */
static void end_telling(a64_engine *engine, bool complete)
{
    emu_tracer *tracer = &engine->tracer;
    emu_cpu_state now;
    if (tracer->begun && complete) {
        save_state(engine, &now);
        emu_trace_instruction(tracer, &now);
    }
    tracer->begun = engine->telling = false;
}

/* Whether the instruction before which, or behind which, translated code was left for that reason is done. */
static bool complete(uint32_t reason)
{
    return reason == A64_EXIT_TOLD || reason == A64_EXIT_SYSCALL || reason == A64_EXIT_KICK || reason == A64_EXIT_CODE;
}

/* Of exits that concern the engine alone: true, and the thread goes on. */
static bool mend(a64_engine *engine)
{
    a64_state *state = engine->state;
    switch (state->reason) {
    case A64_EXIT_CODE:
        engine->shared->changes++;
        suspend(engine, (state->address << TAG >> TAG) & ~UINT64_C(63), TR_LINE, true);
        return true;
    case A64_EXIT_TAG: /* the guest has tags in its pointers: code that takes them off from now on */
        engine->shared->tagged = 1;
        engine->shared->full = 1;
        return true;
    case A64_EXIT_DROP:
        engine->shared->full = 1;
        return true;
    default:
        return false;
    }
}

static int a64_run(emu_engine *opaque, emu_stop *stop)
{
    a64_engine *engine = (a64_engine *)opaque;
    a64_state *state = engine->state;
    engine->alone = false;
    for (;;) {
        state->poll = 0;
        if (engine->kicked) {
            engine->kicked = 0;
            state->reason = A64_EXIT_KICK;
            return stop_for(engine, stop);
        }
        if (state->fpcr & A64_FPCR_ODD)
            become_odd(engine);
        if (engine->tracer.trace != NULL)
            look_at_trace(engine);
        if (engine->shared->full)
            drop(engine);
        go_in(engine);
        if (engine->kicked) { /* between the look above and here, where call_out was of no use */
            go_out(engine);
            continue;
        }
        if (engine->generation != engine->shared->code->generation)
            clear_jumps(engine);
        size_t i = state->pc >> 2 & (A64_JUMPS - 1);
        const uint8_t *code = state->jumps[i].pc == state->pc + 1 ? state->jumps[i].code : find(engine, state->pc, NO_SLOT);
        if (code != NULL && engine->tracer.trace != NULL)
            begin_telling(engine, code);
        if (code != NULL)
            engine->shared->pieces.enter(state, code);
        go_out(engine);
        if (engine->telling && state->reason != A64_EXIT_STEP)
            end_telling(engine, complete(state->reason));
        switch (state->reason) {
        case A64_EXIT_STEP: {
            bool stepped = step(engine, stop);
            if (engine->telling)
                end_telling(engine, stepped);
            if (!stepped)
                return stop->kind;
            break;
        }
        case A64_EXIT_TOLD:
            break;
        case A64_EXIT_KICK:
            break; /* seen above, if it was one and not a drop */
        default:
            if (!mend(engine))
                return stop_for(engine, stop);
        }
    }
}

/* As find, of the instruction at pc alone.  Kicks do not concern it. */
static const uint8_t *find_alone(a64_engine *engine, uint64_t pc)
{
    shared *shared = engine->shared;
    tr_code *code = shared->code;
    a64_state *state = engine->state;
    const uint8_t *at = NULL;
    if (code->memory.hold != NULL)
        code->memory.hold(code->memory.opaque);
    pthread_mutex_lock(&code->lock);
    if (shared->dropping || shared->full) {
        state->reason = A64_EXIT_KICK;
    } else if (found_not(state, code, pc)) {
        /* the reason is there */
    } else {
        uint32_t found = tr_find_alone(code, pc);
        if (found != 0)
            at = code->code + code->blocks[found - 1].at;
        else if (may_translate(state, code))
            at = a64_translate(engine, &shared->translator, pc, true);
    }
    pthread_mutex_unlock(&code->lock);
    if (code->memory.release != NULL)
        code->memory.release(code->memory.opaque);
    return at;
}

/*
 * One instruction of translated code: its block leaves by a jump through a slot or by the table of addresses, and
 * neither leads anywhere while `poll` is set.  Exclusive access outlasts it, as it must where a loop is stepped.
 */
static int a64_step(emu_engine *opaque, emu_stop *stop)
{
    a64_engine *engine = (a64_engine *)opaque;
    a64_state *state = engine->state;
    uint64_t pc = state->pc;
    for (;;) {
        if (state->fpcr & A64_FPCR_ODD)
            become_odd(engine);
        if (engine->shared->full)
            drop(engine);
        if (!engine->alone || engine->generation != engine->shared->code->generation) {
            clear_jumps(engine);
            engine->alone = true;
        }
        go_in(engine);
        state->poll = 1;
        const uint8_t *code = find_alone(engine, pc);
        if (code != NULL)
            engine->shared->pieces.enter(state, code);
        go_out(engine);
        engine->kicked = 0;
        switch (state->reason) {
        case A64_EXIT_STEP:
            if (!step(engine, stop))
                return stop->kind;
            stop->pc = state->pc;
            return 0;
        case A64_EXIT_KICK:
            if (code == NULL) /* others drop all */
                continue;
            stop->pc = state->pc;
            return 0;
        default:
            if (!mend(engine))
                return stop_for(engine, stop);
            if (state->pc == pc) /* and it is made again */
                continue;
            stop->pc = state->pc;
            return 0;
        }
    }
}

static void a64_kick(emu_engine *opaque)
{
    a64_engine *engine = (a64_engine *)opaque;
    engine->kicked = 1;
    if (engine->inside)
        call_out(engine);
    else
        __atomic_store_n(&engine->state->poll, 1, __ATOMIC_SEQ_CST);
}

static void a64_before_change(emu_engine *opaque, uint64_t addr, uint64_t size)
{
    (void)opaque, (void)addr, (void)size;
}

static void a64_after_change(emu_engine *opaque, uint64_t addr, uint64_t size)
{
    ((a64_engine *)opaque)->shared->changes++;
    suspend((a64_engine *)opaque, addr, size, false);
}

/* ---- host faults --------------------------------------------------------------------------------------- */

/* The host registers of sites, in their order (a64_alloc.c). */
static const int8_t site_registers[] = {REG_R14, REG_R15, REG_R11, REG_RDX, REG_RCX, REG_RAX};
static const int8_t pin_registers[32] = {
    [0] = REG_RDI, [1] = REG_RSI, [2] = REG_R8, [3] = REG_R9, [4] = REG_R10,
    [19] = REG_RBX, [20] = REG_RBP, [30] = REG_R12, [31] = REG_R13,
};

/* Intel SDM volume 3, 4.7: the page fault's error code. */
enum { ERROR_WRITE = 2, VECTOR_PAGE_FAULT = 14, LOCK = 0xf0 };

static int a64_host_fault(emu_engine *opaque, int sig, const void *details, void *context)
{
    const siginfo_t *info = details;
    a64_engine *engine = (a64_engine *)opaque;
    const tr_code *code = engine->shared->code;
    ucontext_t *at = context;
    greg_t *host = at->uc_mcontext.gregs;
    const uint8_t *rip = (const uint8_t *)(uintptr_t)host[REG_RIP];
    if (!tr_holds(code, rip))
        return 0;
    const tr_site *site = tr_site_at(code, rip);
    if (site == NULL)
        return 0;
    a64_state *state = engine->state;
    for (int n = 0; n < 32; n++)
        if (a64_pins[n] >= 0 && !(n == 19 && site->more & A64_SITE_RBX))
            *a64_x(state, n) = (uint64_t)host[pin_registers[n]];
    for (size_t i = 0; i < sizeof site->general; i++)
        if (site->general[i] != TR_NOTHING)
            *a64_x(state, site->general[i]) = (uint64_t)host[site_registers[i]];
    const struct _libc_fpstate *fp = at->uc_mcontext.fpregs;
    for (int n = 0; n < 8; n++)
        memcpy(state->v[n], &fp->_xmm[n], 16);
    for (int i = 0; i < 8; i++)
        if (site->vector[i] != TR_NOTHING)
            memcpy(state->v[site->vector[i]], &fp->_xmm[8 + i], 16);
    state->pc = tr_block_at(code, rip)->pc + 4 * (uint64_t)site->index;
    a64_flags_found(state, (uint64_t)host[REG_EFL], site->more);
    state->reason = A64_EXIT_FAULT;
    if (host[REG_TRAPNO] == VECTOR_PAGE_FAULT) {
        state->address = (uint64_t)(uintptr_t)info->si_addr - state->base;
        state->access = host[REG_ERR] & ERROR_WRITE ? EMU_RIGHT_W : EMU_RIGHT_R;
    } else { /* an address that is not canonical, which the host does not tell */
        uint32_t word = 0;
        /* Not a plain load: another thread may unmap the page at this moment. */
        struct iovec to = {&word, 4}, from = {code->memory.base + state->pc, 4};
        (void)!process_vm_readv(getpid(), &to, 1, &from, 1, 0);
        state->address = a64_address(state, word);
        state->access = EMU_RIGHT_R;
        uint64_t untagged = state->address << TAG >> TAG;
        if (code->masked == 0 && untagged != state->address && untagged < code->memory.size)
            state->reason = A64_EXIT_TAG;
    }
    if (state->access == EMU_RIGHT_W && *rip == LOCK)
        state->access |= EMU_RIGHT_R; /* which of them is missing: see stop_for */
    host[REG_RIP] = (greg_t)(uintptr_t)engine->shared->pieces.faulted;
    (void)sig;
    return 1;
}

/* ---- fork ------------------------------------------------------------------------------------------------ */

static void a64_forking(emu_engine *opaque)
{
    pthread_mutex_lock(&((a64_engine *)opaque)->shared->code->lock);
}

static int a64_forked(emu_engine *opaque, char *text, size_t size)
{
    (void)text, (void)size;
    a64_engine *engine = (a64_engine *)opaque;
    shared *shared = engine->shared;
    tr_forked(shared->code, true);
    pthread_cond_init(&shared->left, NULL);
    shared->dropping = 0;
    /* The other threads' engines stay in the parent. */
    shared->engines = engine;
    engine->next = NULL;
    shared->code->threads = 1;
    /* What was done before is the parent's to tell. */
    shared->code->translated = 0;
    engine->told = engine->stepped;
    return 0;
}

static void a64_stayed(emu_engine *opaque)
{
    tr_code *code = ((a64_engine *)opaque)->shared->code;
    tr_forked(code, false);
    pthread_mutex_unlock(&code->lock);
}

static void a64_hwcap(emu_engine *engine, uint64_t out[2])
{
    (void)engine;
    a64_hwcaps(out);
}

static void a64_counts(emu_engine *opaque, uint64_t out[2])
{
    a64_engine *engine = (a64_engine *)opaque;
    out[0] = __atomic_exchange_n(&engine->shared->code->translated, 0, __ATOMIC_RELAXED);
    out[1] = engine->stepped - engine->told;
    engine->told = engine->stepped;
}

static int a64_sample(emu_engine *opaque, const void *context, emu_sample *out)
{
    const a64_engine *engine = (const a64_engine *)opaque;
    const tr_code *code = engine->shared->code;
    const ucontext_t *at = context;
    const uint8_t *rip = (const uint8_t *)(uintptr_t)at->uc_mcontext.gregs[REG_RIP];
    a64_state *state = engine->state;
    const tr_block *block = engine->inside && tr_holds(code, rip) ? tr_block_at(code, rip) : NULL;
    /* Only what a block has not written back yet is older. */
    *out = (emu_sample){.pc = state->pc, .frame = *a64_x(state, 29), .link = *a64_x(state, 30)};
    if (block == NULL)
        return engine->inside ? EMU_SAMPLED_ENGINE : EMU_SAMPLED_RUNTIME;
    const tr_site *site = tr_site_at(code, rip);
    out->pc = block->pc + (site != NULL ? 4 * (uint64_t)site->index : 0);
    out->link = (uint64_t)at->uc_mcontext.gregs[pin_registers[30]];
    return EMU_SAMPLED_GUEST;
}

static const emu_engine_ops ops = {
    .name = "translator",
    .parallel = 1,
    .only = EMU_ISA_AARCH64,
    .low = 1,
    .open = a64_open,
    .close = a64_close,
    .run = a64_run,
    .step = a64_step,
    .result = a64_result,
    .save = a64_save,
    .load = a64_load,
    .before_change = a64_before_change,
    .after_change = a64_after_change,
    .kick = a64_kick,
    .hwcap = a64_hwcap,
    .forking = a64_forking,
    .forked = a64_forked,
    .stayed = a64_stayed,
    .host_fault = a64_host_fault,
    .another = a64_another,
    .counts = a64_counts,
    .trace = a64_trace,
    .sample = a64_sample,
};

uint64_t emu_a64_stepped(const emu_engine *engine)
{
    return ((const a64_engine *)engine)->stepped;
}

const char *emu_engine_name(const char *asked)
{
    if (asked == NULL || asked[0] == 0)
        asked = getenv("EMU_ENGINE");
    return asked == NULL || asked[0] == 0 ? "translator" : asked;
}

const emu_engine_ops *emu_a64_user(void)
{
    return &ops;
}

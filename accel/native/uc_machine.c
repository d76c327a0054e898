/*
 * A whole machine on Unicorn: the memory map as the library sees it, stops,
 * and the way of requests from other threads to the CPU.
 *
 * Memory.  Whole pages of RAM and ROM are mapped; all else, holes included, is
 * one kind of MMIO that asks the memory map, so that a change of the map takes
 * effect at once except where mapped RAM goes away (then at the next block).
 *
 * Stops.  The library can stop in the middle of an instruction, which would
 * then run twice.  no_exit_request and check_exit_request (below) leave the
 * checks at the beginning of blocks only.
 *
 * Requests (kicks, interrupt lines, map changes) ring `doorbell` and then set
 * icount_decr.high, which generated code reads at the beginning of each block.
 * The library clears that word when it enters its loop, so a request could be
 * lost in between: tb_exec_lock, which it calls before it enters generated
 * code, is replaced by a look at the doorbell.  Where this cannot be had, a hook
 * on every block looks.
 */
#include "uc_machine.h"

#include "trace_machine.h"
#include "uc_patch.h"
#include "uc_user.h"

#include <dlfcn.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)

_Thread_local emu_uc_machine *emu_uc_running;

static const struct isa *const isas[] = {&emu_uc_aarch64, &emu_uc_arm, &emu_uc_riscv64, &emu_uc_x86_64};

void *emu_uc_symbol(const struct isa *isa, const char *name)
{
    char full[96];
    snprintf(full, sizeof full, "%s_%s", name, isa->suffix);
    return dlsym(uc_lib.handle, full);
}

/* ---- the doorbell ---------------------------------------------------------- */

static void force_exit(emu_uc_machine *m)
{
    uint16_t *decrementer = load_pointer(m->cpu + CPU_ICOUNT);
    __atomic_store_n(&decrementer[1], 0xffff, __ATOMIC_SEQ_CST);
}

/* In place of tb_exec_lock: called just before generated code is entered. */
static void before_code(void *uc)
{
    emu_uc_machine *m = emu_uc_running;
    if (m == NULL)
        return;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&m->doorbell, memory_order_relaxed) != 0) {
        store32(m->cpu + CPU_INTERRUPT_REQUEST, load32(m->cpu + CPU_INTERRUPT_REQUEST) | REQUEST_OURS);
        force_exit(m);
    }
}

void emu_uc_ring(emu_uc_machine *m)
{
    atomic_store(&m->doorbell, 1);
    if (atomic_load(&m->asleep) != 0)
        syscall(SYS_futex, &m->doorbell, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    if (m->features & EMU_UC_DOORBELL)
        force_exit(m);
}

/* Whether the run must end at this boundary. */
static bool must_stop(emu_uc_machine *m)
{
    return m->stop || atomic_load(&m->kicked) != 0 || atomic_load(&m->remap) != 0 || atomic_load(&m->flush) != 0;
}

/* In place of CPUClass.cpu_exec_interrupt: at a block boundary, with something in interrupt_request. */
static bool at_boundary(void *cpu, int request)
{
    emu_uc_machine *m = emu_uc_running;
    bool changed = false;
    if (m == NULL)
        return false;
    if (atomic_exchange(&m->doorbell, 0) != 0) {
        store32(m->cpu + CPU_INTERRUPT_REQUEST, load32(m->cpu + CPU_INTERRUPT_REQUEST) & ~REQUEST_OURS);
        if (must_stop(m)) {
            atomic_store(&m->doorbell, 1); /* it may have rung for an interrupt, too: the next run looks */
            m->left = true;
            uc_emu_stop(m->uc);
            return false;
        }
        /* the block that ran last may be gone: true has the loop forget it */
        changed = atomic_exchange(&m->written, 0) != 0 && emu_uc_code_changed(m);
        m->isa->lines(m);
    }
    request = (int)load32(m->cpu + CPU_INTERRUPT_REQUEST);
    if (request == 0 || m->stepping)
        return changed;
    return (m->isa->interrupt != NULL ? m->isa->interrupt : m->exec_interrupt)(cpu, request) || changed;
}

/* Where the doorbell cannot be had. */
static void on_block(uc_engine *uc, uint64_t address, uint32_t size, void *opaque)
{
    emu_uc_machine *m = opaque;
    uint64_t page = address / PAGE % EMU_UC_SEEN;
    m->seen[page / 64] |= UINT64_C(1) << page % 64;
    if (atomic_load_explicit(&m->doorbell, memory_order_relaxed) != 0 ||
        (m->isa->takes != NULL && atomic_load_explicit(&m->lines, memory_order_relaxed) != 0 && m->isa->takes(m))) {
        m->left = true;
        uc_emu_stop(uc);
    }
}

void emu_uc_machine_kick(emu_uc_machine *m)
{
    atomic_store(&m->kicked, 1);
    emu_uc_ring(m);
}

void emu_uc_machine_remap(emu_uc_machine *m)
{
    atomic_store(&m->remap, 1);
    emu_uc_ring(m);
}

void emu_uc_machine_interrupt(emu_uc_machine *m, uint32_t line, int32_t level)
{
    if (m->isa->isa == EMU_ISA_X86_64) {
        if (line == 0)
            atomic_store(&m->vector, (unsigned)level);
        else if (line == 1 && level != 0)
            atomic_store(&m->nmi, 1);
    } else if (line < 32) {
        if (level)
            atomic_fetch_or(&m->lines, 1u << line);
        else
            atomic_fetch_and(&m->lines, ~(1u << line));
    }
    emu_uc_ring(m);
}

void emu_uc_machine_input(void *m, uint32_t line, int level) { emu_uc_machine_interrupt(m, line, level); }

void emu_uc_machine_sleep(emu_uc_machine *m, int sleeps) { m->sleeps = sleeps != 0; }

/* Until something is asked of the CPU. */
static void sleep_until_rung(emu_uc_machine *m)
{
    atomic_store(&m->asleep, 1);
    while (atomic_load(&m->doorbell) == 0)
        syscall(SYS_futex, &m->doorbell, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    atomic_store(&m->asleep, 0);
}

void emu_uc_machine_accepted(emu_uc_machine *m, emu_irq_fn fn, void *opaque)
{
    m->accepted = fn;
    m->accepted_opaque = opaque;
}

/* ---- ends ------------------------------------------------------------------ */

void emu_uc_end(emu_uc_machine *m, int kind, const char *text)
{
    if (!m->stop && m->exit != NULL) {
        m->exit->kind = kind;
        if (text != NULL)
            snprintf(m->exit->text, sizeof m->exit->text, "%s", text);
    }
    m->stop = m->left = true;
    uc_emu_stop(m->uc);
}

/*
 * Ends the run from inside an MMIO access that did not happen: the rest of the
 * block is not run and the pc stays at the instruction.
 */
static void end_access(emu_uc_machine *m)
{
    if (!is_private(m))
        return;
    uintptr_t pc = load64(m->cpu + CPU_IO_PC);
    store64(m->cpu + CPU_IO_PC, 0);
    m->loop_exit_restore(m->cpu, pc);
}

static void access_failed(emu_uc_machine *m, int status, const char *what, uint64_t address)
{
    if (m->exit == NULL || !m->inside)
        return; /* the library looks for itself, between runs */
    if (status == EMU_RAISED) {
        m->raised = true;
        emu_uc_end(m, EMU_EXIT_RAISED, NULL);
    } else {
        char text[96];
        snprintf(text, sizeof text, "%s at physical address %#llx, where nothing is mapped", what,
                 (unsigned long long)address);
        if (!m->stop && m->exit != NULL)
            m->exit->address = address;
        emu_uc_end(m, EMU_EXIT_FAULT, text);
    }
    end_access(m);
}

static void (*original_check[sizeof isas / sizeof *isas])(void *);
static bool doorbells[sizeof isas / sizeof *isas];
/* Whether unmapping costs nothing, so that all holes may be pieces. */
static bool whole_space[sizeof isas / sizeof *isas];

/* The region that uc_mem_unmap is taking away (a MemoryRegion of the library). */
static _Thread_local uint8_t *leaving;

/* ---- memory ------------------------------------------------------------------ */

static uint64_t on_read(uc_engine *uc, uint64_t offset, unsigned size, void *opaque)
{
    const struct piece *piece = opaque;
    emu_uc_machine *m = piece->machine;
    uint64_t value = 0;
    int status = emu_space_read(m->memory, piece->base + offset, size, &value);
    if (status != EMU_OK && (status == EMU_RAISED || m->isa->isa != EMU_ISA_X86_64))
        access_failed(m, status, "read", piece->base + offset);
    return value;
}

static void on_write(uc_engine *uc, uint64_t offset, unsigned size, uint64_t value, void *opaque)
{
    const struct piece *piece = opaque;
    emu_uc_machine *m = piece->machine;
    int status = emu_space_write(m->memory, piece->base + offset, size, value);
    if (status != EMU_OK && (status == EMU_RAISED || m->isa->isa != EMU_ISA_X86_64))
        access_failed(m, status, "write", piece->base + offset);
}

/* The library drops the write itself; the region's hook hears of it here. */
static bool on_readonly(uc_engine *uc, uc_mem_type type, uint64_t address, int size, int64_t value, void *opaque)
{
    const struct piece *piece = opaque;
    emu_uc_machine *m = piece->machine;
    if (type != UC_MEM_WRITE_PROT || address < piece->base || address - piece->base >= piece->size)
        return false;
    int status = emu_space_write(m->memory, address, (uint32_t)size, (uint64_t)value);
    if (status == EMU_RAISED)
        access_failed(m, status, "write", address);
    return true;
}

static bool same(const struct piece *a, const struct piece *b)
{
    return a->base == b->base && a->size == b->size && a->host == b->host && a->readonly == b->readonly;
}

static bool same_map(const struct piece *pieces, size_t count, const emu_uc_machine *m)
{
    if (count != m->npieces)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!same(&pieces[i], m->pieces[i]))
            return false;
    return true;
}

/* The map as pieces from 0 to isa->space; NULL when memory is short. */
static struct piece *layout(emu_uc_machine *m, size_t *count)
{
    size_t n = emu_space_flat(m->memory, NULL, 0), got;
    emu_range *ranges = NULL;
    for (;;) { /* another thread may change the map in between */
        emu_range *more = realloc(ranges, (n + 1) * sizeof *ranges);
        if (more == NULL) {
            free(ranges);
            return NULL;
        }
        ranges = more;
        got = emu_space_flat(m->memory, ranges, n);
        if (got <= n)
            break;
        n = got;
    }
    struct piece *pieces = calloc(2 * got + 1, sizeof *pieces);
    if (pieces == NULL) {
        free(ranges);
        return NULL;
    }
    uint64_t at = 0, space = m->isa->space;
    if (!is_private(m) || !whole_space[m->which]) {
        /* what lies above the last gigabyte in use stays unmapped: an error of the library's there */
        uint64_t end = got != 0 ? ranges[got - 1].base + (ranges[got - 1].size - 1) : 0;
        if (end < space)
            space = (end | ((UINT64_C(1) << 30) - 1)) + 1;
    }
    *count = 0;
    for (size_t i = 0; i < got; i++) {
        const emu_range *range = &ranges[i];
        uint32_t kind = emu_region_kind(range->region);
        if (kind == EMU_IO || range->base >= space)
            continue;
        uint64_t end = range->base + range->size, start = (range->base + PAGE - 1) & ~(PAGE - 1);
        if (end < range->base || end > space)
            end = space;
        end &= ~(PAGE - 1);
        if (start < range->base || start >= end)
            continue;
        if (at < start)
            pieces[(*count)++] = (struct piece){.base = at, .size = start - at};
        uint8_t *host = emu_region_host(range->region);
        pieces[(*count)++] = (struct piece){.base = start,
                                            .size = end - start,
                                            .host = host + range->offset + (start - range->base),
                                            .readonly = kind == EMU_ROM};
        at = end;
    }
    if (at < space)
        pieces[(*count)++] = (struct piece){.base = at, .size = space - at};
    free(ranges);
    return pieces;
}

/* The library's record of a piece. */
static uint8_t *region_of(const emu_uc_machine *m, const struct piece *piece)
{
    const uint8_t *uc = (const uint8_t *)m->uc;
    uint8_t *const *blocks = load_pointer(uc + UC_BLOCKS);
    uint32_t count = load32(uc + UC_BLOCK_COUNT);
    for (uint32_t i = 0; blocks != NULL && i < count && count == m->mapped; i++)
        if (load64(blocks[i] + REGION_BASE) == piece->base &&
            load64(blocks[i] + REGION_END) == piece->base + piece->size)
            return blocks[i];
    return NULL;
}

static void unmap(emu_uc_machine *m, struct piece *piece)
{
    if (piece->hook != 0)
        uc_hook_del(m->uc, piece->hook);
    leaving = is_private(m) ? region_of(m, piece) : NULL;
    uc_mem_unmap(m->uc, piece->base, piece->size);
    leaving = NULL;
    m->mapped--;
    free(piece);
}

/*
 * The library cuts accesses of 8 bytes into halves, because uc_mmio_map leaves
 * impl.max_access_size of the new region at 0, which stands for 4.
 */
static void widen(const emu_uc_machine *m, const struct piece *piece)
{
    uint8_t *region = region_of(m, piece);
    if (region == NULL)
        return;
    uint8_t *ops = load_pointer(region + REGION_OPS), *opaque = load_pointer(region + REGION_OPAQUE);
    if (ops != NULL && ops == opaque + MMIO_OPS && load_pointer(opaque) == (void *)on_read &&
        load_pointer(opaque + 8) == piece && load32(ops + OPS_IMPL_MAX) == 0)
        store32(ops + OPS_IMPL_MAX, 8);
}

static uc_err map(emu_uc_machine *m, struct piece *piece)
{
    piece->machine = m;
    if (piece->host == NULL) {
        uc_err error = uc_mmio_map(m->uc, piece->base, piece->size, on_read, piece, on_write, piece);
        m->mapped += error == UC_ERR_OK;
        if (error == UC_ERR_OK && is_private(m))
            widen(m, piece);
        return error;
    }
    uc_err error = uc_mem_map_ptr(m->uc, piece->base, piece->size, UC_PROT_ALL, piece->host);
    m->mapped += error == UC_ERR_OK;
    if (error != UC_ERR_OK || !piece->readonly)
        return error;
    /* Only this call has the library drop the writes that the hook lets pass. */
    error = uc_mem_protect(m->uc, piece->base, piece->size, UC_PROT_READ | UC_PROT_EXEC);
    if (error == UC_ERR_OK)
        error = uc_hook_add(m->uc, &piece->hook, UC_HOOK_MEM_WRITE_PROT, (void *)on_readonly, piece, piece->base,
                            piece->base + piece->size - 1);
    return error;
}

/* Makes the library's map that of the memory map; the CPU is not running. */
static uc_err follow(emu_uc_machine *m)
{
    size_t count;
    struct piece *wanted = layout(m, &count);
    if (wanted == NULL)
        return UC_ERR_NOMEM;
    if (same_map(wanted, count, m)) {
        free(wanted);
        return UC_ERR_OK;
    }
    struct piece **pieces = calloc(count, sizeof *pieces);
    if (pieces == NULL) {
        free(wanted);
        return UC_ERR_NOMEM;
    }
    for (size_t i = 0; i < m->npieces; i++) {
        size_t j = 0;
        while (j < count && !same(&wanted[j], m->pieces[i]))
            j++;
        if (j < count)
            pieces[j] = m->pieces[i];
        else
            unmap(m, m->pieces[i]);
    }
    free(m->pieces);
    m->pieces = pieces;
    m->npieces = 0;
    uc_err error = UC_ERR_OK;
    for (size_t i = 0; i < count; i++) {
        if (pieces[i] == NULL && error == UC_ERR_OK) {
            pieces[i] = malloc(sizeof *pieces[i]);
            if (pieces[i] == NULL) {
                error = UC_ERR_NOMEM;
            } else {
                *pieces[i] = wanted[i];
                error = map(m, pieces[i]);
            }
        }
        if (pieces[i] != NULL)
            pieces[m->npieces++] = pieces[i];
    }
    free(wanted);
    /* The library keeps blocks by physical address and hooks by page. */
    uc_ctl_flush_tb(m->uc);
    uc_ctl_flush_tlb(m->uc);
    return error;
}

/* ---- exceptions --------------------------------------------------------------- */

static void on_exception(uc_engine *uc, uint32_t number, void *opaque)
{
    emu_uc_machine *m = opaque;
    if (emu_machines_trace != NULL)
        emu_trace_exception(m->isa->isa, emu_uc_pc(m), number);
    m->isa->exception(m, number, false);
    if (m->stepping)
        emu_uc_end(m, EMU_EXIT_DEBUG, NULL);
}

static bool on_invalid(uc_engine *uc, void *opaque)
{
    emu_uc_machine *m = opaque;
    uint32_t number = is_private(m) ? load32(m->cpu + CPU_EXCEPTION) : 1;
    /* YIELD and the like come here too: nothing to do but to go on. */
    if (number < LOOP_EXCEPTION)
        m->isa->exception(m, number, true);
    if (is_private(m)) /* for some numbers the library has noted an error already */
        store32((uint8_t *)m->uc + UC_INVALID_ERROR, UC_ERR_OK);
    if (m->stepping)
        emu_uc_end(m, EMU_EXIT_DEBUG, NULL);
    return true;
}

/* ---- running ------------------------------------------------------------------ */

uint64_t emu_uc_pc(emu_uc_machine *m)
{
    uint64_t pc = 0;
    uc_reg_read(m->uc, m->isa->pc, &pc);
    return m->isa->isa == EMU_ISA_ARM ? (uint32_t)pc : pc;
}

/* Before each instruction, of a machine that is told of: vectors are not looked at. */
static void on_told(uc_engine *uc, uint64_t address, uint32_t size, void *opaque)
{
    emu_uc_machine *m = opaque;
    emu_tracer *tracer = &m->tracer;
    bool begins = emu_trace_wants(tracer->trace, EMU_TRACE_INSTRUCTIONS) && emu_trace_in_range(tracer->trace, address);
    if (!tracer->begun && !begins)
        return;
    const struct layout *layout = &uc_layouts[m->isa->isa];
    emu_cpu_state now;
    memset(&now, 0, sizeof now);
    int regs[32];
    void *places[32];
    for (int i = 0; i < layout->generals; i++) {
        regs[i] = layout->general[i];
        places[i] = &now.r[i];
    }
    uc_reg_read_batch(uc, regs, places, layout->generals);
    if (m->isa->isa != EMU_ISA_RISCV64)
        uc_reg_read(uc, m->isa->isa == EMU_ISA_AARCH64 ? UC_ARM64_REG_NZCV
                        : m->isa->isa == EMU_ISA_ARM   ? UC_ARM_REG_CPSR
                                                       : UC_X86_REG_EFLAGS, &now.flags);
    if (m->isa->isa == EMU_ISA_ARM)
        now.flags = (uint32_t)now.flags & 0xf80f003fu;
    if (tracer->tid == 0)
        tracer->tid = (int32_t)syscall(SYS_gettid);
    if (tracer->begun)
        emu_trace_instruction(tracer, &now);
    tracer->before = now;
    tracer->before.pc = address;
    tracer->begun = begins;
    tracer->size = (uint8_t)(size == 0 || size > 15 ? 1 : size);
    memset(tracer->bytes, 0, sizeof tracer->bytes);
    uint64_t physical, first = PAGE - (address & (PAGE - 1));
    if (!begins)
        return;
    if (first > tracer->size)
        first = tracer->size;
    if (emu_uc_machine_translate(m, address, &physical) == 0)
        emu_space_peek(m->memory, physical, tracer->bytes, first);
    if (first < tracer->size && emu_uc_machine_translate(m, address + first, &physical) == 0)
        emu_space_peek(m->memory, physical, tracer->bytes + first, tracer->size - first);
}

/* Before each instruction while a budget is given. */
static void on_instruction(uc_engine *uc, uint64_t address, uint32_t size, void *opaque)
{
    emu_uc_machine *m = opaque;
    if (m->budget == 0)
        emu_uc_end(m, EMU_EXIT_BUDGET, NULL);
    else
        m->budget--;
}

static int set_counting(emu_uc_machine *m, bool counting)
{
    if (counting == m->counting)
        return 0;
    if (counting) {
        if (uc_hook_add(m->uc, &m->counter, UC_HOOK_CODE, (void *)on_instruction, m, 1, 0) != UC_ERR_OK)
            return -1;
    } else {
        uc_hook_del(m->uc, m->counter);
    }
    /* Blocks are translated with the call or without it. */
    uc_ctl_flush_tb(m->uc);
    m->counting = counting;
    if (is_private(m))
        ((uint8_t *)m->uc)[UC_NO_EXIT_REQUEST] = !counting;
    return 0;
}

static bool has_work(emu_uc_machine *m)
{
    bool (*ask)(void *);
    memcpy(&ask, m->class + CLASS_HAS_WORK, sizeof ask);
    return ask(m->cpu);
}

static int run(emu_uc_machine *m, uint64_t budget, emu_exit *exit)
{
    memset(exit, 0, sizeof *exit);
    m->exit = exit;
    m->budget = budget;
    m->raised = m->stop = false;
    if (set_counting(m, budget != 0) != 0) {
        exit->kind = EMU_EXIT_FAULT;
        snprintf(exit->text, sizeof exit->text, "no hook to count instructions with");
    }
    emu_uc_code_track(m);
    unsigned idle = 0;
    while (exit->kind == 0) {
        if (atomic_exchange(&m->kicked, 0) != 0) {
            exit->kind = EMU_EXIT_KICKED;
            break;
        }
        if (atomic_exchange(&m->remap, 0) != 0) {
            uc_err error = follow(m);
            if (error != UC_ERR_OK) {
                exit->kind = EMU_EXIT_FAULT;
                snprintf(exit->text, sizeof exit->text, "mapping memory: %s", uc_strerror(error));
                break;
            }
        }
        if (atomic_exchange(&m->flush, 0) != 0) {
            uc_ctl_flush_tb(m->uc);
            memset(m->seen, 0, sizeof m->seen);
        }
        if (atomic_exchange(&m->doorbell, 0) != 0) {
            if (must_stop(m)) {
                atomic_store(&m->doorbell, 1);
                continue;
            }
            if (atomic_exchange(&m->written, 0) != 0)
                emu_uc_code_changed(m);
            if (is_private(m))
                m->isa->lines(m);
        }
        if (m->isa->deliver != NULL)
            m->isa->deliver(m);
        if (m->halted && !has_work(m)) {
            if (m->stepping) {
                exit->kind = EMU_EXIT_DEBUG;
                break;
            }
            bool told = m->deaf;
            m->deaf = m->isa->deaf(m);
            if (m->sleeps && (told || !m->deaf)) {
                sleep_until_rung(m);
                continue;
            }
            exit->kind = EMU_EXIT_HALT;
            if (m->deaf)
                snprintf(exit->text, sizeof exit->text, EMU_HALTED_FOR_EVER);
            break;
        }
        m->halted = m->deaf = false;
        m->stop = false;
        uint64_t begin = emu_uc_pc(m);
        if (m->isa->isa == EMU_ISA_ARM) {
            uint32_t cpsr = 0;
            uc_reg_read(m->uc, UC_ARM_REG_CPSR, &cpsr);
            begin |= cpsr >> 5 & 1;
        }
        emu_uc_running = is_private(m) ? m : NULL;
        if (m->isa->enter != NULL)
            m->isa->enter(m);
        emu_uc_debug_enter(m);
        m->inside = true;
        m->left = false;
        uc_err error = uc_emu_start(m->uc, begin, 0, 0, 0);
        m->inside = false;
        emu_uc_running = NULL;
        emu_uc_debug_leave(m);
        if (exit->kind == EMU_EXIT_HALT && m->sleeps && !m->raised && !m->stepping) { /* PSCI's CPU_SUSPEND */
            exit->kind = 0;
            if (!is_private(m) || !has_work(m))
                sleep_until_rung(m);
            continue;
        }
        if (exit->kind != 0)
            break;
        if (error != UC_ERR_OK) {
            exit->kind = EMU_EXIT_FAULT;
            exit->code = (uint32_t)error;
            bool fetch = error == UC_ERR_FETCH_PROT || error == UC_ERR_FETCH_UNMAPPED;
            snprintf(exit->text, sizeof exit->text, "%s",
                     fetch ? "the next instruction is not in memory; a device is there, or nothing" : uc_strerror(error));
            break;
        }
        bool slept = is_private(m) ? load32(m->cpu + CPU_HALTED) != 0 : !m->left && atomic_load(&m->lines) == 0;
        if (slept && !(is_private(m) && has_work(m))) {
            m->halted = m->isa->may_sleep;
            if (m->stepping) {
                exit->kind = EMU_EXIT_DEBUG;
                break;
            }
            if (m->halted)
                continue;
            if (m->sleeps)
                sleep_until_rung(m);
            else
                exit->kind = EMU_EXIT_HALT;
        } else if (slept || m->left || emu_uc_pc(m) != begin) {
            idle = 0; /* the same HLT may end run after run, with an interrupt already there */
        } else if (++idle == 8) {
            exit->kind = EMU_EXIT_FAULT;
            snprintf(exit->text, sizeof exit->text, "Unicorn stops at once and does not say why");
        }
    }
    m->exit = NULL;
    exit->pc = emu_uc_pc(m);
    return exit->kind;
}

int emu_uc_machine_run(emu_uc_machine *m, uint64_t budget, emu_exit *exit) { return run(m, budget, exit); }

int emu_uc_machine_step(emu_uc_machine *m, emu_exit *exit)
{
    if (!(m->features & EMU_UC_DEBUG)) /* as well as it goes: an interrupt may come in between */
        return run(m, 1, exit);
    m->stepping = true;
    int kind = run(m, 0, exit);
    m->stepping = false;
    if (exit->kind == EMU_EXIT_DEBUG)
        exit->code = EMU_UC_STEPPED;
    return kind;
}

/* ---- registers ------------------------------------------------------------------ */

static int access_other(emu_uc_machine *m, const emu_uc_reg *reg, uint64_t *value, bool write)
{
    emu_uc_machine *before = emu_uc_running;
    emu_uc_running = is_private(m) ? m : NULL; /* for registers that we serve */
    int status = m->isa->access(m, reg, value, write);
    emu_uc_running = before;
    return status;
}

int emu_uc_machine_read(emu_uc_machine *m, const emu_uc_reg *reg, uint64_t *value)
{
    memset(value, 0, 64);
    if (reg->id < 0)
        return access_other(m, reg, value, false);
    return reg->id > 0 && uc_reg_read(m->uc, reg->id, value) == UC_ERR_OK ? 0 : -1;
}

int emu_uc_machine_write(emu_uc_machine *m, const emu_uc_reg *reg, const uint64_t *value)
{
    uint64_t copy[8];
    memcpy(copy, value, sizeof copy);
    if (reg->id == m->isa->pc)
        m->halted = false; /* who says where to go on wakes the CPU */
    if (reg->id < 0)
        return access_other(m, reg, copy, true);
    return reg->id > 0 && uc_reg_write(m->uc, reg->id, copy) == UC_ERR_OK ? 0 : -1;
}

int emu_uc_machine_halted(const emu_uc_machine *m) { return m->halted; }

void emu_uc_machine_halt(emu_uc_machine *m, int halted) { m->halted = halted && m->isa->may_sleep; }

void emu_uc_machine_forget(emu_uc_machine *m)
{
    uc_ctl_flush_tb(m->uc);
    uc_ctl_flush_tlb(m->uc);
    memset(m->seen, 0, sizeof m->seen);
}

/* ---- life ------------------------------------------------------------------------ */

/* Whether the library's insides are as uc_layout.h says, and functions stand where their names say. */
static bool examine(emu_uc_machine *m)
{
    uint8_t *cpu = uc_cpu(m->uc, m->isa->arch);
    if (cpu == NULL)
        return false;
    uint8_t *env = load_pointer(cpu + CPU_ENV), *class = load_pointer(cpu + CPU_CLASS);
    uint8_t *icount = load_pointer(cpu + CPU_ICOUNT);
    if (icount <= cpu || icount >= env || class == NULL)
        return false;
    m->do_interrupt = emu_uc_symbol(m->isa, m->isa->do_interrupt);
    m->exec_interrupt = emu_uc_symbol(m->isa, m->isa->exec_interrupt);
    m->loop_exit_restore = emu_uc_symbol(m->isa, "cpu_loop_exit_restore");
    if (m->do_interrupt == NULL || m->exec_interrupt == NULL || m->loop_exit_restore == NULL ||
        load_pointer(class + CLASS_DO_INTERRUPT) != (void *)m->do_interrupt ||
        load_pointer(class + CLASS_EXEC_INTERRUPT) != (void *)m->exec_interrupt)
        return false;
    m->cpu = cpu;
    m->env = env;
    m->class = class;
    return true;
}

/*
 * In place of check_exit_request, which emits the check inside a block.  While
 * instructions are counted it is wanted before each of them, and still not
 * behind loads and stores, where its exit would repeat the access.
 */
static bool wanted(const void *caller)
{
    emu_uc_machine *m = emu_uc_running;
    if (m == NULL)
        return true;
    Dl_info info;
    /* loads and stores are emitted by exported functions; who emits instructions has no symbol, or another */
    return m->counting && dladdr(caller, &info) != 0 &&
           (info.dli_sname == NULL || strncmp(info.dli_sname, "tcg_gen_qemu_", 13) != 0);
}

#define CHECK(n)                                                                                              \
    static void check_##n(void *tcg)                                                                          \
    {                                                                                                         \
        if (wanted(__builtin_return_address(0)))                                                              \
            original_check[n](tcg);                                                                           \
    }
CHECK(0)
CHECK(1)
CHECK(2)
CHECK(3)
static void (*const checks[])(void *) = {check_0, check_1, check_2, check_3};

/*
 * In place of tlb_flush_page: uc_mem_unmap calls it for every page of the range
 * (hours, for a large hole), and follow() flushes all of them afterwards anyway.
 * The loop ends where the region says, which is not read again.
 */
static void (*original_flush[sizeof isas / sizeof *isas])(void *, uint64_t);
#define FLUSH(n)                                                                                              \
    static void flush_##n(void *cpu, uint64_t address)                                                        \
    {                                                                                                         \
        if (leaving == NULL)                                                                                  \
            original_flush[n](cpu, address);                                                                  \
        else                                                                                                  \
            store64(leaving + REGION_END, load64(leaving + REGION_BASE));                                     \
    }
FLUSH(0)
FLUSH(1)
FLUSH(2)
FLUSH(3)
static void (*const flushes[])(void *, uint64_t) = {flush_0, flush_1, flush_2, flush_3};

static void replace(void)
{
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        char name[64];
        snprintf(name, sizeof name, "check_exit_request_%s", isas[i]->suffix);
        /* its own first: ours may be called as soon as it is in place; then what stood there before */
        void *original = dlsym(uc_lib.handle, name);
        memcpy(&original_check[i], &original, sizeof original);
        original = emu_uc_replace(uc_lib.handle, name, (void *)checks[i]);
        if (original == NULL)
            continue;
        memcpy(&original_check[i], &original, sizeof original);
        snprintf(name, sizeof name, "tb_exec_lock_%s", isas[i]->suffix);
        doorbells[i] = emu_uc_replace(uc_lib.handle, name, (void *)before_code) != NULL;
        emu_uc_code_replace(i, isas[i]);
        emu_uc_debug_replace(isas[i]);
        snprintf(name, sizeof name, "tlb_flush_page_%s", isas[i]->suffix);
        original = dlsym(uc_lib.handle, name);
        memcpy(&original_flush[i], &original, sizeof original);
        original = emu_uc_replace(uc_lib.handle, name, (void *)flushes[i]);
        whole_space[i] = original != NULL;
        if (original != NULL)
            memcpy(&original_flush[i], &original, sizeof original);
    }
}

static emu_uc_machine *fail(emu_uc_machine *m, char *text, size_t size, const char *what, uc_err error)
{
    snprintf(text, size, "%s: %s", what, uc_strerror(error));
    emu_uc_machine_free(m);
    return NULL;
}

emu_uc_machine *emu_uc_machine_new(const emu_uc_config *config, emu_space *memory, emu_space *ports, char *text,
                                   size_t size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    emu_uc_machine *m = calloc(1, sizeof *m);
    if (m == NULL) {
        snprintf(text, size, "out of memory");
        return NULL;
    }
    size_t which = 0;
    while (which < sizeof isas / sizeof *isas && isas[which]->isa != config->isa)
        which++;
    if (which == sizeof isas / sizeof *isas) {
        snprintf(text, size, "no such instruction set: %u", config->isa);
        free(m);
        return NULL;
    }
    m->isa = isas[which];
    m->which = which;
    pthread_mutex_init(&m->lock, NULL);
    m->config = *config;
    m->memory = memory;
    m->ports = ports;
    uc_err error = uc_open(m->isa->arch, m->isa->mode, &m->uc);
    if (error != UC_ERR_OK)
        return fail(m, text, size, "uc_open", error);
    int model = config->model >= 0 ? config->model : m->isa->model;
    if ((error = uc_ctl_set_cpu_model(m->uc, model)) != UC_ERR_OK)
        return fail(m, text, size, "this CPU model", error);
    if (m->isa->arch == UC_ARCH_ARM || m->isa->arch == UC_ARCH_ARM64)
        uc_ctl_set_page_size(m->uc, (uint32_t)PAGE);
    uc_ctl_exits_enable(m->uc);
    uc_reg_read(m->uc, m->isa->pc, (uint64_t[8]){0}); /* the first use creates the CPU */
    if (!(config->flags & EMU_UC_PUBLIC) && examine(m)) {
        pthread_once(&once, replace);
        m->features |= EMU_UC_PRIVATE;
        if (doorbells[which])
            m->features |= EMU_UC_DOORBELL;
        emu_uc_code_watch(m);
        emu_uc_debug_new(m);
    }
    if (!is_private(m) && m->isa->deliver == NULL) {
        snprintf(text, size, "libunicorn is not the 2.1.4 this was verified with; only aarch64 runs without that");
        emu_uc_machine_free(m);
        return NULL;
    }
    uc_hook hook;
    if ((error = uc_hook_add(m->uc, &hook, UC_HOOK_INTR, (void *)on_exception, m, 1, 0)) != UC_ERR_OK ||
        (error = uc_hook_add(m->uc, &hook, UC_HOOK_INSN_INVALID, (void *)on_invalid, m, 1, 0)) != UC_ERR_OK)
        return fail(m, text, size, "hooks", error);
    if (emu_machines_trace != NULL && emu_machines_trace->what & EMU_TRACE_INSTRUCTIONS) {
        m->tracer = (emu_tracer){.trace = emu_machines_trace, .pid = getpid(), .isa = m->isa->isa};
        if ((error = uc_hook_add(m->uc, &hook, UC_HOOK_CODE, (void *)on_told, m, 1, 0)) != UC_ERR_OK)
            return fail(m, text, size, "hooks", error);
    }
    if (!(m->features & EMU_UC_DOORBELL) &&
        (error = uc_hook_add(m->uc, &m->block, UC_HOOK_BLOCK, (void *)on_block, m, 1, 0)) != UC_ERR_OK)
        return fail(m, text, size, "hooks", error);
    if (m->isa->reset(m, config) != 0) {
        snprintf(text, size, "the CPU does not take its reset state");
        emu_uc_machine_free(m);
        return NULL;
    }
    if (is_private(m)) {
        ((uint8_t *)m->uc)[UC_NO_EXIT_REQUEST] = 1;
        exec_interrupt_fn ours = at_boundary;
        memcpy(m->class + CLASS_EXEC_INTERRUPT, &ours, sizeof ours);
    }
    if ((error = follow(m)) != UC_ERR_OK)
        return fail(m, text, size, "mapping memory", error);
    if (emu_space_watch(memory, emu_uc_code_written, m) != 0)
        return fail(m, text, size, "watching memory", UC_ERR_RESOURCE);
    return m;
}

void emu_uc_machine_free(emu_uc_machine *m)
{
    if (m == NULL)
        return;
    emu_space_unwatch(m->memory, m);
    emu_uc_timers_free(m);
    if (m->uc != NULL)
        uc_close(m->uc);
    for (size_t i = 0; i < m->npieces; i++)
        free(m->pieces[i]);
    free(m->pieces);
    emu_uc_code_free(m);
    free(m->watches);
    free(m->breakpoints);
    free(m->changes);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

uint32_t emu_uc_machine_features(const emu_uc_machine *m) { return m->features; }

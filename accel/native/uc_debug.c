/*
 * Stops for a debugger: at addresses, at accesses, after one instruction.
 *
 * Breakpoints and single steps are the library's own, which its public calls
 * do not reach: code at a breakpoint, and code that is translated while
 * singlestep_enabled is set, ends in EXCP_DEBUG.  What is translated for a step is
 * told from the rest by flags of its block (cflags_next_tb), so the rest stays: at most two instructions, which
 * nobody else asks for, and of which singlestep_enabled leaves one.
 *
 * Of watchpoints only the question is left in the library: it asks when an
 * address gets into the TLB whether a page is watched, and at each access to
 * such a page.  Both functions are empty there, and replaced here.  Nothing that is far
 * from a breakpoint or off a watched page becomes slower.
 */
#include "uc_machine.h"
#include "uc_patch.h"

#include <stdio.h>
#include <stdlib.h>

#define PAGE UINT64_C(4096)

enum { BP_GDB = 0x10, CF_COUNT_2 = 2, STEP_ENABLE = 1, STEP_NO_IRQ = 2 };

typedef int (*insert_fn)(void *cpu, uint64_t pc, int flags, void **breakpoint);
typedef void (*remove_all_fn)(void *cpu, int mask);

/* In place of CPUClass.debug_excp_handler. */
static void on_debug(void *cpu)
{
    emu_uc_machine *m = emu_uc_running;
    if (m == NULL)
        return;
    bool ours = m->stepping;
    for (size_t i = 0; !ours && i < m->nbreakpoints; i++)
        ours = m->breakpoints[i] == emu_uc_pc(m);
    if (!ours) { /* the guest's own, by its debug registers */
        m->debug_handler(cpu);
        return;
    }
    if (m->exit != NULL)
        m->exit->code = m->stepping ? EMU_UC_STEPPED : EMU_UC_AT_BREAKPOINT;
    emu_uc_end(m, EMU_EXIT_DEBUG, NULL);
}

/* In place of cpu_watchpoint_address_matches: which accesses to the range are to be told of. */
static int address_matches(void *cpu, uint64_t address, uint64_t size)
{
    const emu_uc_machine *m = emu_uc_running;
    int kinds = 0;
    for (size_t i = 0; m != NULL && i < m->nwatches; i++)
        if (m->watches[i].addr <= address + (size - 1) && address <= m->watches[i].addr + (m->watches[i].size - 1))
            kinds |= (int)m->watches[i].kinds;
    return kinds;
}

/* In place of cpu_check_watchpoint: an access to a page with a watchpoint is about to be made. */
static void check_watchpoint(void *cpu, uint64_t address, uint64_t size, uint64_t attributes, int kind, uintptr_t pc)
{
    emu_uc_machine *m = emu_uc_running;
    if (m == NULL || !m->inside || m->stepping || (address_matches(cpu, address, size) & kind) == 0)
        return;
    if (m->exit != NULL && !m->stop) {
        m->exit->code = kind == EMU_UC_WATCH_WRITE ? EMU_UC_AT_WRITE : EMU_UC_AT_READ;
        m->exit->address = address;
    }
    emu_uc_end(m, EMU_EXIT_DEBUG, NULL);
    if (pc != 0)
        m->loop_exit_restore(m->cpu, pc);
}

void emu_uc_debug_replace(const struct isa *isa)
{
    char name[64];
    snprintf(name, sizeof name, "cpu_watchpoint_address_matches_%s", isa->suffix);
    emu_uc_replace(uc_lib.handle, name, (void *)address_matches);
    snprintf(name, sizeof name, "cpu_check_watchpoint_%s", isa->suffix);
    emu_uc_replace(uc_lib.handle, name, (void *)check_watchpoint);
}

void emu_uc_debug_new(emu_uc_machine *m)
{
    void *insert = emu_uc_symbol(m->isa, "cpu_breakpoint_insert");
    void *remove_all = emu_uc_symbol(m->isa, "cpu_breakpoint_remove_all");
    void *handler = m->isa->debug_handler != NULL ? emu_uc_symbol(m->isa, m->isa->debug_handler) : NULL;
    void *there = load_pointer(m->class + CLASS_DEBUG_HANDLER);
    if (insert == NULL || remove_all == NULL || (m->isa->debug_handler != NULL && handler != there) ||
        !emu_uc_can_step(m->cpu, on_debug))
        return;
    memcpy(&m->debug_handler, &there, sizeof m->debug_handler);
    m->features |= EMU_UC_DEBUG;
}

int emu_uc_machine_debug(emu_uc_machine *m, const uint64_t *breakpoints, size_t count, const emu_uc_watch *watches,
                         size_t nwatches)
{
    if (!(m->features & EMU_UC_DEBUG))
        return -1;
    emu_uc_watch *watched = malloc((nwatches + 1) * sizeof *watched);
    uint64_t *stops = malloc((count + 1) * sizeof *stops);
    if (watched == NULL || stops == NULL) {
        free(watched);
        free(stops);
        return -1;
    }
    if (nwatches != 0)
        memcpy(watched, watches, nwatches * sizeof *watched);
    if (count != 0)
        memcpy(stops, breakpoints, count * sizeof *stops);
    if (m->nwatches != 0 || nwatches != 0)
        uc_ctl_flush_tlb(m->uc);
    free(m->watches);
    m->watches = watched;
    m->nwatches = nwatches;
    free(m->breakpoints);
    m->breakpoints = stops;
    m->nbreakpoints = count;

    insert_fn insert;
    remove_all_fn remove_all;
    void *symbol = emu_uc_symbol(m->isa, "cpu_breakpoint_insert");
    memcpy(&insert, &symbol, sizeof insert);
    symbol = emu_uc_symbol(m->isa, "cpu_breakpoint_remove_all");
    memcpy(&remove_all, &symbol, sizeof remove_all);
    remove_all(m->cpu, BP_GDB);
    for (size_t i = 0; i < count; i++)
        insert(m->cpu, breakpoints[i], BP_GDB, NULL);
    uc_ctl_flush_tb(m->uc);
    return 0;
}

bool emu_uc_can_step(uint8_t *cpu, void (*stopped)(void *cpu))
{
    uint8_t *class = load_pointer(cpu + CPU_CLASS);
    if (load_pointer(class + CLASS_DEBUG_HANDLER) == NULL || load32(cpu + CPU_CFLAGS_NEXT) != UINT32_MAX ||
        load32(cpu + CPU_SINGLESTEP) != 0)
        return false;
    memcpy(class + CLASS_DEBUG_HANDLER, &stopped, sizeof stopped);
    return true;
}

void emu_uc_step_begin(uint8_t *cpu)
{
    store32(cpu + CPU_SINGLESTEP, STEP_ENABLE | STEP_NO_IRQ);
    store32(cpu + CPU_CFLAGS_NEXT, CF_COUNT_2);
}

void emu_uc_step_end(uint8_t *cpu)
{
    store32(cpu + CPU_SINGLESTEP, 0);
    store32(cpu + CPU_CFLAGS_NEXT, UINT32_MAX);
}

void emu_uc_debug_enter(emu_uc_machine *m)
{
    if (m->stepping)
        emu_uc_step_begin(m->cpu);
}

void emu_uc_debug_leave(emu_uc_machine *m)
{
    if (m->stepping)
        emu_uc_step_end(m->cpu);
}

/* Not by uc_vmem_translate where there is another way: it fills the TLB, as an access would. */
int emu_uc_machine_translate(emu_uc_machine *m, uint64_t address, uint64_t *physical)
{
    uint64_t (*translate)(void *cpu, uint64_t address, uint32_t *attributes);
    void *symbol = is_private(m) ? emu_uc_symbol(m->isa, m->isa->translate) : NULL;
    uint32_t attributes[8] = {0};
    if (symbol == NULL) /* code that may not be read, data that may not be run */
        return uc_vmem_translate(m->uc, address, UC_PROT_READ, physical) == UC_ERR_OK ||
                       uc_vmem_translate(m->uc, address, UC_PROT_EXEC, physical) == UC_ERR_OK
                   ? 0
                   : -1;
    memcpy(&translate, &symbol, sizeof translate);
    emu_uc_machine *before = emu_uc_running;
    emu_uc_running = m;
    uint64_t page = translate(m->cpu, address & ~(PAGE - 1), attributes);
    emu_uc_running = before;
    if (page == UINT64_MAX)
        return -1;
    *physical = page | (address & (PAGE - 1));
    return 0;
}

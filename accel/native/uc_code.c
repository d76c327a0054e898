/*
 * Noticing that code has changed, under whatever address it was written.
 *
 * The library marks the TLB entry through which a page is executed so that
 * stores come to a slow path (TLB_NOTDIRTY), which drops the translations that
 * a store touches.  It does so for the executing virtual address alone: stores
 * under another address of the page go unnoticed.  And entries that allow both
 * writing and executing stay on the slow path for ever, code or not.
 *
 * Here the functions that it calls for this are replaced: `pages` knows which
 * pages have translations; when a page gets its first, every TLB entry of it is
 * marked; an entry is unmarked when its page has none left.  The cost is one
 * scan of the TLB at each of these changes.
 *
 * A machine whose guest others execute too (`foreign`) is not told of changes.
 * Each run of it is an epoch with an empty TLB, so that a page's first execution
 * looks its address up: then the page is compared with a copy from when it got
 * its first translation.  What a block takes of the next page is compared, too.
 */
#include "uc_machine.h"
#include "uc_patch.h"

#include <stdio.h>
#include <stdlib.h>

#define PAGE UINT64_C(4096)
#define TARGETS 4
#define MOST_CHANGES 65536

struct target {
    void (*protect)(void *uc, uint64_t ram);
    void (*unprotect)(void *uc, uint64_t ram);
    void (*set_dirty)(void *cpu, uint64_t address);
    void (*invalidate)(void *uc, void *locked, uint64_t ram, int size, uintptr_t pc);
    void (*flush)(void *cpu);
    void (*reset_dirty)(void *cpu, uintptr_t host, uintptr_t size);
    void *(*host)(void *uc, void *block, uint64_t ram);
    uint64_t (*ram)(void *uc, void *host);
    void (*invalidate_range)(void *uc, uint64_t start, uint64_t end);
    uint64_t (*fetch)(void *env, uint64_t address); /* x86-64 alone, as the next */
    void *(*generate)(void *cpu, uint64_t pc, uint64_t base, uint32_t flags, int compile_flags);
    bool ready;
};

/* By number in uc_machine.c's table of instruction sets, where x86-64 is the last. */
static struct target targets[TARGETS];

/* ---- which pages have translations ------------------------------------------ */

static bool has_code(const emu_uc_machine *m, uint64_t ram)
{
    uint64_t page = ram / PAGE;
    return page / 64 < m->code_words && (m->code[page / 64] >> page % 64 & 1) != 0;
}

struct verified { /* a page of RAM with translations, in a foreign machine */
    uint8_t *copy;
    uint32_t compared, fetched; /* the epochs in which it was last so */
    uint64_t next;              /* the page on which a block of this one ends, or 0 */
};

static void forget_copies(emu_uc_machine *m)
{
    for (uint64_t i = 0; m->verified != NULL && i < m->code_words * 64; i++)
        free(m->verified[i].copy);
    free(m->verified);
    m->verified = NULL;
}

static struct verified *verified_page(emu_uc_machine *m, uint64_t ram)
{
    if (m->verified == NULL)
        m->verified = calloc(m->code_words * 64, sizeof *m->verified);
    return m->verified != NULL && ram / PAGE / 64 < m->code_words ? &m->verified[ram / PAGE] : NULL;
}

static bool set_code(emu_uc_machine *m, uint64_t ram, bool present)
{
    uint64_t page = ram / PAGE, words = page / 64 + 1;
    if (words > m->code_words) {
        if (!present)
            return true;
        words += words / 2;
        uint64_t *more = realloc(m->code, words * sizeof *more);
        if (more == NULL)
            return false;
        memset(more + m->code_words, 0, (words - m->code_words) * sizeof *more);
        m->code = more;
        if (m->verified != NULL) {
            struct verified *wider = realloc(m->verified, words * 64 * sizeof *wider);
            if (wider == NULL)
                return false;
            memset(wider + m->code_words * 64, 0, (words - m->code_words) * 64 * sizeof *wider);
            m->verified = wider;
        }
        m->code_words = words;
    }
    if (present)
        m->code[page / 64] |= UINT64_C(1) << page % 64;
    else
        m->code[page / 64] &= ~(UINT64_C(1) << page % 64);
    return true;
}

static void forget(emu_uc_machine *m)
{
    if (m->code != NULL)
        memset(m->code, 0, m->code_words * sizeof *m->code);
    forget_copies(m);
}

/* ---- the TLB ------------------------------------------------------------------ */

/* CPUTLBDesc and CPUTLBEntry, in bytes; they hold addresses of the guest's width. */
struct tlb {
    size_t desc;    /* of a CPUTLBDesc */
    size_t used;    /* entries in use */
    size_t victims; /* eight entries */
    size_t entry;   /* of a CPUTLBEntry */
    size_t write, addend;
};
static const struct tlb tlb64 = {0x2b8, 0x20, 0x30, 64, 8, 0x20}, tlb32 = {0x2b0, 0x18, 0x28, 64, 4, 0x18};
#define VICTIMS 8

static const struct tlb *layout_of(const emu_uc_machine *m) { return m->isa->tlb_wide ? &tlb64 : &tlb32; }

static uint64_t load_address(const emu_uc_machine *m, const uint8_t *at)
{
    return m->isa->tlb_wide ? load64(at) : load32(at);
}

/* Lets stores to the page of `ram` go the fast way again: it has no translations. */
static void unmark(emu_uc_machine *m, const struct target *t, uint64_t ram)
{
    const struct tlb *tlb = layout_of(m);
    uintptr_t host = (uintptr_t)t->host(m->uc, NULL, ram & ~(PAGE - 1));
    uint64_t marked = m->isa->tlb_notdirty, flags = marked * 4 - 1; /* TLB_INVALID_MASK is the highest flag */
    uint8_t *fast = (uint8_t *)load_pointer(m->cpu + CPU_ICOUNT) - 16 * m->isa->tlb_modes;
    uint8_t *desc = fast - tlb->desc * m->isa->tlb_modes;
    for (unsigned mode = 0; mode < m->isa->tlb_modes; mode++, fast += 16, desc += tlb->desc) {
        if (load64(desc + tlb->used) == 0)
            continue;
        uint8_t *tables[] = {load_pointer(fast + 8), desc + tlb->victims};
        size_t counts[] = {load64(fast) / tlb->entry + 1, VICTIMS};
        for (int i = 0; i < 2; i++)
            for (uint8_t *entry = tables[i]; counts[i]-- != 0; entry += tlb->entry) {
                uint64_t write = load_address(m, entry + tlb->write);
                if ((write & flags) != marked || (write & ~(PAGE - 1)) + load64(entry + tlb->addend) != host)
                    continue;
                if (m->isa->tlb_wide)
                    store64(entry + tlb->write, write & ~marked);
                else
                    store32(entry + tlb->write, (uint32_t)(write & ~marked));
            }
    }
}

/* ---- in place of the library's functions ---------------------------------------- */

/* What the page's translations are of; without memory for it they are dropped in the next epoch. */
static void copy(emu_uc_machine *m, const struct target *t, uint64_t ram)
{
    struct verified *page = verified_page(m, ram);
    if (page == NULL)
        return;
    if (page->copy == NULL)
        page->copy = malloc(PAGE);
    if (page->copy != NULL)
        memcpy(page->copy, t->host(m->uc, NULL, ram & ~(PAGE - 1)), PAGE);
    page->compared = m->epoch;
}

static void compare(emu_uc_machine *m, const struct target *t, uint64_t ram)
{
    ram &= ~(PAGE - 1);
    if (!has_code(m, ram))
        return;
    struct verified *page = verified_page(m, ram);
    if (page != NULL && page->compared == m->epoch)
        return;
    if (page == NULL || page->copy == NULL || memcmp(page->copy, t->host(m->uc, NULL, ram), PAGE) != 0)
        t->invalidate_range(m->uc, ram, ram + PAGE);
    if (page != NULL)
        page->compared = m->epoch;
}

/* The address in RAM of code; all ones: it is not in RAM. */
static uint64_t fetch(struct target *t, void *env, uint64_t address)
{
    uint64_t ram = t->fetch(env, address);
    emu_uc_machine *m = emu_uc_running;
    if (m == NULL || !m->foreign || ram == UINT64_MAX)
        return ram;
    struct verified *page = verified_page(m, ram);
    if (page == NULL || page->fetched != m->epoch) {
        compare(m, t, ram);
        if (page != NULL && page->next != 0)
            compare(m, t, page->next);
        if (page != NULL)
            page->fetched = m->epoch;
    }
    if (m->generating == UINT64_MAX)
        m->generating = ram & ~(PAGE - 1);
    else if (m->generating != 0 && m->generating != (ram & ~(PAGE - 1)) &&
             (page = verified_page(m, m->generating)) != NULL)
        page->next = ram & ~(PAGE - 1);
    return ram;
}

static void *generate(struct target *t, void *cpu, uint64_t pc, uint64_t base, uint32_t flags, int compile_flags)
{
    emu_uc_machine *m = emu_uc_running;
    if (m != NULL)
        m->generating = UINT64_MAX; /* until the first fetch says where */
    void *block = t->generate(cpu, pc, base, flags, compile_flags);
    if (m != NULL)
        m->generating = 0;
    return block;
}

void emu_uc_code_foreign(emu_uc_machine *m)
{
    m->epoch++;
    uc_ctl_flush_tlb(m->uc);
}

void emu_uc_code_free(emu_uc_machine *m)
{
    forget_copies(m);
    free(m->code);
}

/* A page got its first translation. */
static void protect(struct target *t, void *uc, uint64_t ram)
{
    emu_uc_machine *m = emu_uc_running;
    t->protect(uc, ram);
    if (m == NULL || !(m->features & EMU_UC_ALIASES))
        return;
    if (!set_code(m, ram, true))
        emu_uc_end(m, EMU_EXIT_FAULT, "out of memory");
    if (m->foreign)
        copy(m, t, ram);
    t->reset_dirty(m->cpu, (uintptr_t)t->host(uc, NULL, ram & ~(PAGE - 1)), PAGE);
}

/* The last translation of a page went. */
static void unprotect(struct target *t, void *uc, uint64_t ram)
{
    emu_uc_machine *m = emu_uc_running;
    t->unprotect(uc, ram);
    if (m != NULL)
        set_code(m, ram, false);
}

/* A store through a marked entry; after this the library may unmark the entry (set_dirty). */
static void invalidate(struct target *t, void *uc, void *locked, uint64_t ram, int size, uintptr_t pc)
{
    emu_uc_machine *m = emu_uc_running;
    if (m == NULL || !(m->features & EMU_UC_ALIASES)) {
        t->invalidate(uc, locked, ram, size, pc);
        return;
    }
    if (m->tracked != 0)
        emu_space_mark_host(m->memory, t->host(uc, NULL, ram), (uint64_t)size);
    m->stored = ram;
    if (has_code(m, ram))
        t->invalidate(uc, locked, ram, size, pc);
    if (!has_code(m, ram))
        unmark(m, t, ram);
}

static void set_dirty(struct target *t, void *cpu, uint64_t address)
{
    emu_uc_machine *m = emu_uc_running;
    if (m == NULL || !(m->features & EMU_UC_ALIASES) || !has_code(m, m->stored))
        t->set_dirty(cpu, address);
}

static void flush(struct target *t, void *cpu)
{
    emu_uc_machine *m = emu_uc_running;
    t->flush(cpu);
    if (m != NULL)
        forget(m);
}

#define TARGET(n)                                                                                             \
    static void protect_##n(void *uc, uint64_t ram) { protect(&targets[n], uc, ram); }                        \
    static void unprotect_##n(void *uc, uint64_t ram) { unprotect(&targets[n], uc, ram); }                    \
    static void set_dirty_##n(void *cpu, uint64_t address) { set_dirty(&targets[n], cpu, address); }          \
    static void flush_##n(void *cpu) { flush(&targets[n], cpu); }                                             \
    static void invalidate_##n(void *uc, void *locked, uint64_t ram, int size, uintptr_t pc)                  \
    {                                                                                                         \
        invalidate(&targets[n], uc, locked, ram, size, pc);                                                   \
    }
static uint64_t fetch_x86(void *env, uint64_t address) { return fetch(&targets[3], env, address); }
static void *generate_x86(void *cpu, uint64_t pc, uint64_t base, uint32_t flags, int compile_flags)
{
    return generate(&targets[3], cpu, pc, base, flags, compile_flags);
}

TARGET(0)
TARGET(1)
TARGET(2)
TARGET(3)

static void *const ours[TARGETS][5] = {
#define OURS(n)                                                                                               \
    {(void *)protect_##n, (void *)unprotect_##n, (void *)set_dirty_##n, (void *)invalidate_##n, (void *)flush_##n}
    OURS(0), OURS(1), OURS(2), OURS(3),
};

static void find(void *place, const struct isa *isa, const char *name)
{
    void *symbol = emu_uc_symbol(isa, name);
    memcpy(place, &symbol, sizeof symbol);
}

void emu_uc_code_replace(size_t which, const struct isa *isa)
{
    static const char *const names[5] = {"tlb_protect_code", "tlb_unprotect_code", "tlb_set_dirty",
                                         "tb_invalidate_phys_page_fast", "tb_flush"};
    static const size_t places[5] = {offsetof(struct target, protect), offsetof(struct target, unprotect),
                                     offsetof(struct target, set_dirty), offsetof(struct target, invalidate),
                                     offsetof(struct target, flush)};
    struct target *t = &targets[which];
    find(&t->protect, isa, names[0]);
    find(&t->unprotect, isa, names[1]);
    find(&t->set_dirty, isa, names[2]);
    find(&t->invalidate, isa, names[3]);
    find(&t->flush, isa, names[4]);
    find(&t->reset_dirty, isa, "tlb_reset_dirty");
    find(&t->host, isa, "qemu_map_ram_ptr");
    find(&t->ram, isa, "qemu_ram_addr_from_host");
    find(&t->invalidate_range, isa, "tb_invalidate_phys_range");
    if (!t->protect || !t->unprotect || !t->set_dirty || !t->invalidate || !t->flush || !t->reset_dirty ||
        !t->host || !t->ram || !t->invalidate_range)
        return;
    t->ready = true;
    for (int i = 0; i < 5; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_%s", names[i], isa->suffix);
        void *before = emu_uc_replace(uc_lib.handle, name, ours[which][i]);
        if (before == NULL)
            t->ready = false; /* those that were replaced do what they did: no machine has EMU_UC_ALIASES */
        else
            memcpy((char *)t + places[i], &before, sizeof before);
    }
    if (isa == &emu_uc_x86_64) {
        find(&t->fetch, isa, "get_page_addr_code");
        find(&t->generate, isa, "tb_gen_code");
        t->ready = t->ready && t->fetch != NULL && t->generate != NULL &&
                   emu_uc_replace(uc_lib.handle, "get_page_addr_code_x86_64", (void *)fetch_x86) != NULL &&
                   emu_uc_replace(uc_lib.handle, "tb_gen_code_x86_64", (void *)generate_x86) != NULL;
    }
}

/* Whether the TLB is as unmark() takes it to be. */
static bool is_laid_out(const emu_uc_machine *m)
{
    const struct tlb *tlb = layout_of(m);
    const uint8_t *fast = (const uint8_t *)load_pointer(m->cpu + CPU_ICOUNT) - 16 * m->isa->tlb_modes;
    const uint8_t *desc = fast - tlb->desc * m->isa->tlb_modes;
    for (unsigned mode = 0; mode < m->isa->tlb_modes; mode++, fast += 16, desc += tlb->desc) {
        uint64_t mask = load64(fast), entries = mask / tlb->entry + 1;
        /* tables are powers of two; a fresh victim is all ones */
        if (mask % tlb->entry != 0 || entries < 2 || entries > 1 << 22 || (entries & (entries - 1)) != 0 ||
            load_pointer(fast + 8) == NULL || load64(desc + tlb->used) > entries ||
            load32(desc + tlb->victims + tlb->write) != UINT32_MAX)
            return false;
    }
    return true;
}

void emu_uc_code_watch(emu_uc_machine *m)
{
    if (targets[m->which].ready && is_laid_out(m))
        m->features |= EMU_UC_ALIASES;
}

/*
 * Pages of RAM are noted as written anew (core.h): their first stores are to come to invalidate() again.  So
 * do all of a fresh TLB entry.
 */
void emu_uc_code_track(emu_uc_machine *m)
{
    uint64_t tracked = emu_space_tracked(m->memory);
    if (m->tracked == tracked || !(m->features & EMU_UC_ALIASES))
        return;
    m->tracked = tracked;
    for (size_t i = 0; i < m->npieces; i++)
        if (m->pieces[i]->host != NULL && !m->pieces[i]->readonly)
            targets[m->which].reset_dirty(m->cpu, (uintptr_t)m->pieces[i]->host, m->pieces[i]->size);
}

/* ---- changes from the host's side ------------------------------------------------ */

/*
 * Room for one more, the lock held.  A transfer to a program's memory is as many changes as it has pages;
 * a guest may ask for far more of them than it can be told of before it looks.
 */
static bool has_room(emu_uc_machine *m)
{
    if (m->all_changed || m->nchanges < m->room)
        return !m->all_changed;
    size_t room = m->room != 0 ? m->room * 2 : 64;
    struct change *more = room <= MOST_CHANGES ? realloc(m->changes, room * sizeof *more) : NULL;
    if (more == NULL)
        return false;
    m->changes = more;
    m->room = room;
    return true;
}

/* Any thread: takes a note; emu_uc_code_changed() acts on it in the vCPU's thread. */
void emu_uc_code_written(void *opaque, uint64_t addr, uint64_t size)
{
    emu_uc_machine *m = opaque;
    pthread_mutex_lock(&m->lock);
    struct change *last = m->nchanges != 0 ? &m->changes[m->nchanges - 1] : NULL;
    if (last != NULL && last->addr + last->size == addr) {
        last->size += size;
    } else if (has_room(m)) {
        m->changes[m->nchanges++] = (struct change){addr, size};
    } else { /* too many to tell apart: all memory */
        m->nchanges = 0;
        m->all_changed = true;
    }
    pthread_mutex_unlock(&m->lock);
    atomic_store(&m->written, 1);
    emu_uc_ring(m);
}

static void drop(emu_uc_machine *m, const struct target *t, const struct piece *piece, uint64_t start, uint64_t end)
{
    uint64_t base = t->ram(m->uc, piece->host);
    if (base == UINT64_MAX)
        return;
    for (uint64_t at = start & ~(PAGE - 1); at < end; at += PAGE) {
        uint64_t ram = base + (at - piece->base);
        if (has_code(m, ram))
            t->invalidate_range(m->uc, ram, ram + PAGE);
    }
}

/* Drops the translations of what was written; true if there was anything to look at. */
bool emu_uc_code_changed(emu_uc_machine *m)
{
    static const struct change everything = {0, UINT64_MAX};
    pthread_mutex_lock(&m->lock);
    const struct change *changes = m->all_changed ? &everything : m->changes;
    size_t count = m->all_changed ? 1 : m->nchanges;
    /* Those that look are of one thread; the writers get new room. */
    struct change *taken = m->changes;
    m->changes = NULL;
    m->nchanges = m->room = 0;
    m->all_changed = false;
    pthread_mutex_unlock(&m->lock);
    if (count != 0 && !(m->features & EMU_UC_ALIASES)) {
        uc_ctl_flush_tb(m->uc);
        free(taken);
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t last = changes[i].addr + (changes[i].size - 1);
        if (last < changes[i].addr)
            last = UINT64_MAX;
        for (size_t j = 0; j < m->npieces; j++) {
            const struct piece *piece = m->pieces[j];
            uint64_t end = piece->base + piece->size;
            if (piece->host == NULL || last < piece->base || changes[i].addr >= end)
                continue;
            uint64_t start = changes[i].addr > piece->base ? changes[i].addr : piece->base;
            drop(m, &targets[m->which], piece, start, last < end ? last + 1 : end);
        }
    }
    free(taken);
    return count != 0;
}

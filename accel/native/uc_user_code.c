/* Pages of code, whose translations the library keeps: which of them are good, as memory changes. */
#include "uc_user.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define FEW_PAGES 16   /* flushed one by one */
#define MANY_PAGES 256 /* of code in one change: forget all translations instead */
#define MOST_LEFT 2048 /* pages of code whose translations outlive a program */

/*
 * Translations outlive the program.  execve takes all pages away, and the next
 * program mostly brings some of them back: the loader and the C library of a
 * shell's children are the shell's own, at the same addresses.  So they are
 * kept, out of reach because nothing is in the TLB, and the first fetch from a
 * page decides by the page's content whether they are still good.
 */

/* Index of the first known code page at or above addr. */
static size_t code_at(const emu_engine *engine, uint64_t addr)
{
    size_t low = 0, high = engine->codes;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (engine->code[middle].addr < addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct code_page *code_find(const emu_engine *engine, uint64_t page)
{
    size_t at = code_at(engine, page);
    return at < engine->codes && engine->code[at].addr == page ? &engine->code[at] : NULL;
}

/* This program has executed it. */
bool uc_user_code_known(const emu_engine *engine, uint64_t page)
{
    const struct code_page *code = code_find(engine, page);
    return code != NULL && !code->left;
}

/* Who makes two pages of the same digest spoils nobody's code but its own. */
static uint64_t digest_of(const uint8_t *page)
{
    const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t lanes[4] = {1, 2, 3, 4}, words[4], all = 0;
    for (size_t at = 0; at < PAGE; at += sizeof words) {
        memcpy(words, page + at, sizeof words);
        for (int i = 0; i < 4; i++) {
            lanes[i] = (lanes[i] ^ words[i]) * odd;
            lanes[i] ^= lanes[i] >> 29;
        }
    }
    for (int i = 0; i < 4; i++)
        all = (all ^ lanes[i]) * odd ^ all >> 32;
    return all;
}

/* The library finds only what it can fetch: see on_fill. */
static void forget_page(emu_engine *engine, uint64_t page)
{
    engine->forgotten = page;
    uc_ctl_remove_cache(engine->uc, page, page + PAGE);
    engine->forgotten = UINT64_MAX;
}

/* Data where a program before had code: each store would go looking for its translations. */
void uc_user_code_drop(emu_engine *engine, uint64_t page)
{
    struct code_page *code = code_find(engine, page);
    if (code == NULL || !code->left)
        return;
    forget_page(engine, page);
    memmove(code, code + 1, (size_t)(engine->code + engine->codes - (code + 1)) * sizeof *code);
    engine->codes--;
}

/* A fetch from the page is allowed.  False: no memory to remember it, so it must not be executed. */
bool uc_user_code_add(emu_engine *engine, uint64_t page)
{
    struct code_page *known = code_find(engine, page);
    if (known != NULL && !known->left)
        return true;
    uint64_t digest = digest_of(engine->memory.base + page);
    if (known != NULL) {
        bool same = known->digest == digest;
        known->digest = digest;
        known->left = false;
        if (!same)
            forget_page(engine, page);
        return true;
    }
    if (engine->codes == engine->code_room) {
        size_t room = engine->code_room == 0 ? 64 : engine->code_room * 2;
        struct code_page *code = realloc(engine->code, room * sizeof *code);
        if (code == NULL)
            return false;
        engine->code = code;
        engine->code_room = room;
    }
    size_t at = code_at(engine, page);
    memmove(engine->code + at + 1, engine->code + at, (engine->codes - at) * sizeof *engine->code);
    engine->code[at] = (struct code_page){.addr = page, .digest = digest};
    engine->codes++;
    return true;
}

static void forget_all(emu_engine *engine)
{
    uc_ctl_flush_tb(engine->uc);
    uc_ctl_flush_tlb(engine->uc); /* fetches from pages that have not changed have to be seen again */
    engine->codes = 0;
}

/* What a page holds now; false where the host does not let it be read. */
static bool look(const emu_engine *engine, uint64_t page, uint64_t *digest)
{
    uint8_t copy[PAGE];
    /* not a plain load: the page's file may have become shorter */
    struct iovec to = {copy, PAGE}, from = {engine->memory.base + page, PAGE};
    if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)PAGE)
        return false;
    *digest = digest_of(copy);
    return true;
}

/* The program ends.  Pages that were written through another mapping may have translations of several ages. */
static void leave_code(emu_engine *engine)
{
    if (engine->codes > MOST_LEFT) {
        forget_all(engine);
        return;
    }
    size_t kept = 0;
    for (size_t i = 0; i < engine->codes; i++) {
        struct code_page code = engine->code[i];
        uint64_t digest;
        if (!code.left && (!look(engine, code.addr, &digest) || digest != code.digest)) {
            forget_page(engine, code.addr);
            continue;
        }
        code.left = true;
        engine->code[kept++] = code;
    }
    engine->codes = kept;
}

/* ---- changes of the map ------------------------------------------------------------------- */

void uc_user_before_change(emu_engine *engine, uint64_t addr, uint64_t size)
{
    if (addr == 0 && size >= engine->memory.size) {
        leave_code(engine);
        return;
    }
    size_t first = code_at(engine, addr & ~(PAGE - 1));
    size_t end = size > UINT64_MAX - addr ? engine->codes : code_at(engine, addr + size);
    if (end - first > MANY_PAGES) {
        forget_all(engine);
        return;
    }
    size_t kept = first;
    for (size_t i = first; i < end; i++) {
        if (engine->code[i].left)
            engine->code[kept++] = engine->code[i];
        else
            forget_page(engine, engine->code[i].addr);
    }
    memmove(engine->code + kept, engine->code + end, (engine->codes - end) * sizeof *engine->code);
    engine->codes -= end - kept;
}

void uc_user_after_change(emu_engine *engine, uint64_t addr, uint64_t size)
{
    /* A page by itself costs half of what all cost, but what is not flushed need not be filled again. */
    if (size > FEW_PAGES * PAGE || engine->flush_page == NULL || engine->shared.cpu == NULL) {
        uc_ctl_flush_tlb(engine->uc);
        return;
    }
    for (uint64_t page = addr & ~(PAGE - 1); page < addr + size; page += PAGE)
        engine->flush_page(engine->shared.cpu, page);
}

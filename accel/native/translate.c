/* Translated code: memory, maps, sharing.  See translate.h. */
#include "translate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)

static void *anonymous(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* ---- maps: open addressing, keys never 0 (stored + 1) ------------------------------- */

/* A key and a value; the values stand behind all keys.  Not of calloc, which writes zeros to all of it. */
/* Guest instructions are at even addresses. */
enum { ALONE = 1 };
enum { MAP_ENTRY = sizeof(uint64_t) + sizeof(uint32_t) };

static uint32_t hash(uint64_t key, uint32_t room)
{
    return (uint32_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (room - 1);
}

static uint32_t *map_find(const struct tr_map *map, uint64_t key)
{
    if (map->room == 0)
        return NULL;
    for (uint32_t i = hash(key, map->room); map->keys[i] != 0; i = (i + 1) & (map->room - 1))
        if (map->keys[i] == key + 1)
            return &map->values[i];
    return NULL;
}

static void map_put(struct tr_map *map, uint64_t key, uint32_t value);

static void map_clear(struct tr_map *map)
{
    if (map->room != 0)
        munmap(map->keys, (size_t)map->room * MAP_ENTRY);
    *map = (struct tr_map){.first = map->first};
}

static void map_grow(struct tr_map *map)
{
    struct tr_map old = *map;
    map->room = old.room ? old.room * 2 : map->first;
    map->keys = anonymous((size_t)map->room * MAP_ENTRY);
    if (map->keys == NULL) {
        fputs("emu: no memory for translated code\n", stderr);
        _exit(127);
    }
    map->values = (uint32_t *)(map->keys + map->room);
    map->count = 0;
    for (uint32_t i = 0; i < old.room; i++)
        if (old.keys[i] != 0)
            map_put(map, old.keys[i] - 1, old.values[i]);
    map_clear(&old);
}

static void map_put(struct tr_map *map, uint64_t key, uint32_t value)
{
    uint32_t *there = map_find(map, key);
    if (there != NULL) {
        *there = value;
        return;
    }
    if ((map->count + 1) * 2 > map->room)
        map_grow(map);
    uint32_t i = hash(key, map->room);
    while (map->keys[i] != 0)
        i = (i + 1) & (map->room - 1);
    map->keys[i] = key + 1;
    map->values[i] = value;
    map->count++;
}

/* ---- memory -------------------------------------------------------------------------- */

#define SLOT_BYTES ((size_t)TR_SLOTS * sizeof(tr_slot))
#define DATA_BYTES (SLOT_BYTES + (size_t)TR_CONSTANTS * 16)

bool tr_plain;

/* What the guest has left itself of descriptors and of the size of files is not for the runtime's own. */
static const int lifted[2] = {RLIMIT_NOFILE, RLIMIT_FSIZE};

static void lift_limits(struct rlimit before[2])
{
    for (int i = 0; i < 2; i++)
        if (getrlimit(lifted[i], &before[i]) == 0 && before[i].rlim_cur < before[i].rlim_max)
            setrlimit(lifted[i], &(struct rlimit){before[i].rlim_max, before[i].rlim_max});
}

static void restore_limits(const struct rlimit before[2])
{
    int error = errno;
    for (int i = 0; i < 2; i++)
        if (before[i].rlim_cur < before[i].rlim_max)
            setrlimit(lifted[i], &before[i]);
    errno = error;
}

/* Backs the code from `from` on with a memfd of this process alone. */
static int own(tr_code *code, uint32_t from)
{
    if (code->view == 0) /* tr_plain: private memory, which fork copies */
        return from == 0 ? mprotect(code->code, TR_CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC) : 0;
    size_t size = TR_CODE_SIZE - from;
    uint8_t *writable = code->code + code->view + from;
    struct rlimit guests[2];
    lift_limits(guests);
    int fd = memfd_create("emu-code", MFD_CLOEXEC);
    int error = fd < 0 ? -errno : 0;
    if (error == 0 && (ftruncate(fd, (off_t)size) != 0 ||
        mmap(code->code + from, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
        mmap(writable, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED))
        error = -errno;
    if (fd >= 0)
        close(fd);
    restore_limits(guests);
    return error;
}

static uint32_t room(void)
{
    enum { LEAST = 16 << 10, RESERVE = 2 * TR_BLOCK_ROOM };
    const char *asked = getenv("EMU_CODE_ROOM");
    unsigned long bytes = asked == NULL || asked[0] == 0 ? TR_CODE_SIZE : strtoul(asked, NULL, 0);
    return bytes < LEAST ? LEAST + RESERVE : bytes > TR_CODE_SIZE - RESERVE ? TR_CODE_SIZE : (uint32_t)bytes + RESERVE;
}

tr_code *tr_code_new(const emu_user_memory *memory, char *text, size_t size)
{
    tr_code *code = calloc(1, sizeof *code);
    if (code == NULL) {
        snprintf(text, size, "no memory for translated code");
        return NULL;
    }
    code->memory = *memory;
    code->by_pc.first = 4096;
    code->by_page.first = 256;
    pthread_mutex_init(&code->lock, NULL);
    code->threads = 1;
    code->room = room();
    code->reserved = mmap(NULL, DATA_BYTES + TR_CODE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint8_t *writable = mmap(NULL, TR_CODE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    code->blocks = anonymous((size_t)TR_BLOCKS * sizeof *code->blocks);
    code->pages = anonymous((size_t)TR_PAGES * sizeof *code->pages);
    code->sites = anonymous((size_t)TR_SITES * sizeof *code->sites);
    int error = 0;
    if (code->reserved == MAP_FAILED || writable == MAP_FAILED || code->blocks == NULL || code->pages == NULL ||
        code->sites == NULL ||
        mprotect(code->reserved, DATA_BYTES, PROT_READ | PROT_WRITE) != 0)
        error = -errno;
    if (error == 0) {
        code->slots = (tr_slot *)code->reserved;
        code->constants = (uint8_t(*)[16])(code->reserved + SLOT_BYTES);
        code->code = code->reserved + DATA_BYTES;
        code->view = tr_plain ? 0 : writable - code->code;
        error = own(code, 0);
    }
    if (error != 0) {
        snprintf(text, size, "no memory for translated code: %s; see ulimit -v", strerror(-error));
        if (code->reserved == MAP_FAILED)
            code->reserved = NULL;
        if (writable != MAP_FAILED)
            munmap(writable, TR_CODE_SIZE);
        code->view = 0;
        tr_code_free(code);
        return NULL;
    }
    return code;
}

void tr_code_free(tr_code *code)
{
    if (code->view != 0)
        munmap(code->code + code->view, TR_CODE_SIZE);
    if (code->reserved != NULL)
        munmap(code->reserved, DATA_BYTES + TR_CODE_SIZE);
    if (code->blocks != NULL)
        munmap(code->blocks, (size_t)TR_BLOCKS * sizeof *code->blocks);
    if (code->pages != NULL)
        munmap(code->pages, (size_t)TR_PAGES * sizeof *code->pages);
    if (code->sites != NULL)
        munmap(code->sites, (size_t)TR_SITES * sizeof *code->sites);
    map_clear(&code->by_pc);
    map_clear(&code->by_page);
    pthread_mutex_destroy(&code->lock);
    free(code);
}

int tr_prepare(tr_code *code)
{
    if (code->inherited) {
        code->used = (uint32_t)((code->used + PAGE - 1) & ~(PAGE - 1));
        int error = own(code, code->used);
        if (error != 0)
            return error;
        code->inherited = false;
    }
    if (code->used + 2 * TR_BLOCK_ROOM > code->room || code->slot_count + 1024 > TR_SLOTS ||
        code->block_count + 1 > TR_BLOCKS || code->page_count + 1 > TR_PAGES || code->site_count + 8192 > TR_SITES)
        return -ENOSPC;
    return 0;
}

void tr_forked(tr_code *code, bool child)
{
    if (child) {
        code->inherited = true;
        pthread_mutex_init(&code->lock, NULL);
    }
}

/* ---- blocks ---------------------------------------------------------------------------- */

/* Of a line and where it is in its page: tells the same code from other code; adversaries only fool themselves. */
static uint64_t hash_line(const tr_code *code, uint64_t pc)
{
    const uint8_t *bytes = code->memory.base + pc / TR_LINE * TR_LINE;
    uint64_t h[4] = {pc / TR_LINE % TR_LINES + 1, 2, 3, 4};
    for (size_t i = 0; i < TR_LINE; i += 32)
        for (size_t j = 0; j < 4; j++) {
            uint64_t word;
            memcpy(&word, bytes + i + 8 * j, 8);
            h[j] = (h[j] ^ word) * UINT64_C(0x9e3779b97f4a7c15);
            h[j] ^= h[j] >> 29;
        }
    uint64_t all = (h[0] ^ h[1] * 3 ^ h[2] * 5 ^ h[3] * 7) * UINT64_C(0xc2b2ae3d27d4eb4f);
    return all ^ all >> 32;
}

/* The bytes may change at any time: what is hashed is older than what is translated, so that it is not taken for it. */
void tr_look_at(tr_code *code, uint64_t pc)
{
    code->seen |= UINT64_C(1) << (pc / TR_LINE % TR_LINES);
    code->seen_hash += hash_line(code, pc);
}

/* What page->hash would be if all blocks were made of what is there now. */
static uint64_t hash_now(const tr_code *code, const tr_page *page)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < TR_LINES; i++)
        if (page->lines[i] != 0)
            sum += page->lines[i] * hash_line(code, page->number * PAGE + i * TR_LINE);
    return sum;
}

/* All slots that lead to the page's blocks lead to the translator again. */
static void unlink_page(tr_code *code, const tr_page *page)
{
    for (uint32_t i = page->blocks; i != 0; i = code->blocks[i - 1].next) {
        tr_block *block = &code->blocks[i - 1];
        for (uint32_t k = block->slots; k != 0;) {
            tr_slot *slot = &code->slots[k - 1];
            k = slot->next;
            slot->next = 0;
            __atomic_store_n(&slot->code, code->code + slot->stub, __ATOMIC_RELAXED);
        }
        block->slots = 0;
    }
}

static void forget_page(tr_code *code, tr_page *page)
{
    for (uint32_t i = page->blocks; i != 0; i = code->blocks[i - 1].next) {
        for (unsigned alone = 0; alone <= ALONE; alone++) {
            uint32_t *value = map_find(&code->by_pc, code->blocks[i - 1].pc + alone);
            if (value != NULL && *value == i)
                *value = 0;
        }
    }
    *page = (tr_page){.number = page->number};
}

uint32_t tr_page_now(tr_code *code, uint64_t pc)
{
    uint64_t number = pc / PAGE;
    code->seen = code->seen_hash = 0;
    uint32_t *known = map_find(&code->by_page, number);
    if (known == NULL) {
        code->pages[code->page_count++] = (tr_page){.number = number};
        map_put(&code->by_page, number, code->page_count);
        return code->page_count - 1;
    }
    tr_page *page = &code->pages[*known - 1];
    if (page->suspended && page->hash != hash_now(code, page))
        forget_page(code, page);
    page->suspended = false;
    return *known - 1;
}

uint32_t tr_find_beside(const tr_code *code, uint64_t pc)
{
    uint32_t *value = map_find(&code->by_pc, pc);
    return value == NULL ? 0 : *value;
}

static uint32_t find(tr_code *code, uint64_t key)
{
    uint32_t found = tr_find_beside(code, key);
    if (found == 0 || !code->pages[code->blocks[found - 1].page].suspended)
        return found;
    tr_page_now(code, key);
    return tr_find_beside(code, key);
}

uint32_t tr_find(tr_code *code, uint64_t pc)
{
    return find(code, pc);
}

uint32_t tr_find_alone(tr_code *code, uint64_t pc)
{
    return find(code, pc + ALONE);
}

void tr_enter(tr_code *code, uint64_t pc, uint32_t at, uint32_t guest_size, bool alone)
{
    tr_page *page = &code->pages[*map_find(&code->by_page, pc / PAGE) - 1];
    for (uint64_t left = code->seen; left != 0; left &= left - 1)
        page->lines[__builtin_ctzll(left)]++;
    page->hash += code->seen_hash;
    code->blocks[code->block_count] = (tr_block){
        .pc = pc, .at = at, .size = guest_size, .page = (uint32_t)(page - code->pages), .next = page->blocks};
    __atomic_store_n(&code->block_count, code->block_count + 1, __ATOMIC_RELEASE);
    page->blocks = code->block_count;
    map_put(&code->by_pc, pc + (alone ? ALONE : 0), code->block_count);
}

uint32_t tr_slot_new(tr_code *code, uint64_t pc)
{
    code->slots[code->slot_count] = (tr_slot){.code = NULL, .pc = pc};
    return code->slot_count++;
}

void tr_slot_stub(tr_code *code, uint32_t slot, const uint8_t *stub)
{
    code->slots[slot].stub = (uint32_t)(stub - code->code);
    code->slots[slot].code = stub;
}

void tr_link(tr_code *code, uint32_t at, uint32_t found)
{
    tr_slot *slot = &code->slots[at];
    tr_block *block = &code->blocks[found - 1];
    const uint8_t *to = code->code + block->at;
    if (slot->code == to)
        return; /* another thread has come first */
    slot->next = block->slots;
    block->slots = at + 1;
    __atomic_store_n(&slot->code, to, __ATOMIC_RELEASE);
}

int32_t tr_constant(tr_code *code, uint64_t low, uint64_t high)
{
    uint64_t value[2] = {low, high};
    uint64_t hash = (low * UINT64_C(0x9e3779b97f4a7c15)) ^ (high * UINT64_C(0xc2b2ae3d27d4eb4f));
    uint32_t i = (uint32_t)(hash >> 40);
    uint16_t *found;
    for (;; i++) {
        found = &code->constant_of[i % (2 * TR_CONSTANTS)];
        if (*found == 0)
            break;
        if (memcmp(code->constants[*found - 1], value, 16) == 0)
            return (int32_t)((const uint8_t *)code->constants[*found - 1] - code->code);
    }
    if (code->constant_count == TR_CONSTANTS)
        abort(); /* there are as many as instructions of the translator's ask for: some hundreds */
    memcpy(code->constants[code->constant_count], value, 16);
    *found = (uint16_t)++code->constant_count;
    return (int32_t)((const uint8_t *)code->constants[*found - 1] - code->code);
}

const tr_block *tr_block_at(const tr_code *code, const uint8_t *host)
{
    uint32_t at = (uint32_t)(host - code->code);
    uint32_t low = 0, high = __atomic_load_n(&code->block_count, __ATOMIC_ACQUIRE);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (code->blocks[middle].at <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? NULL : &code->blocks[low - 1];
}

const tr_site *tr_site_at(const tr_code *code, const uint8_t *host)
{
    const tr_block *block = tr_block_at(code, host);
    if (block == NULL)
        return NULL;
    uint32_t at = (uint32_t)(host - code->code);
    uint32_t low = 0, high = __atomic_load_n(&code->site_count, __ATOMIC_ACQUIRE);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (code->sites[middle].at <= at)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || code->sites[low - 1].at < block->at)
        return NULL;
    return &code->sites[low - 1];
}

/* ---- guest code that may have changed --------------------------------------------------------- */

static bool suspend(tr_code *code, uint32_t index, uint64_t addr, uint64_t end, bool exact)
{
    tr_page *page = &code->pages[index];
    if (page->blocks == 0 || page->suspended)
        return false;
    if (exact) {
        uint64_t first = page->number * PAGE, last = first + PAGE - 1;
        unsigned from = addr <= first ? 0 : (unsigned)((addr - first) / TR_LINE);
        unsigned to = end - 1 >= last ? TR_LINES - 1 : (unsigned)((end - 1 - first) / TR_LINE);
        while (from <= to && page->lines[from] == 0)
            from++;
        if (from > to)
            return false;
    }
    unlink_page(code, page);
    page->suspended = true;
    return true;
}

bool tr_suspend(tr_code *code, uint64_t addr, uint64_t size, bool exact)
{
    if (size == 0)
        return false;
    uint64_t end = addr + size, first = addr / PAGE, last = (end - 1) / PAGE;
    bool some = false;
    if (last - first >= code->page_count) {
        for (uint32_t i = 0; i < code->page_count; i++)
            if (code->pages[i].number >= first && code->pages[i].number <= last)
                some |= suspend(code, i, addr, end, exact);
        return some;
    }
    for (uint64_t number = first; number <= last; number++) {
        uint32_t *known = map_find(&code->by_page, number);
        if (known != NULL)
            some |= suspend(code, *known - 1, addr, end, exact);
    }
    return some;
}

void tr_drop(tr_code *code)
{
    map_clear(&code->by_pc);
    map_clear(&code->by_page);
    code->block_count = code->page_count = code->site_count = code->slot_count = 0;
    code->used = code->first;
    code->generation++;
    code->inherited = true; /* perhaps shared with a forked process, which keeps the old code */
}

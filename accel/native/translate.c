/* Translated code: memory, maps, sharing.  See translate.h. */
#include "translate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)

/* ---- maps: open addressing, keys never 0 (stored + 1) ------------------------------- */

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

static void map_grow(struct tr_map *map)
{
    struct tr_map old = *map;
    map->room = old.room ? old.room * 2 : 4096;
    map->keys = calloc(map->room, sizeof *map->keys);
    map->values = calloc(map->room, sizeof *map->values);
    if (map->keys == NULL || map->values == NULL) {
        fputs("emu: no memory for translated code\n", stderr);
        _exit(127);
    }
    map->count = 0;
    for (uint32_t i = 0; i < old.room; i++)
        if (old.keys[i] != 0)
            map_put(map, old.keys[i] - 1, old.values[i]);
    free(old.keys);
    free(old.values);
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

static void map_clear(struct tr_map *map)
{
    free(map->keys);
    free(map->values);
    memset(map, 0, sizeof *map);
}

/* ---- memory -------------------------------------------------------------------------- */

#define SLOT_BYTES ((size_t)TR_SLOTS * sizeof(tr_slot))
#define DATA_BYTES (SLOT_BYTES + (size_t)TR_CONSTANTS * 16)

static void *anonymous(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* Backs the code from `from` on with a memfd of this process alone. */
static int own(tr_code *code, uint32_t from)
{
    int fd = memfd_create("emu-code", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t size = TR_CODE_SIZE - from;
    uint8_t *writable = code->code + code->view + from;
    int error = 0;
    if (ftruncate(fd, (off_t)size) != 0 ||
        mmap(code->code + from, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
        mmap(writable, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        error = -errno;
    close(fd);
    return error;
}

tr_code *tr_code_new(const emu_user_memory *memory, char *text, size_t size)
{
    tr_code *code = calloc(1, sizeof *code);
    if (code == NULL) {
        snprintf(text, size, "no memory for translated code");
        return NULL;
    }
    code->memory = *memory;
    pthread_mutex_init(&code->lock, NULL);
    code->threads = 1;
    code->reserved = mmap(NULL, DATA_BYTES + TR_CODE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint8_t *writable = mmap(NULL, TR_CODE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    code->blocks = anonymous((size_t)TR_BLOCKS * sizeof *code->blocks);
    code->sites = anonymous((size_t)TR_SITES * sizeof *code->sites);
    int error = 0;
    if (code->reserved == MAP_FAILED || writable == MAP_FAILED || code->blocks == NULL || code->sites == NULL ||
        mprotect(code->reserved, DATA_BYTES, PROT_READ | PROT_WRITE) != 0)
        error = -errno;
    if (error == 0) {
        code->slots = (tr_slot *)code->reserved;
        code->constants = (uint8_t(*)[16])(code->reserved + SLOT_BYTES);
        code->code = code->reserved + DATA_BYTES;
        code->view = writable - code->code;
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
        int error = own(code, code->frozen);
        if (error != 0)
            return error;
        code->inherited = false;
    }
    if (code->used < code->frozen)
        code->used = code->frozen;
    if (code->used + 2 * TR_BLOCK_ROOM > TR_CODE_SIZE || code->slot_count + 1024 > TR_SLOTS ||
        code->block_count + 1 > TR_BLOCKS || code->site_count + 8192 > TR_SITES)
        return -ENOSPC;
    return 0;
}

void tr_forked(tr_code *code, bool child)
{
    code->frozen = (uint32_t)((code->used + PAGE - 1) & ~(PAGE - 1));
    if (child) {
        code->inherited = true;
        pthread_mutex_init(&code->lock, NULL);
    }
}

/* ---- blocks ---------------------------------------------------------------------------- */

uint32_t tr_find(const tr_code *code, uint64_t pc)
{
    uint32_t *value = map_find(&code->by_pc, pc);
    return value == NULL ? 0 : *value;
}

void tr_enter(tr_code *code, uint64_t pc, uint32_t at, uint32_t guest_size)
{
    uint32_t *first = map_find(&code->by_page, pc / PAGE);
    code->blocks[code->block_count] =
        (tr_block){.pc = pc, .at = at, .next = first == NULL ? 0 : *first, .size = guest_size};
    __atomic_store_n(&code->block_count, code->block_count + 1, __ATOMIC_RELEASE);
    map_put(&code->by_pc, pc, code->block_count);
    map_put(&code->by_page, pc / PAGE, code->block_count);
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

uint32_t tr_slot_new(tr_code *code, uint64_t pc)
{
    code->slots[code->slot_count] = (tr_slot){.code = NULL, .pc = pc};
    return code->slot_count++;
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

/* ---- invalidation ------------------------------------------------------------------------ */

static bool kill_page(tr_code *code, uint32_t *head, const uint8_t *entry, uint64_t addr, uint64_t end)
{
    for (uint32_t i = *head; i != 0; i = code->blocks[i - 1].next) {
        tr_block *block = &code->blocks[i - 1];
        if (block->dead || block->pc >= end || block->pc + block->size <= addr)
            continue;
        if (block->at < code->frozen)
            return false;
        block->dead = 1;
        uint32_t *value = map_find(&code->by_pc, block->pc);
        if (value != NULL && *value == i)
            *value = 0;
        /* call entry: the return address tells which block it was. */
        uint8_t *at = code->code + code->view + block->at;
        int32_t distance = (int32_t)(entry - (code->code + block->at + 5));
        uint64_t word;
        memcpy(&word, at, 8);
        word = (word & ~UINT64_C(0xffffffffff)) | 0xe8 | (uint64_t)(uint32_t)distance << 8;
        __atomic_store_n((uint64_t *)(void *)at, word, __ATOMIC_SEQ_CST);
    }
    return true;
}

bool tr_invalidate(tr_code *code, uint64_t addr, uint64_t size, const uint8_t *entry)
{
    uint64_t end = addr + size, pages = (end - 1) / PAGE - addr / PAGE + 1;
    if (size == 0)
        return true;
    if (pages > code->by_page.count) {
        for (uint32_t i = 0; i < code->by_page.room; i++) {
            uint64_t page = code->by_page.keys[i] - 1;
            if (code->by_page.keys[i] != 0 && page >= addr / PAGE && page <= (end - 1) / PAGE &&
                !kill_page(code, &code->by_page.values[i], entry, addr, end))
                return false;
        }
        return true;
    }
    for (uint64_t page = addr / PAGE; page <= (end - 1) / PAGE; page++) {
        uint32_t *head = map_find(&code->by_page, page);
        if (head != NULL && !kill_page(code, head, entry, addr, end))
            return false;
    }
    return true;
}

bool tr_has(const tr_code *code, uint64_t addr, uint64_t size)
{
    if (size == 0 || code->by_page.count == 0)
        return false;
    uint64_t first = addr / PAGE, last = (addr + size - 1) / PAGE;
    if (last - first >= code->by_page.count) {
        for (uint32_t i = 0; i < code->by_page.room; i++)
            if (code->by_page.keys[i] != 0 && code->by_page.keys[i] - 1 >= first && code->by_page.keys[i] - 1 <= last)
                return true;
        return false;
    }
    for (uint64_t page = first; page <= last; page++)
        if (map_find(&code->by_page, page) != NULL)
            return true;
    return false;
}

void tr_drop(tr_code *code)
{
    map_clear(&code->by_pc);
    map_clear(&code->by_page);
    code->block_count = 0;
    code->site_count = 0;
    code->slot_count = 0;
    code->used = code->first;
    code->generation++;
    if (code->frozen > code->first) {
        /* The other process keeps the old memory; the ISA's first part stays shared with it. */
        code->frozen = (uint32_t)((code->first + PAGE - 1) & ~(PAGE - 1));
        code->inherited = true;
    }
}

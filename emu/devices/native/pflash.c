/*
 * Parallel NOR flash of the Intel command set.
 *
 * Sources: Intel StrataFlash Embedded Memory (J3) data sheet, chapters "Bus
 * operations", "Command set" and appendix A (write state machine); JEDEC JESD68.01,
 * Common Flash Memory Interface.
 *
 * Two parts of 16 bits share each word of the bus: both take every command, from
 * the low byte of what is written, and both answer, in their half of the word.
 * They work in no time, so that their status is always "ready".
 *
 * The file behind it is written as the guest programs, in place, as a real part
 * keeps what was done when power goes: what firmware does to be safe against that
 * (it writes variables anew and marks them valid last) is safe here as well.
 */
#include "pflash.h"

#include "core.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    READ_ARRAY = 0xff,
    READ_ARRAY_OLD = 0xf0, /* other makers' reset: probing drivers try both */
    READ_ID = 0x90,
    READ_QUERY = 0x98,
    READ_STATUS = 0x70,
    CLEAR_STATUS = 0x50,
    PROGRAM = 0x40,
    PROGRAM_OLD = 0x10,
    ERASE = 0x20,
    LOCK = 0x60,
    WRITE_BUFFER = 0xe8,
    CONFIRM = 0xd0,
    SET_LOCK = 0x01,
};

enum { READY = 0x80, ERASE_ERROR = 0x20, PROGRAM_ERROR = 0x10, PROTECTED = 0x02, COMMAND_ERROR = 0x30 };

/* Manufacturer and device code: Intel, and what QEMU's board gives. */
static const uint8_t identity[] = {0x89, 0x18};

#define BUS 4u
#define PARTS 2u

struct emu_pflash {
    uint8_t *host; /* contents XOR blank */
    uint64_t size;
    uint8_t blank;
    int writable;
    int fd;
    uint64_t stored; /* bytes of the file */
    int error;
    pthread_mutex_t lock;
    emu_pflash_state now;
    uint8_t query[0x40];
    uint8_t touched[]; /* blocks that were written since it was made */
};

static uint32_t log2_of(uint64_t size)
{
    uint32_t n = 0;
    while (size >> (n + 1) != 0)
        n++;
    return n;
}

/* What the query gives: JESD68.01, with times that drivers wait for at most. */
static void describe(emu_pflash *flash)
{
    uint8_t *q = flash->query;
    uint64_t blocks = flash->size / EMU_PFLASH_BLOCK, part_block = EMU_PFLASH_BLOCK / PARTS;
    memcpy(q + 0x10, "QRY", 3);
    q[0x13] = 0x01; /* command set: Intel's extended */
    q[0x15] = 0x31; /* its table */
    q[0x1b] = 0x45; /* volts: 4.5 to 5.5 */
    q[0x1c] = 0x55;
    q[0x1f] = 0x07; /* word, buffer: 128 us; block: 1 s; at most 16 times that */
    q[0x20] = 0x07;
    q[0x21] = 0x0a;
    q[0x23] = 0x04;
    q[0x24] = 0x04;
    q[0x25] = 0x04;
    q[0x27] = (uint8_t)log2_of(flash->size / PARTS);
    q[0x28] = 0x02; /* 8 and 16 bits wide */
    q[0x2a] = (uint8_t)log2_of(EMU_PFLASH_BUFFER / PARTS);
    q[0x2c] = 1; /* kinds of blocks */
    q[0x2d] = (uint8_t)(blocks - 1);
    q[0x2e] = (uint8_t)((blocks - 1) >> 8);
    q[0x2f] = (uint8_t)(part_block >> 8);
    q[0x30] = (uint8_t)(part_block >> 16);
    memcpy(q + 0x31, "PRI10", 5); /* the extended table: no suspend, no protection registers */
    q[0x3f] = 1;
}

emu_pflash *emu_pflash_new(uint8_t *host, uint64_t size, uint8_t blank, int writable)
{
    emu_pflash *flash = calloc(1, sizeof *flash + size / EMU_PFLASH_BLOCK);
    if (flash == NULL)
        return NULL;
    flash->host = host;
    flash->size = size;
    flash->blank = blank;
    flash->writable = writable;
    flash->fd = -1;
    pthread_mutex_init(&flash->lock, NULL);
    describe(flash);
    emu_pflash_reset(flash);
    return flash;
}

void emu_pflash_free(emu_pflash *flash)
{
    if (flash == NULL)
        return;
    pthread_mutex_destroy(&flash->lock);
    free(flash);
}

void emu_pflash_store(emu_pflash *flash, int fd, uint64_t length)
{
    pthread_mutex_lock(&flash->lock);
    flash->fd = fd;
    flash->stored = length;
    pthread_mutex_unlock(&flash->lock);
}

int emu_pflash_error(emu_pflash *flash)
{
    pthread_mutex_lock(&flash->lock);
    int error = flash->error;
    pthread_mutex_unlock(&flash->lock);
    return error;
}

void emu_pflash_reset(emu_pflash *flash)
{
    pthread_mutex_lock(&flash->lock);
    memset(&flash->now, 0, sizeof flash->now);
    flash->now.command = READ_ARRAY;
    flash->now.status = READY;
    flash->now.address = EMU_PFLASH_NOWHERE;
    pthread_mutex_unlock(&flash->lock);
}

void emu_pflash_save(emu_pflash *flash, emu_pflash_state *state)
{
    pthread_mutex_lock(&flash->lock);
    *state = flash->now;
    pthread_mutex_unlock(&flash->lock);
}

int emu_pflash_load(emu_pflash *flash, const emu_pflash_state *state)
{
    int nowhere = state->address == EMU_PFLASH_NOWHERE;
    if ((!nowhere && (state->address >= flash->size || state->address % EMU_PFLASH_BUFFER != 0)) ||
        (nowhere && state->cycle == 3) || state->cycle > 3 || state->command > 0xff ||
        state->count > EMU_PFLASH_BUFFER / BUS)
        return -1;
    pthread_mutex_lock(&flash->lock);
    flash->now = *state;
    pthread_mutex_unlock(&flash->lock);
    return 0;
}

int emu_pflash_reads_array(emu_pflash *flash)
{
    pthread_mutex_lock(&flash->lock);
    int array = flash->now.command == READ_ARRAY;
    pthread_mutex_unlock(&flash->lock);
    return array;
}

/* One part's answer to the bus word at an offset. */
static uint32_t answer(const emu_pflash *flash, uint64_t offset)
{
    uint64_t word = offset / BUS;
    switch (flash->now.command) {
    case READ_ID: /* codes, and at 2 whether the block is locked: none is */
        return (word & 0xff) < sizeof identity ? identity[word & 0xff] : 0;
    case READ_QUERY:
        return word < sizeof flash->query ? flash->query[word] : 0;
    default:
        return flash->now.status;
    }
}

int emu_pflash_read(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    emu_pflash *flash = opaque;
    uint64_t result = 0;
    pthread_mutex_lock(&flash->lock);
    if (flash->now.command == READ_ARRAY) {
        for (uint32_t n = 0; n < width; n++)
            result |= (uint64_t)(flash->host[offset + n] ^ flash->blank) << (8 * n);
    } else {
        for (uint32_t n = 0; n < width; n++) {
            uint32_t part = answer(flash, offset + n);
            result |= (uint64_t)(part >> 8 * ((offset + n) % PARTS) & 0xff) << (8 * n);
        }
    }
    pthread_mutex_unlock(&flash->lock);
    *value = result;
    return EMU_OK;
}

/* Notes a changed range, puts it into the file, and what lies between the file's end and it; -1 where that failed. */
static int keep(emu_pflash *flash, uint64_t offset, uint64_t size)
{
    for (uint64_t at = offset / EMU_PFLASH_BLOCK; at * EMU_PFLASH_BLOCK < offset + size; at++)
        flash->touched[at] = 1;
    if (flash->fd < 0)
        return 0;
    if (offset > flash->stored) {
        size += offset - flash->stored;
        offset = flash->stored;
    }
    while (size != 0) {
        uint8_t chunk[4096];
        size_t length = size < sizeof chunk ? (size_t)size : sizeof chunk;
        for (size_t n = 0; n < length; n++)
            chunk[n] = flash->host[offset + n] ^ flash->blank;
        ssize_t done = pwrite(flash->fd, chunk, length, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            if (flash->error == 0)
                flash->error = done < 0 ? errno : ENOSPC;
            return -1;
        }
        offset += (uint64_t)done;
        size -= (uint64_t)done;
        if (flash->stored < offset)
            flash->stored = offset;
    }
    return 0;
}

int emu_pflash_keep(emu_pflash *flash, uint64_t offset, uint64_t size)
{
    if (offset > flash->size || size > flash->size - offset)
        return -1;
    pthread_mutex_lock(&flash->lock);
    int status = keep(flash, offset, size);
    pthread_mutex_unlock(&flash->lock);
    return status;
}

int emu_pflash_touched(emu_pflash *flash, uint64_t offset)
{
    if (offset >= flash->size)
        return 0;
    pthread_mutex_lock(&flash->lock);
    int touched = flash->touched[offset / EMU_PFLASH_BLOCK];
    pthread_mutex_unlock(&flash->lock);
    return touched;
}

static void erase(emu_pflash *flash, uint64_t offset)
{
    offset &= ~(uint64_t)(EMU_PFLASH_BLOCK - 1);
    if (!flash->writable) {
        flash->now.status |= ERASE_ERROR | PROTECTED;
        return;
    }
    memset(flash->host + offset, 0xff ^ flash->blank, EMU_PFLASH_BLOCK);
    if (keep(flash, offset, EMU_PFLASH_BLOCK) != 0)
        flash->now.status |= ERASE_ERROR;
}

/* Programming can only turn ones into zeros. */
static void program(emu_pflash *flash, uint64_t offset, const uint8_t *data, uint32_t size)
{
    if (!flash->writable) {
        flash->now.status |= PROGRAM_ERROR | PROTECTED;
        return;
    }
    for (uint32_t n = 0; n < size; n++)
        flash->host[offset + n] = ((flash->host[offset + n] ^ flash->blank) & data[n]) ^ flash->blank;
    if (keep(flash, offset, size) != 0)
        flash->now.status |= PROGRAM_ERROR;
}

/* Between commands: the first write of the next. */
static void begin(emu_pflash *flash, uint64_t offset, uint8_t command)
{
    emu_pflash_state *now = &flash->now;
    switch (command) {
    case READ_ID:
    case READ_QUERY:
    case READ_STATUS:
        now->command = command;
        break;
    case PROGRAM:
    case PROGRAM_OLD:
    case ERASE:
    case LOCK:
        now->command = command;
        now->cycle = 1;
        break;
    case WRITE_BUFFER:
        now->command = command;
        now->cycle = 1;
        memset(now->given, 0, sizeof now->given);
        memset(now->buffer, 0xff, sizeof now->buffer);
        break;
    case CLEAR_STATUS:
        now->status = READY;
        now->command = READ_ARRAY;
        break;
    default: /* READ_ARRAY, READ_ARRAY_OLD, and what is no command */
        now->command = READ_ARRAY;
        break;
    }
}

/* Words for the buffer: the first says where; one outside the buffer's range then spoils the command. */
static void gather(emu_pflash *flash, uint64_t offset, uint32_t width, const uint8_t *data)
{
    emu_pflash_state *now = &flash->now;
    uint64_t at = offset % EMU_PFLASH_BUFFER;
    if (now->address == EMU_PFLASH_NOWHERE)
        now->address = offset - at;
    if (offset - at != now->address || at + width > EMU_PFLASH_BUFFER) {
        now->status |= COMMAND_ERROR;
    } else {
        memcpy(now->buffer + at, data, width);
        for (uint64_t n = at; n < at + width; n++)
            now->given[n / 8] |= (uint8_t)(1u << n % 8);
    }
    if (now->count == 0)
        now->cycle = 3;
    else
        now->count--;
}

/* The runs of bytes that were given; those between stay as they are in the array and in the file. */
static void flush(emu_pflash *flash)
{
    emu_pflash_state *now = &flash->now;
    for (uint32_t n = 0; n < EMU_PFLASH_BUFFER;) {
        uint32_t end = n;
        while (end < EMU_PFLASH_BUFFER && (now->given[end / 8] >> end % 8 & 1) != 0)
            end++;
        if (end != n)
            program(flash, now->address + n, now->buffer + n, end - n);
        n = end + 1;
    }
}

static void go_on(emu_pflash *flash, uint64_t offset, uint32_t width, uint64_t value)
{
    emu_pflash_state *now = &flash->now;
    uint8_t data[8], command = (uint8_t)value;
    memcpy(data, &value, sizeof data);
    switch (now->command) {
    case PROGRAM:
    case PROGRAM_OLD:
        program(flash, offset, data, width);
        break;
    case ERASE:
        if (command == CONFIRM)
            erase(flash, offset);
        else
            now->status |= COMMAND_ERROR;
        break;
    case LOCK: /* blocks are never locked, and may be told so */
        if (command != CONFIRM && command != SET_LOCK)
            now->status |= COMMAND_ERROR;
        break;
    case WRITE_BUFFER:
        if (now->cycle == 1) { /* how many words less one, of each part */
            now->count = (uint32_t)(value & 0xffff);
            now->address = EMU_PFLASH_NOWHERE;
            now->cycle = 2;
            if (now->count < EMU_PFLASH_BUFFER / BUS)
                return;
            now->status |= COMMAND_ERROR; /* more than there is room for */
            now->count = 0;
        } else if (now->cycle == 2) {
            gather(flash, offset, width, data);
            return;
        } else if (command == CONFIRM && (now->status & COMMAND_ERROR) == 0) {
            flush(flash);
        } else {
            now->status |= COMMAND_ERROR;
        }
        break;
    default:
        break;
    }
    now->cycle = 0;
    now->command = READ_STATUS;
}

int emu_pflash_write(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    emu_pflash *flash = opaque;
    pthread_mutex_lock(&flash->lock);
    /* A reset in the middle of a command; but data may have this value. */
    emu_pflash_state *now = &flash->now;
    int data = now->command == PROGRAM || now->command == PROGRAM_OLD || now->command == WRITE_BUFFER;
    if (now->cycle == 0) {
        begin(flash, offset, (uint8_t)value);
    } else if (!data && (uint8_t)value == READ_ARRAY) {
        now->cycle = 0;
        now->command = READ_ARRAY;
    } else {
        go_on(flash, offset, width, value);
    }
    pthread_mutex_unlock(&flash->lock);
    return EMU_OK;
}

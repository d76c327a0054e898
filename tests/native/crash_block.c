/*
 * What is left of an image when its process is killed, or its host loses power, after any of its system calls.
 *
 *     crash_block FOLDER SEED CRASHES FILE
 *
 * Random requests go to a copy of FILE, a qcow2 image whose sectors are each one word over and over; every write of the
 * image's file is logged.  Then the file is put together again as it may have been after each of CRASHES system calls:
 *
 *     killed      all that was written before is there
 *     power lost  all before the last sync is there; of what came later any part, in units of sectors
 *
 * Such a file has no error in its tables, and each of the guest's sectors has what it had at the last flush that
 * ended, or what was written since.  The files stay in FOLDER for others to look at.
 */
#include "block.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SECTOR = 512, REQUESTS = 400, LOGGED = 200000, FILE_MOST = 64 << 20 };

static uint64_t seed;
static uint64_t below(uint64_t n) { return (next_random(&seed) >> 20) % n; }

/* -- the log --------------------------------------------------------------- */

enum { WRITE, ZERO, SIZE, SYNC };
static struct call {
    int kind;
    uint64_t offset, length;
    uint8_t *data;
} calls[LOGGED];
static size_t call_count;
static bool logging;

static void note(int kind, uint64_t offset, uint64_t length, const void *data)
{
    if (!logging)
        return;
    CHECK(call_count < LOGGED);
    struct call *call = &calls[call_count++];
    *call = (struct call){kind, offset, length, NULL};
    if (data != NULL) {
        call->data = malloc(length + 1);
        CHECK(call->data != NULL);
        memcpy(call->data, data, length);
    }
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    note(WRITE, (uint64_t)offset, size, data);
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    uint64_t length = 0, at = 0;
    for (int i = 0; i < count; i++)
        length += iov[i].iov_len;
    uint8_t *data = malloc(length + 1);
    CHECK(data != NULL);
    for (int i = 0; i < count; at += iov[i++].iov_len)
        memcpy(data + at, iov[i].iov_base, iov[i].iov_len);
    note(WRITE, (uint64_t)offset, length, data);
    free(data);
    return syscall(SYS_pwritev, fd, iov, (long)count, offset, 0L);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    note(ZERO, (uint64_t)offset, (uint64_t)length, NULL);
    return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

int ftruncate(int fd, off_t size)
{
    note(SIZE, (uint64_t)size, 0, NULL);
    return (int)syscall(SYS_ftruncate, fd, size);
}

int fdatasync(int fd)
{
    (void)fd;
    note(SYNC, 0, 0, NULL);
    return 0;
}

/* -- the guest ------------------------------------------------------------- */

/* Sectors `first` ... got `word`; the calls of it are those from `start` on.  count == 0: a flush. */
static struct request {
    size_t start, end;
    uint64_t first, count, word;
} *requests;
static size_t request_count;

static emu_block *open_image(const char *path, int read_only)
{
    char error[1024];
    emu_block_options options = {.format = EMU_BLOCK_QCOW2, .discard = 1, .read_only = (uint32_t)read_only, .no_lock = 1};
    emu_block *block = emu_block_open(path, &options, error, sizeof error);
    if (block == NULL)
        fprintf(stderr, "%s\n", error);
    CHECK(block != NULL);
    return block;
}

/* Each sector's word. */
static uint64_t *read_words(emu_block *block)
{
    const uint64_t size = emu_block_size(block);
    uint64_t *data = malloc(size), *words = calloc(size / SECTOR, 8);
    CHECK(data != NULL && words != NULL);
    struct iovec iov = {data, size};
    CHECK(emu_block_readv(block, &iov, 1, 0) == 0);
    for (uint64_t i = 0; i < size / 8; i++) {
        if (i % (SECTOR / 8) == 0)
            words[i / (SECTOR / 8)] = data[i];
        CHECK_EQUAL(data[i], words[i / (SECTOR / 8)]);
    }
    free(data);
    return words;
}

static void asked(size_t start, uint64_t first, uint64_t sectors, uint64_t word)
{
    requests = realloc(requests, (request_count + 1) * sizeof *requests);
    CHECK(requests != NULL);
    requests[request_count++] = (struct request){start, call_count, first, sectors, word};
}

static void write_words(emu_block *block, uint64_t first, uint64_t sectors, uint64_t word)
{
    uint64_t *data = malloc(sectors * SECTOR);
    CHECK(data != NULL);
    for (uint64_t i = 0; i < sectors * SECTOR / 8; i++)
        data[i] = word;
    struct iovec iov = {data, sectors * SECTOR};
    size_t start = call_count;
    CHECK(emu_block_writev(block, &iov, 1, first * SECTOR) == 0);
    asked(start, first, sectors, word);
    free(data);
}

/* What a discard changed is seen afterwards; each run of it is a request of its own. */
static void discard_words(emu_block *block, uint64_t first, uint64_t sectors)
{
    size_t start = call_count;
    uint64_t *before = read_words(block);
    CHECK(emu_block_discard(block, first * SECTOR, sectors * SECTOR) == 0);
    uint64_t *after = read_words(block);
    for (uint64_t i = first; i < first + sectors; i++)
        if (after[i] != before[i])
            asked(start, i, 1, after[i]);
    free(before);
    free(after);
}

static void run_guest(emu_block *block)
{
    const uint64_t sectors = emu_block_size(block) / SECTOR;
    for (uint64_t i = 1; i <= REQUESTS; i++) {
        const uint64_t first = below(sectors), most = sectors - first < 300 ? sectors - first : 300, count = 1 + below(most);
        size_t start = call_count;
        switch (below(12)) {
        case 0:
        case 1:
            CHECK(emu_block_flush(block) == 0);
            asked(start, 0, 0, 0);
            break;
        case 2:
            CHECK(emu_block_write_zeroes(block, first * SECTOR, count * SECTOR, (int)below(2)) == 0);
            asked(start, first, count, 0);
            break;
        case 3:
        case 4:
            discard_words(block, first, count);
            break;
        default:
            write_words(block, first, count, i);
        }
    }
}

/* -- crashes --------------------------------------------------------------- */

typedef struct file {
    uint8_t *bytes;
    uint64_t size;
} file;

static void put(file *f, uint64_t offset, const uint8_t *data, uint64_t length)
{
    CHECK(offset + length <= FILE_MOST);
    if (data != NULL)
        memcpy(f->bytes + offset, data, length);
    else
        memset(f->bytes + offset, 0, offset + length <= f->size ? length : offset < f->size ? f->size - offset : 0);
    if (data != NULL && f->size < offset + length)
        f->size = offset + length;
}

static void apply(file *f, const struct call *call)
{
    if (call->kind == SIZE) {
        if (call->offset < f->size)
            memset(f->bytes + call->offset, 0, f->size - call->offset);
        f->size = call->offset;
    } else if (call->kind != SYNC) {
        put(f, call->offset, call->data, call->length);
    }
}

/* Some of its sectors. */
static void apply_part(file *f, const struct call *call)
{
    if (call->kind != WRITE || below(3) != 0) {
        if (below(2))
            apply(f, call);
        return;
    }
    for (uint64_t at = 0; at < call->length;) {
        uint64_t end = (call->offset + at) / SECTOR * SECTOR + SECTOR - call->offset;
        end = end > call->length ? call->length : end;
        if (below(2))
            put(f, call->offset + at, call->data + at, end - at);
        at = end;
    }
}

/* `done` calls were made. */
static void hold(const char *path, const uint64_t *first_words, size_t done)
{
    emu_block *block = open_image(path, 1);
    emu_block_report report;
    CHECK(emu_block_check(block, 0, &report) == 0);
    if (report.errors != 0)
        fprintf(stderr, "%s: %" PRIu64 " errors after %zu calls\n", path, report.errors, done);
    CHECK_EQUAL(report.errors, 0);
    const uint64_t sectors = emu_block_size(block) / SECTOR;
    uint64_t *words = read_words(block), *flushed = malloc(sectors * 8);
    bool *good = calloc(sectors, sizeof *good);
    CHECK(flushed != NULL && good != NULL);
    memcpy(flushed, first_words, sectors * 8);
    size_t flush = 0;
    for (size_t i = 0; i < request_count; i++)
        if (requests[i].count == 0 && requests[i].end <= done)
            flush = i;
    for (size_t i = 0; i < request_count && requests[i].start <= done; i++)
        for (uint64_t s = requests[i].first; s < requests[i].first + requests[i].count; s++) {
            if (i < flush)
                flushed[s] = requests[i].word;
            else
                good[s] |= words[s] == requests[i].word;
        }
    for (uint64_t s = 0; s < sectors; s++)
        if (words[s] != flushed[s] && !good[s]) {
            fprintf(stderr, "%s: sector %" PRIu64 " has %#" PRIx64 ", not %#" PRIx64 ", after %zu calls\n", path, s, words[s],
                    flushed[s], done);
            exit(1);
        }
    free(words);
    free(flushed);
    free(good);
    emu_block_close(block);
}

static void save(const file *f, const char *path)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    CHECK(fd >= 0 && pwrite(fd, f->bytes, f->size, 0) == (ssize_t)f->size);
    close(fd);
}

static file load(const char *path)
{
    file f = {calloc(1, FILE_MOST), 0};
    int fd = open(path, O_RDONLY);
    CHECK(f.bytes != NULL && fd >= 0);
    ssize_t got = pread(fd, f.bytes, FILE_MOST, 0);
    CHECK(got > 0);
    f.size = (uint64_t)got;
    close(fd);
    return f;
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    char path[4096];
    const uint64_t number = strtoull(argv[2], NULL, 0), crashes = strtoull(argv[3], NULL, 0);
    seed = number * UINT64_C(0x9E3779B97F4A7C15) | 1;
    file killed = load(argv[4]), synced = load(argv[4]), lost = {calloc(1, FILE_MOST), 0};
    CHECK(lost.bytes != NULL);
    snprintf(path, sizeof path, "%s/live.qcow2", argv[1]);
    save(&killed, path);
    emu_block *block = open_image(path, 1);
    uint64_t *first_words = read_words(block);
    emu_block_close(block);
    logging = true;
    block = open_image(path, 0);
    run_guest(block);
    CHECK(emu_block_close(block) == 0);
    logging = false;
    size_t last_sync = 0;
    uint64_t step = call_count / crashes + 1;
    for (size_t done = 0; done <= call_count; done++) {
        if (done > 0) {
            apply(&killed, &calls[done - 1]);
            for (; calls[done - 1].kind == SYNC && last_sync < done; last_sync++)
                apply(&synced, &calls[last_sync]);
        }
        if (done != call_count && below(step) != 0)
            continue;
        snprintf(path, sizeof path, "%s/killed-%" PRIu64 "-%zu.qcow2", argv[1], number, done);
        save(&killed, path);
        hold(path, first_words, done);
        memcpy(lost.bytes, synced.bytes, FILE_MOST);
        lost.size = synced.size;
        for (size_t i = last_sync; i < done; i++)
            apply_part(&lost, &calls[i]);
        snprintf(path, sizeof path, "%s/lost-%" PRIu64 "-%zu.qcow2", argv[1], number, done);
        save(&lost, path);
        hold(path, first_words, done);
    }
    printf("%zu calls, %zu requests\n", call_count, request_count);
    for (size_t i = 0; i < call_count; i++)
        free(calls[i].data);
    free(requests);
    free(first_words);
    free(killed.bytes);
    free(synced.bytes);
    free(lost.bytes);
    return 0;
}

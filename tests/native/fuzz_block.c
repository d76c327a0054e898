/*
 * Mutated qcow2 images, and requests of all kinds to them.
 *
 *     fuzz_block FOLDER CASES [SEED [FILE ...]]
 *
 * Each case takes a good image (made here, or a file of FOLDER), changes bytes of its header or its tables, opens it and asks
 * for things.  What is asked may fail, but nothing may crash, take long or much memory, or touch a file outside FOLDER; and an
 * image whose tables agreed with each other at first must be so when it is closed.  Some of those are kept, as they were and
 * as they are, for somebody else to check: before-N.qcow2, after-N.qcow2.  The seed of a failing case is printed.
 */
#include "block.h"
#include "check.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { GOODS = 64, ROOM = 2 << 20, SECONDS = 60, MOST = 1 << 17, KEPT = 40, MOST_MEMORY = 1500 << 10 /* KiB */ };

static uint64_t seed, current;
static const char *folder;
static struct good {
    uint8_t *bytes;
    size_t size;
} goods[GOODS];
static size_t count;
static bool changed; /* the image of this case is not as it was made */
static uint64_t opened, answered, refused, sound, kept;

/* An allocation of more than this would be the image's doing. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "max_allocation_size_mb=200"; }

static void last_words(void) { fprintf(stderr, "case %" PRIu64 "\n", current); }
void __ubsan_on_report(void);
void __ubsan_on_report(void) { last_words(); }
static void too_long(int which)
{
    fprintf(stderr, "case %" PRIu64 " takes too long (signal %d)\n", current, which);
    abort();
}

static uint64_t below(uint64_t n) { return (next_random(&seed) >> 20) % n; }

/* Every name that is opened, by whom ever. */
int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    int mode = flags & O_CREAT ? va_arg(arguments, int) : 0;
    va_end(arguments);
    if (folder != NULL && strncmp(path, folder, strlen(folder)) != 0) {
        fprintf(stderr, "case %" PRIu64 ": opens %s\n", current, path);
        abort();
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static void name_in(char *path, size_t size, const char *name) { snprintf(path, size, "%s/%s", folder, name); }

static void take_file(const char *path)
{
    int fd = open(path, O_RDONLY);
    struct good *good = &goods[count++];
    CHECK(fd >= 0 && count <= GOODS);
    good->bytes = malloc(ROOM);
    CHECK(good->bytes != NULL);
    ssize_t got = pread(fd, good->bytes, ROOM, 0);
    CHECK(got > 0);
    good->size = (size_t)got;
    close(fd);
}

/* An image with some data in it. */
static void build(uint64_t cluster, uint32_t version, uint32_t bits, const char *backing, const char *format)
{
    char path[4096], error[1024], data[3000];
    name_in(path, sizeof path, "good");
    emu_block_new new = {.size = (1 << 20) + 512, .cluster_size = cluster, .format = EMU_BLOCK_QCOW2, .version = version,
                         .refcount_bits = bits, .backing = backing, .backing_format = format};
    unlink(path);
    CHECK(emu_block_create(path, &new, error, sizeof error) == 0);
    emu_block_options options = {.discard = 1};
    emu_block *block = emu_block_open(path, &options, error, sizeof error);
    CHECK(block != NULL);
    for (int i = 0; i < 12; i++) {
        memset(data, 'a' + i, sizeof data);
        struct iovec iov = {data, sizeof data};
        CHECK(emu_block_writev(block, &iov, 1, below((1 << 20) / 512) * 512 / 2) == 0);
    }
    CHECK(emu_block_write_zeroes(block, 8192, 65536, 0) == 0);
    CHECK(emu_block_close(block) == 0);
    take_file(path);
    unlink(path);
}

/* -- mutations ------------------------------------------------------------- */

static uint64_t get(const uint8_t *bytes, size_t size, size_t at, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | (at + i < size ? bytes[at + i] : 0);
    return value;
}

static void put(uint8_t *bytes, size_t size, size_t at, unsigned width, uint64_t value)
{
    for (unsigned i = width; i-- > 0; value >>= 8)
        if (at + i < size)
            bytes[at + i] = (uint8_t)value;
}

/* A number that means something to this image, or that nobody expects. */
static uint64_t interesting(const uint8_t *bytes, size_t size)
{
    static const uint64_t edges[] = {0, 1, 2, 0xff, 0x1ff, 0x200, 0xffff, 0x10000, 0x7fffffff, 0xffffffff,
                                     UINT64_MAX, INT64_MAX, UINT64_C(1) << 55, UINT64_C(1) << 62, UINT64_C(1) << 40};
    const unsigned bits = (unsigned)get(bytes, size, 20, 4) & 31;
    uint64_t value = below(size / 512 + 3) * 512;
    switch (below(5)) {
    case 0:
        return edges[below(sizeof edges / sizeof *edges)];
    case 1:
        return next_random(&seed) >> below(64);
    case 2:
        value = (below(size) >> bits) << bits;
    }
    if (below(2))
        value |= UINT64_C(1) << 63;
    if (below(6) == 0)
        value |= UINT64_C(1) << 62;
    if (below(6) == 0)
        value |= 1;
    return value;
}

/* Where a table begins: the first, the one of refcounts, one of theirs; the header; anywhere. */
static size_t table_of(const uint8_t *bytes, size_t size, size_t *reach)
{
    const uint64_t l1 = get(bytes, size, 40, 8), counts = get(bytes, size, 48, 8), snapshots = get(bytes, size, 64, 8);
    *reach = 256;
    switch (below(7)) {
    case 0:
        *reach = 120;
        return 0;
    case 1:
        return l1 % size;
    case 2:
        return counts % size;
    case 3:
        return (get(bytes, size, counts % size, 8) & ~UINT64_C(511)) % size;
    case 4:
        return (get(bytes, size, l1 % size + below(4) * 8, 8) & UINT64_C(0xfffffffffffe00)) % size;
    case 5:
        *reach = 600;
        return below(2) ? 100 : snapshots % size;
    }
    *reach = size;
    return 0;
}

/* A header extension (or what looks like one), or the name of another file to stand on: itself, one that stands on it. */
static void mutate_header(uint8_t *bytes, size_t size)
{
    static const uint32_t kinds[] = {0, 0xe2792aca, 0x6803f857, 0x23852875, 0x0537be77, 0x44415441, 0x12345678};
    static const char *const names[] = {"case", "loop", "base", "../base", "/etc/passwd", "", "json:{}", "nbd://there/is"};
    size_t at = get(bytes, size, 100, 4);
    at = at < 72 || at > 512 ? 104 : at;
    for (uint64_t n = 1 + below(4); n > 0; n--) {
        const uint32_t length = below(4) == 0 ? (uint32_t)interesting(bytes, size) : (uint32_t)below(40);
        put(bytes, size, at, 4, kinds[below(sizeof kinds / sizeof *kinds)]);
        put(bytes, size, at + 4, 4, length);
        at += 8 + ((length + 7) & ~7u) % 256;
    }
    if (below(3) == 0)
        return;
    const char *name = names[below(sizeof names / sizeof *names)];
    const uint64_t place = below(4) ? 400 : interesting(bytes, size);
    put(bytes, size, at, 8, 0);
    put(bytes, size, 8, 8, place);
    put(bytes, size, 16, 4, below(8) ? strlen(name) : below(2000));
    for (size_t i = 0; i < strlen(name); i++)
        put(bytes, size, place + i, 1, (uint8_t)name[i]);
}

static void mutate(uint8_t *bytes, size_t *size)
{
    if (below(12) == 0) {
        mutate_header(bytes, *size);
        if (below(2))
            return;
    }
    for (uint64_t changes = 1 + below(5); changes > 0 && *size > 0; changes--) {
        size_t reach, table = table_of(bytes, *size, &reach), at = table + below(reach);
        unsigned width = 1u << below(4);
        switch (below(8)) {
        case 0:
            put(bytes, *size, at, 1, get(bytes, *size, at, 1) ^ (1u << below(8)));
            break;
        case 1:
            put(bytes, *size, at, width, get(bytes, *size, at, width) + below(5) - 2);
            break;
        case 2:
            if (below(8) == 0)
                *size = below(*size) + 1;
            break;
        case 3: /* one entry over another */
            put(bytes, *size, at & ~(size_t)7, 8, get(bytes, *size, table + below(reach) / 8 * 8, 8));
            break;
        case 4:
            put(bytes, *size, at & ~(size_t)(width - 1), width, interesting(bytes, *size));
            break;
        default:
            put(bytes, *size, at & ~(size_t)7, 8, interesting(bytes, *size));
        }
    }
}

/* -- requests -------------------------------------------------------------- */

/* In pieces of exactly their size: a byte too far is seen. */
static int transfer(emu_block *block, int write, uint64_t offset, uint64_t length, uint8_t *data)
{
    struct iovec iov[4];
    int pieces = 0;
    uint64_t done = 0;
    while (done < length) {
        uint64_t size = pieces == 3 ? length - done : 1 + below(length - done);
        iov[pieces].iov_base = malloc(size);
        iov[pieces].iov_len = size;
        CHECK(iov[pieces].iov_base != NULL);
        memcpy(iov[pieces++].iov_base, data + done, size);
        done += size;
    }
    int failed = write ? emu_block_writev(block, iov, pieces, offset) : emu_block_readv(block, iov, pieces, offset);
    done = 0;
    for (int i = 0; i < pieces; done += iov[i++].iov_len) {
        memcpy(data + done, iov[i].iov_base, iov[i].iov_len);
        free(iov[i].iov_base);
    }
    return failed;
}

static int request(emu_block *block)
{
    static uint8_t data[MOST];
    const uint64_t size = emu_block_size(block);
    uint64_t offset = below(4) == 0 ? below(size + 1) : below(size < (1 << 20) ? size + 1 : 1 << 20), length = 1 + below(MOST - 1);
    if (below(3) == 0)
        length = 1 + below(700);
    if (below(2))
        offset &= ~UINT64_C(511), length = (length + 511) & ~UINT64_C(511);
    if (length > size - offset && below(20) != 0)
        length = size - offset;
    emu_block_report report;
    switch (below(16)) {
    case 0:
        return emu_block_flush(block);
    case 1:
        return emu_block_discard(block, offset, length * (1 + below(100)));
    case 2:
        return emu_block_write_zeroes(block, offset, length, (int)below(2));
    case 3:
        if (below(4) == 0)
            return emu_block_check(block, (int)below(2), &report);
        return emu_block_resize(block, below(4 << 20) / 512 * 512);
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
        memset(data, (int)below(256), length);
        return transfer(block, 1, offset, length, data);
    }
    return transfer(block, 0, offset, length, data);
}

static void write_file(const char *path, const uint8_t *bytes, size_t size)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    CHECK(fd >= 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size);
    close(fd);
}

static bool is_sound(emu_block *block, bool leaks)
{
    emu_block_report report;
    return emu_block_check(block, 0, &report) == 0 && report.errors == 0 && (report.leaks == 0 || leaks);
}

/* What was asked of a sound image left it so; counts beyond the end of the file become leaks when it grows to there. */
static void look_again(const char *path, const uint8_t *bytes, size_t size)
{
    char error[1024], name[64], kept_path[4096];
    emu_block_options options = {.format = EMU_BLOCK_QCOW2, .read_only = 1};
    emu_block *block = emu_block_open(path, &options, error, sizeof error);
    if (block == NULL || !is_sound(block, changed)) {
        fprintf(stderr, "case %" PRIu64 ": a sound image is not any more; %s is it now%s%s\n", current, path,
                block == NULL ? ": " : "", block == NULL ? error : "");
        abort();
    }
    emu_block_close(block);
    sound++;
    if (below(20) != 0 || kept == KEPT)
        return;
    snprintf(name, sizeof name, "before-%" PRIu64 ".qcow2", kept);
    name_in(kept_path, sizeof kept_path, name);
    write_file(kept_path, bytes, size);
    snprintf(name, sizeof name, "after-%" PRIu64 ".qcow2", kept++);
    name_in(kept_path, sizeof kept_path, name);
    CHECK(rename(path, kept_path) == 0);
}

static void ask(const char *path, const uint8_t *bytes, size_t size)
{
    char error[1024];
    emu_block_options options = {.format = below(3) ? EMU_BLOCK_QCOW2 : EMU_BLOCK_PROBE, .cache = (uint32_t)below(8) < 6 ? EMU_BLOCK_UNSAFE : (uint32_t)below(4),
                                 .read_only = below(4) == 0, .discard = below(2) == 0, .backing = below(8) == 0 ? EMU_BLOCK_BACKING_NONE : EMU_BLOCK_BACKING_BESIDE};
    if (options.cache == EMU_BLOCK_NONE)
        options.cache = EMU_BLOCK_WRITEBACK; /* not every file system has it */
    memset(error, 'x', sizeof error);
    emu_block *block = emu_block_open(path, &options, error, sizeof error);
    if (block == NULL) {
        refused++;
        CHECK(memchr(error, 0, sizeof error) != NULL && strlen(error) > 0 && strchr(error, '\n') == NULL);
        return;
    }
    opened++;
    emu_block_info info;
    emu_block_describe(block, &info);
    const bool was_sound = info.format == EMU_BLOCK_QCOW2 && !info.corrupt && is_sound(block, false);
    for (uint64_t i = 1 + below(12); i > 0; i--)
        answered += request(block) == 0;
    if (emu_block_close(block) == 0 && was_sound)
        look_again(path, bytes, size);
}

static int open_files(void)
{
    int files = 0;
    for (int fd = 0; fd < 256; fd++)
        files += fcntl(fd, F_GETFD) != -1;
    return files;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    folder = argv[1];
    const uint64_t cases = strtoull(argv[2], NULL, 0), first = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
    char base[4096], path[4096], loop[4096];
    static uint8_t bytes[ROOM];
    name_in(base, sizeof base, "base");
    name_in(path, sizeof path, "case");
    seed = 1;
    memset(bytes, 'b', sizeof bytes);
    write_file(base, bytes, 700000);
    for (uint64_t cluster = 512; cluster <= 65536; cluster *= 2) {
        build(cluster, 3, 1u << below(7), NULL, NULL);
        build(cluster, 2 + (uint32_t)below(2), 16, below(2) ? NULL : "base", "raw");
    }
    build(4096, 3, 16, "base", "raw");
    for (int i = 4; i < argc; i++)
        take_file(argv[i]);
    name_in(loop, sizeof loop, "loop");
    emu_block_new new = {.size = 1 << 20, .cluster_size = 4096, .format = EMU_BLOCK_QCOW2, .version = 3, .refcount_bits = 16,
                         .backing = "base", .backing_format = "raw"};
    unlink(loop);
    char error[1024];
    CHECK(emu_block_create(loop, &new, error, sizeof error) == 0);
    int fd = open(loop, O_RDWR);
    uint8_t header[512];
    CHECK(pread(fd, header, sizeof header, 0) == sizeof header);
    uint64_t place = get(header, sizeof header, 8, 8); /* "base" becomes "case" */
    CHECK(pwrite(fd, "case", 4, (off_t)place) == 4);
    close(fd);
    signal(SIGALRM, too_long);
    __sanitizer_set_death_callback(last_words);
    const int files = open_files();
    for (uint64_t i = 0; i < cases; i++) {
        current = first + i;
        seed = current * UINT64_C(0x9E3779B97F4A7C15) | 1;
        alarm(SECONDS);
        const struct good *good = &goods[below(count)];
        size_t size = good->size;
        memcpy(bytes, good->bytes, size);
        changed = below(50) != 0;
        if (changed)
            mutate(bytes, &size);
        write_file(path, bytes, size);
        ask(path, bytes, size);
        struct rusage usage;
        if (open_files() != files || getrusage(RUSAGE_SELF, &usage) != 0 || usage.ru_maxrss > MOST_MEMORY) {
            fprintf(stderr, "case %" PRIu64 ": a file stays open, or much memory was used\n", current);
            return 1;
        }
    }
    unlink(path);
    for (size_t i = 0; i < count; i++)
        free(goods[i].bytes);
    printf("%" PRIu64 " cases, %" PRIu64 " opened, %" PRIu64 " of them sound, %" PRIu64 " refused, %" PRIu64 " requests done\n", cases, opened, sound, refused, answered);
    return opened == 0 || refused == 0;
}

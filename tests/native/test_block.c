/*
 * What images do to the host: how often they sync, what they leave when the disk is full, and that threads may share one.
 *
 *     test_block FOLDER
 *
 * The system calls that write are ours here: they count, and fail from a given one on.
 */
#include "block.h"
#include "check.h"
#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static const char *folder;
static _Atomic uint64_t syncs, writes;
static _Atomic int64_t writes_left = INT64_MAX; /* then the disk is full */
static _Atomic int sync_fails;

int fdatasync(int fd)
{
    syncs++;
    if (sync_fails) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static int full(void)
{
    writes++;
    if (writes_left-- > 0)
        return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return full() ? -1 : syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    return full() ? -1 : syscall(SYS_pwritev, fd, iov, (long)count, offset, 0L);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    return full() ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

static const char *name(const char *file)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return path;
}

static emu_block *open_image(const char *file, uint32_t cache)
{
    char error[1024] = "";
    emu_block_options options = {.cache = cache, .discard = 1, .format = strstr(file, "raw") ? EMU_BLOCK_RAW : EMU_BLOCK_QCOW2};
    emu_block *block = emu_block_open(name(file), &options, error, sizeof error);
    if (block == NULL)
        fprintf(stderr, "%s\n", error);
    CHECK(block != NULL);
    return block;
}

static void create(const char *file, uint64_t cluster)
{
    char error[1024];
    emu_block_new new = {.size = 8 * MIB, .cluster_size = cluster, .version = 3, .refcount_bits = 16,
                         .format = strstr(file, "raw") ? EMU_BLOCK_RAW : EMU_BLOCK_QCOW2};
    unlink(name(file));
    CHECK(emu_block_create(name(file), &new, error, sizeof error) == 0);
}

static int put(emu_block *block, uint64_t offset, uint64_t length, int byte)
{
    uint8_t *data = malloc(length);
    CHECK(data != NULL);
    memset(data, byte, length);
    struct iovec iov = {data, length};
    int failed = emu_block_writev(block, &iov, 1, offset);
    free(data);
    return failed;
}

/* Whether all of a range is `byte`, or one of two. */
static void hold(emu_block *block, uint64_t offset, uint64_t length, int byte, int other)
{
    uint8_t *data = malloc(length);
    CHECK(data != NULL);
    struct iovec iov = {data, length};
    CHECK(emu_block_readv(block, &iov, 1, offset) == 0);
    for (uint64_t i = 0; i < length; i++)
        CHECK(data[i] == byte || data[i] == other);
    free(data);
}

static void check_sound(emu_block *block, uint64_t leaks)
{
    emu_block_report report;
    CHECK(emu_block_check(block, 0, &report) == 0);
    CHECK_EQUAL(report.errors, 0);
    if (leaks == 0)
        CHECK_EQUAL(report.leaks, 0);
}

static const char *const files[] = {"disk.raw", "disk.qcow2"};

static void a_flush_syncs_and_says_what_came_of_it(void)
{
    for (int i = 0; i < 2; i++) {
        create(files[i], 65536);
        emu_block *block = open_image(files[i], EMU_BLOCK_WRITEBACK);
        for (int round = 0; round < 3; round++) {
            CHECK(put(block, 0, 4096, 'a' + round) == 0);
            uint64_t before = syncs;
            CHECK(emu_block_flush(block) == 0);
            CHECK(syncs > before);
            /* The clusters are there: data only, and one sync. */
            CHECK(round == 0 || syncs == before + 1);
        }
        CHECK(put(block, 0, 4096, 'z') == 0);
        sync_fails = 1;
        CHECK(emu_block_flush(block) == -EIO);
        sync_fails = 0;
        /* The kernel has forgotten what it could not write: a later sync must not say that it is there. */
        CHECK(emu_block_flush(block) == -EIO);
        emu_block_close(block);
    }
}

static void cache_modes_sync_as_they_say(void)
{
    for (int i = 0; i < 2; i++) {
        create(files[i], 65536);
        emu_block *block = open_image(files[i], EMU_BLOCK_WRITETHROUGH);
        for (int round = 0; round < 3; round++) {
            uint64_t before = syncs;
            CHECK(put(block, (uint64_t)round << 16, 4096, 'a') == 0);
            CHECK(syncs > before);
        }
        emu_block_close(block);
        uint64_t before = syncs;
        block = open_image(files[i], EMU_BLOCK_UNSAFE);
        CHECK(put(block, 1 << 20, 4096, 'a') == 0 && emu_block_flush(block) == 0);
        emu_block_close(block);
        CHECK_EQUAL(syncs, before);
        block = open_image(files[i], EMU_BLOCK_WRITEBACK);
        CHECK(put(block, 2 << 20, 4096, 'a') == 0);
        CHECK_EQUAL(syncs, before);
        emu_block_close(block);
    }
}

static void many_clusters_are_one_write(void)
{
    create("disk.qcow2", 65536);
    emu_block *block = open_image("disk.qcow2", EMU_BLOCK_WRITEBACK);
    CHECK(put(block, 4 * MIB, 512, 'a') == 0);
    uint64_t before = writes;
    CHECK(put(block, 512, 4 * MIB - 1024, 'b') == 0);
    CHECK_EQUAL(writes, before + 1);
    CHECK(put(block, 512, 4 * MIB - 1024, 'c') == 0);
    CHECK_EQUAL(writes, before + 2);
    hold(block, 0, 512, 0, 0);
    hold(block, 512, 4 * MIB - 1024, 'c', 'c');
    hold(block, 4 * MIB - 512, 512, 0, 0);
    emu_block_close(block);
}

/* The disk is full after 0, 1, 2 ... writes; then it is not. */
static void a_full_disk_leaves_a_sound_image(void)
{
    for (uint64_t cluster = 512; cluster <= 65536; cluster *= 128)
        for (int64_t left = 0; left < 40; left++) {
            create("disk.qcow2", cluster);
            emu_block *block = open_image("disk.qcow2", EMU_BLOCK_UNSAFE);
            CHECK(put(block, 0, 300000, 'a') == 0 && emu_block_flush(block) == 0);
            writes_left = left;
            int failed = put(block, 100000, 300000, 'b');
            if (failed == 0)
                failed = emu_block_discard(block, 0, 65536);
            if (failed == 0)
                failed = put(block, 3 * MIB + 1000, 200000, 'c');
            if (failed == 0)
                failed = emu_block_write_zeroes(block, 300, 66000, 0);
            if (failed == 0)
                failed = emu_block_resize(block, 64 * MIB);
            if (failed == 0)
                failed = emu_block_flush(block);
            CHECK(failed == 0 || failed == -ENOSPC);
            writes_left = INT64_MAX;
            hold(block, 70000, 30000, 'a', 'a');
            CHECK(put(block, 5 * MIB, 100000, 'd') == 0);
            CHECK(emu_block_flush(block) == 0);
            check_sound(block, 1);
            hold(block, 5 * MIB, 100000, 'd', 'd');
            CHECK(emu_block_close(block) == 0);
            block = open_image("disk.qcow2", EMU_BLOCK_UNSAFE);
            check_sound(block, 1);
            hold(block, 70000, 30000, 'a', 'a');
            hold(block, 5 * MIB, 100000, 'd', 'd');
            emu_block_close(block);
        }
}

/* Each thread has every eighth sector, so clusters are many's and sectors are one's. */
enum { THREADS = 4, SECTORS = 1200 };

typedef struct worker {
    emu_block *block;
    uint64_t which;
} worker;

static void *work(void *opaque)
{
    const worker *w = opaque;
    uint64_t random = w->which + 1;
    for (int round = 0; round < 2; round++)
        for (uint64_t i = 0; i < SECTORS; i++) {
            uint64_t offset = (i * THREADS + w->which) * 512;
            CHECK(put(w->block, offset, 512, (int)(w->which * 2 + (uint64_t)round + 1)) == 0);
            hold(w->block, offset, 512, (int)(w->which * 2 + (uint64_t)round + 1), -1);
            switch (next_random(&random) % 64) {
            case 0:
                CHECK(emu_block_flush(w->block) == 0);
                break;
            case 1: /* nobody's clusters */
                CHECK(emu_block_discard(w->block, 4 * MIB, MIB) == 0);
                break;
            case 2:
                CHECK(put(w->block, 4 * MIB + w->which * 100000, 100000, 'x') == 0);
            }
        }
    return NULL;
}

static void threads_share_an_image(void)
{
    for (int i = 0; i < 2; i++) {
        create(files[i], 4096);
        emu_block *block = open_image(files[i], EMU_BLOCK_WRITEBACK);
        pthread_t threads[THREADS];
        worker workers[THREADS];
        for (uint64_t k = 0; k < THREADS; k++) {
            workers[k] = (worker){block, k};
            CHECK(pthread_create(&threads[k], NULL, work, &workers[k]) == 0);
        }
        for (int k = 0; k < THREADS; k++)
            pthread_join(threads[k], NULL);
        for (uint64_t k = 0; k < (uint64_t)THREADS * SECTORS; k++)
            hold(block, k * 512, 512, (int)(k % THREADS * 2 + 2), -1);
        check_sound(block, 0);
        CHECK(emu_block_close(block) == 0);
    }
}

/* What a guest's device does: one request after the other, and none while somebody holds it. */
typedef struct device {
    emu_block *block;
    pthread_mutex_t held;
    _Atomic bool stop;
    uint64_t random;
    uint8_t model[8 * MIB];
} device;

static void request(device *d)
{
    uint64_t length = 512 * (1 + next_random(&d->random) % 300);
    uint64_t offset = next_random(&d->random) % ((8 * MIB - length) / 512) * 512;
    int byte = (int)(next_random(&d->random) % 255 + 1);
    pthread_mutex_lock(&d->held);
    switch (next_random(&d->random) % 8) {
    case 0:
        CHECK(emu_block_write_zeroes(d->block, offset, length, 1) == 0);
        memset(d->model + offset, 0, length);
        break;
    default:
        CHECK(put(d->block, offset, length, byte) == 0);
        memset(d->model + offset, byte, length);
    }
    pthread_mutex_unlock(&d->held);
}

static void *requests(void *opaque)
{
    device *d = opaque;
    while (!d->stop)
        request(d);
    return NULL;
}

static void holds(emu_block *block, const uint8_t *model)
{
    static uint8_t data[8 * MIB];
    struct iovec iov = {data, sizeof data};
    CHECK(emu_block_readv(block, &iov, 1, 0) == 0);
    CHECK(memcmp(data, model, sizeof data) == 0);
}

static bool copied(emu_copy *copy, uint32_t how)
{
    emu_copy_state state;
    emu_copy_look(copy, &state);
    CHECK_EQUAL(state.error, 0);
    return how == EMU_COPY_POINT ? state.ended != 0 : state.ready != 0;
}

/* While requests are done: a backup has what was there at its start, a mirror what is there at its end. */
static void a_copy_is_the_disk_while_it_is_written(void)
{
    static device d;
    static uint8_t before[8 * MIB];
    static const char *const targets[] = {"target.raw", "target.qcow2"};
    for (uint32_t round = 0; round < 4; round++) {
        uint32_t how = round % 2 == 0 ? EMU_COPY_POINT : EMU_COPY_MIRROR;
        create(files[round / 2], 65536);
        create(targets[round % 2], 65536);
        emu_block *target = open_image(targets[round % 2], EMU_BLOCK_WRITEBACK);
        d = (device){.block = open_image(files[round / 2], EMU_BLOCK_WRITEBACK), .held = PTHREAD_MUTEX_INITIALIZER,
                     .random = round + 7};
        for (int i = 0; i < 60; i++)
            request(&d);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, requests, &d) == 0);
        pthread_mutex_lock(&d.held);
        memcpy(before, d.model, sizeof before);
        emu_copy *copy = emu_copy_start(d.block, target, how);
        CHECK(copy != NULL);
        CHECK(emu_copy_start(d.block, target, how) == NULL);
        pthread_mutex_unlock(&d.held);
        while (!copied(copy, how))
            usleep(1000);
        pthread_mutex_lock(&d.held);
        CHECK_EQUAL(emu_copy_end(copy, how == EMU_COPY_MIRROR), 0);
        emu_copy_free(copy);
        if (how == EMU_COPY_MIRROR)
            holds(target, d.model);
        pthread_mutex_unlock(&d.held);
        d.stop = true;
        pthread_join(thread, NULL);
        if (how == EMU_COPY_POINT)
            holds(target, before);
        holds(d.block, d.model);
        check_sound(target, 1);
        check_sound(d.block, 1);
        CHECK(emu_block_close(d.block) == 0);
        CHECK(emu_block_close(target) == 0);
    }
}

/* A copy that fails, or whose image is closed, says so, and the guest's requests go on. */
static void a_copy_that_fails_is_not_the_guests_end(void)
{
    emu_copy_state state;
    for (uint32_t how = EMU_COPY_POINT; how <= EMU_COPY_MIRROR; how++)
        for (int closes = 0; closes < 2; closes++) {
            create("disk.raw", 65536);
            create("target.qcow2", 65536);
            emu_block *block = open_image("disk.raw", EMU_BLOCK_WRITEBACK);
            emu_block *target = open_image("target.qcow2", EMU_BLOCK_WRITEBACK);
            CHECK(put(block, 0, 8 * MIB, 'a') == 0);
            emu_copy *copy = emu_copy_start(block, target, how);
            CHECK(copy != NULL);
            emu_copy_pace(copy, 1, 0);
            if (closes) {
                CHECK(emu_block_close(target) == 0);
                target = NULL;
                emu_copy_look(copy, &state);
                CHECK_EQUAL(state.error, -ENODEV);
            } else {
                writes_left = 0;
                emu_copy_pace(copy, 0, 0);
                do
                    emu_copy_look(copy, &state);
                while (!state.ended);
                writes_left = INT64_MAX;
                CHECK_EQUAL(state.error, -ENOSPC);
                CHECK_EQUAL(emu_copy_end(copy, 1), -ENOSPC);
            }
            CHECK(put(block, MIB, MIB, 'b') == 0);
            hold(block, MIB, MIB, 'b', 'b');
            CHECK_EQUAL(emu_copy_end(copy, 0), closes ? -ENODEV : -ENOSPC);
            emu_copy_free(copy);
            CHECK(emu_block_close(block) == 0);
            if (target != NULL)
                (void)emu_block_close(target);
        }
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    folder = argv[1];
    RUN(a_flush_syncs_and_says_what_came_of_it);
    RUN(cache_modes_sync_as_they_say);
    RUN(many_clusters_are_one_write);
    RUN(a_full_disk_leaves_a_sound_image);
    RUN(threads_share_an_image);
    RUN(a_copy_is_the_disk_while_it_is_written);
    RUN(a_copy_that_fails_is_not_the_guests_end);
    return 0;
}

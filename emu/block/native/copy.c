/* Copies of images that are written to meanwhile: copy.h. */
#include "copy.h"

#include "copy_hooks.h"
#include "image.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What is marked as one, and how much is copied at a time: neighbours that are marked, too. */
#define UNIT (UINT64_C(64) << 10)
#define AT_ONCE (UINT64_C(1) << 20)

struct emu_copy {
    emu_block *source, *target; /* NULL behind the end */
    uint32_t how;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t news;
    uint64_t size, units, left; /* left: how many are marked */
    uint64_t cursor;
    uint64_t speed;
    bool paused, stop, ended, ready;
    int error;
    uint8_t *buffer;   /* the thread's */
    uint8_t *before;   /* POINT's, for a guest's write */
    uint64_t marked[]; /* a bit for each unit that is to be copied */
};

static bool is_marked(const emu_copy *copy, uint64_t unit) { return copy->marked[unit / 64] >> unit % 64 & 1; }

static void mark(emu_copy *copy, uint64_t unit)
{
    copy->left += !is_marked(copy, unit);
    copy->marked[unit / 64] |= UINT64_C(1) << unit % 64;
}

static void unmark(emu_copy *copy, uint64_t unit)
{
    copy->left -= is_marked(copy, unit);
    copy->marked[unit / 64] &= ~(UINT64_C(1) << unit % 64);
}

static bool is_zero(const uint8_t *data, uint64_t size)
{
    return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

/* Copies a range; what is zero takes no space where the target can do without. */
static int copy_range(emu_copy *copy, uint64_t offset, uint64_t length, uint8_t *buffer)
{
    struct iovec iov = {buffer, length};
    int failed = emu_block_readv(copy->source, &iov, 1, offset);
    if (failed != 0)
        return failed;
    return is_zero(buffer, length) ? emu_block_write_zeroes(copy->target, offset, length, 1)
                                   : emu_block_writev(copy->target, &iov, 1, offset);
}

static uint64_t end_of(const emu_copy *copy, uint64_t unit)
{
    uint64_t end = (unit + 1) * UNIT;
    return end < copy->size ? end : copy->size;
}

/* The next marked units from the cursor on, as many as are copied at a time; false: there are none. */
static bool next_run(emu_copy *copy, uint64_t *first, uint64_t *behind)
{
    if (copy->left == 0)
        return false;
    uint64_t at = copy->cursor;
    while (!is_marked(copy, at)) {
        /* whole words at once: a disk has millions of units */
        if (at % 64 == 0 && copy->marked[at / 64] == 0)
            at += 64;
        else
            at++;
        if (at >= copy->units)
            at = 0;
    }
    *first = at;
    while (at < copy->units && is_marked(copy, at) && at - *first < AT_ONCE / UNIT)
        at++;
    *behind = at;
    copy->cursor = at < copy->units ? at : 0;
    return true;
}

/* Copies some of what is marked.  With the lock, which a MIRROR lets go of meanwhile.  False: nothing is marked. */
static bool advance(emu_copy *copy, uint64_t *bytes)
{
    uint64_t first, behind;
    if (!next_run(copy, &first, &behind))
        return false;
    uint64_t start = first * UNIT, end = end_of(copy, behind - 1);
    for (uint64_t unit = first; unit < behind; unit++)
        unmark(copy, unit);
    if (copy->how == EMU_COPY_MIRROR)
        pthread_mutex_unlock(&copy->lock); /* what is written from here on is marked again */
    int failed = copy_range(copy, start, end - start, copy->buffer);
    if (copy->how == EMU_COPY_MIRROR)
        pthread_mutex_lock(&copy->lock);
    if (failed != 0) {
        for (uint64_t unit = first; unit < behind; unit++)
            mark(copy, unit);
        copy->error = failed;
    }
    *bytes = end - start;
    return true;
}

static void wait_for(emu_copy *copy, uint64_t ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t sum = (uint64_t)until.tv_nsec + ns;
    until.tv_sec += (time_t)(sum / 1000000000u);
    until.tv_nsec = (long)(sum % 1000000000u);
    pthread_cond_timedwait(&copy->news, &copy->lock, &until);
}

static void *work(void *opaque)
{
    emu_copy *copy = opaque;
    pthread_mutex_lock(&copy->lock);
    while (!copy->stop && copy->error == 0) {
        uint64_t bytes = 0;
        if (copy->paused) {
            pthread_cond_wait(&copy->news, &copy->lock);
        } else if (!advance(copy, &bytes)) {
            if (copy->how == EMU_COPY_POINT)
                break;
            copy->ready = true;
            pthread_cond_wait(&copy->news, &copy->lock);
        } else if (copy->stop) {
            break; /* said while a MIRROR had let go of the lock */
        } else if (copy->speed != 0) {
            wait_for(copy, bytes * 1000000000u / copy->speed);
        } else {
            /* A guest's write may want the lock, and a mutex is not fair. */
            pthread_mutex_unlock(&copy->lock);
            sched_yield();
            pthread_mutex_lock(&copy->lock);
        }
    }
    bool whole = copy->error == 0 && copy->left == 0 && copy->how == EMU_COPY_POINT;
    pthread_mutex_unlock(&copy->lock);
    int failed = whole ? emu_block_flush(copy->target) : 0;
    pthread_mutex_lock(&copy->lock);
    copy->error = failed != 0 ? failed : copy->error;
    copy->ended = true;
    pthread_mutex_unlock(&copy->lock);
    return NULL;
}

/* ---- what writes to the source call -------------------------------------------------------- */

void emu_copy_before_write(emu_copy *copy, const emu_block *block, uint64_t offset, uint64_t length)
{
    if (block != copy->source || copy->how != EMU_COPY_POINT || length == 0)
        return;
    pthread_mutex_lock(&copy->lock);
    for (uint64_t unit = offset / UNIT; unit <= (offset + length - 1) / UNIT && copy->error == 0; unit++) {
        if (!is_marked(copy, unit))
            continue;
        uint64_t start = unit * UNIT;
        int failed = copy_range(copy, start, end_of(copy, unit) - start, copy->before);
        if (failed == 0)
            unmark(copy, unit);
        else
            copy->error = failed; /* the copy's end, and not the guest's */
    }
    pthread_mutex_unlock(&copy->lock);
}

void emu_copy_after_write(emu_copy *copy, const emu_block *block, uint64_t offset, uint64_t length)
{
    if (block != copy->source || copy->how != EMU_COPY_MIRROR || length == 0)
        return;
    pthread_mutex_lock(&copy->lock);
    for (uint64_t unit = offset / UNIT; unit <= (offset + length - 1) / UNIT; unit++)
        mark(copy, unit);
    pthread_cond_signal(&copy->news);
    pthread_mutex_unlock(&copy->lock);
}

/* ---- from outside -------------------------------------------------------------------------------- */

emu_copy *emu_copy_start(emu_block *source, emu_block *target, uint32_t how)
{
    uint64_t size = emu_block_size(source), units = (size + UNIT - 1) / UNIT;
    if (source == target || source->copy != NULL || target->copy != NULL || size != emu_block_size(target))
        return NULL;
    emu_copy *copy = calloc(1, sizeof *copy + (units / 64 + 1) * sizeof copy->marked[0]);
    if (copy == NULL)
        return NULL;
    copy->source = source;
    copy->target = target;
    copy->how = how;
    copy->size = size;
    copy->units = units;
    /* aligned for images that are read without the page cache */
    if (posix_memalign((void **)&copy->buffer, 4096, AT_ONCE) != 0)
        copy->buffer = NULL;
    if (posix_memalign((void **)&copy->before, 4096, UNIT) != 0)
        copy->before = NULL;
    for (uint64_t unit = 0; unit < units; unit++)
        mark(copy, unit);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&copy->lock, NULL);
    pthread_cond_init(&copy->news, &monotonic);
    pthread_condattr_destroy(&monotonic);
    /* Signals are for the threads that Python knows. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    source->copy = target->copy = copy; /* before there is a thread that writes to the target */
    bool made = copy->buffer != NULL && copy->before != NULL && pthread_create(&copy->thread, NULL, work, copy) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!made) {
        source->copy = target->copy = NULL;
        copy->source = NULL;
        emu_copy_free(copy);
        return NULL;
    }
    return copy;
}

void emu_copy_look(emu_copy *copy, emu_copy_state *out)
{
    pthread_mutex_lock(&copy->lock);
    uint64_t left = copy->left * UNIT;
    *out = (emu_copy_state){
        .total = copy->size,
        .left = left < copy->size ? left : copy->size,
        .error = copy->error,
        .ended = copy->ended,
        .ready = copy->ready,
    };
    pthread_mutex_unlock(&copy->lock);
}

void emu_copy_pace(emu_copy *copy, uint64_t speed, uint32_t paused)
{
    pthread_mutex_lock(&copy->lock);
    copy->speed = speed;
    copy->paused = paused != 0;
    pthread_cond_signal(&copy->news);
    pthread_mutex_unlock(&copy->lock);
}

int emu_copy_end(emu_copy *copy, uint32_t complete)
{
    if (copy->source == NULL)
        return copy->error;
    pthread_mutex_lock(&copy->lock);
    copy->stop = true;
    pthread_cond_signal(&copy->news);
    pthread_mutex_unlock(&copy->lock);
    pthread_join(copy->thread, NULL);
    uint64_t bytes;
    pthread_mutex_lock(&copy->lock);
    while (complete && copy->error == 0 && advance(copy, &bytes))
        continue;
    if (complete && copy->error == 0)
        copy->error = emu_block_flush(copy->target);
    pthread_mutex_unlock(&copy->lock);
    copy->source->copy = copy->target->copy = NULL;
    copy->source = copy->target = NULL;
    return copy->error;
}

void emu_copy_closes(emu_copy *copy)
{
    emu_copy_end(copy, 0);
    if (copy->error == 0 && (copy->left != 0 || copy->how == EMU_COPY_MIRROR))
        copy->error = -ENODEV; /* an image was taken away */
}

void emu_copy_free(emu_copy *copy)
{
    if (copy->source != NULL)
        emu_copy_end(copy, 0);
    pthread_cond_destroy(&copy->news);
    pthread_mutex_destroy(&copy->lock);
    free(copy->buffer);
    free(copy->before);
    free(copy);
}

/* What all virtio devices share (virtio 1.2, chapter 2), and their threads. */
#include "virtio.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

emu_virtio *emu_virtio_new(const emu_virtio_type *type, uint64_t features, uint32_t nqueues, uint32_t queue_size,
                           uint32_t config_size)
{
    emu_virtio *device = calloc(1, sizeof *device);
    if (device == NULL)
        return NULL;
    device->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (device->bell < 0) {
        free(device);
        return NULL;
    }
    device->type = type;
    device->offered = features | EMU_VIRTIO_F_INDIRECT_DESC | EMU_VIRTIO_F_EVENT_IDX | EMU_VIRTIO_F_VERSION_1;
    device->nqueues = nqueues;
    device->config_size = config_size;
    for (uint32_t i = 0; i < nqueues; i++) {
        device->queues[i].size_max = queue_size;
        emu_vq_reset(&device->queues[i]);
    }
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    /* What a type written in Python calls may take it again. */
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&device->work, &attr);
    pthread_mutexattr_destroy(&attr);
    pthread_mutex_init(&device->line, NULL);
    pthread_cond_init(&device->go, NULL);
    return device;
}

void emu_virtio_wake(emu_virtio *device)
{
    uint64_t one = 1;
    while (write(device->bell, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void emu_virtio_free(emu_virtio *device)
{
    if (device == NULL)
        return;
    if (device->has_thread) {
        emu_virtio_hold(device);
        device->quit = true;
        emu_virtio_release(device);
        emu_virtio_wake(device);
        pthread_join(device->thread, NULL);
    }
    if (device->type->free != NULL)
        device->type->free(device);
    close(device->bell);
    pthread_mutex_destroy(&device->work);
    pthread_mutex_destroy(&device->line);
    pthread_cond_destroy(&device->go);
    free(device);
}

void emu_virtio_memory(emu_virtio *device, emu_space *space)
{
    device->space = space;
    for (uint32_t i = 0; i < device->nqueues; i++)
        device->queues[i].space = space;
}

int emu_virtio_bell(const emu_virtio *device) { return device->bell; }
uint64_t emu_virtio_features(const emu_virtio *device) { return device->features; }
uint32_t emu_virtio_status(const emu_virtio *device) { return atomic_load(&((emu_virtio *)device)->status); }
const char *emu_virtio_fault(const emu_virtio *device) { return device->fault; }

/* ---- the thread ------------------------------------------------------------------- */

void emu_virtio_hold(emu_virtio *device)
{
    atomic_fetch_add(&device->wanted, 1);
    pthread_mutex_lock(&device->work);
    atomic_fetch_sub(&device->wanted, 1);
}

void emu_virtio_release(emu_virtio *device)
{
    pthread_cond_signal(&device->go);
    pthread_mutex_unlock(&device->work);
}

static void serve(emu_virtio *device)
{
    for (uint32_t i = 0; i < device->nqueues && atomic_load(&device->running); i++) {
        emu_vq *vq = &device->queues[i];
        if (!vq->ready || emu_vq_waiting(vq) == 0)
            continue;
        emu_vq_disable(vq);
        device->type->handle(device, i);
    }
}

static void *work(void *opaque)
{
    emu_virtio *device = opaque;
    struct pollfd polls[1 + EMU_VIRTIO_POLLS];
    pthread_mutex_lock(&device->work);
    for (;;) {
        while (!device->quit && (device->parked || atomic_load(&device->wanted) != 0))
            pthread_cond_wait(&device->go, &device->work);
        if (device->quit)
            break;
        device->again = false;
        if (atomic_load(&device->running))
            serve(device);
        int count = 0, timeout = device->again ? 0 : -1;
        if (atomic_load(&device->running) && device->type->wait != NULL)
            count = device->type->wait(device, polls + 1, EMU_VIRTIO_POLLS, &timeout);
        polls[0] = (struct pollfd){.fd = device->bell, .events = POLLIN};
        pthread_mutex_unlock(&device->work);
        int found = poll(polls, 1 + (nfds_t)count, timeout);
        uint64_t rung;
        if (found > 0 && polls[0].revents != 0 && read(device->bell, &rung, sizeof rung) < 0)
            rung = 0; /* somebody else took it: the queues are looked at anyway */
        pthread_mutex_lock(&device->work);
        /* Not if the device was reset or is to rest meanwhile: the descriptors may be others now. */
        if (found >= 0 && !device->parked && !device->quit && atomic_load(&device->running) &&
            device->type->ready != NULL)
            device->type->ready(device, polls + 1, count);
    }
    pthread_mutex_unlock(&device->work);
    return NULL;
}

static bool start_thread(emu_virtio *device)
{
    if (device->has_thread)
        return true;
    /* Signals are for the threads that Python knows. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    device->has_thread = pthread_create(&device->thread, NULL, work, device) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return device->has_thread;
}

void emu_virtio_pause(emu_virtio *device)
{
    emu_virtio_hold(device);
    device->parked = true;
    emu_virtio_release(device);
}

void emu_virtio_resume(emu_virtio *device)
{
    emu_virtio_hold(device);
    device->parked = false;
    emu_virtio_release(device);
    emu_virtio_wake(device); /* it may still be waiting for what it looked for before */
}

/* ---- what types call ------------------------------------------------------------------ */

bool emu_virtio_has(const emu_virtio *device, uint64_t feature) { return (device->features & feature) != 0; }

bool emu_virtio_queue_ready(const emu_virtio *device, uint32_t queue)
{
    return queue < device->nqueues && device->queues[queue].ready;
}

bool emu_virtio_next(emu_virtio *device, uint32_t queue, emu_chain *chain)
{
    emu_vq *vq = &device->queues[queue];
    if (atomic_load(&device->wanted) != 0 && pthread_equal(pthread_self(), device->thread)) {
        device->again = true;
        /* The queue may be empty by now: then nobody looks at it before the driver tells of more. */
        if (atomic_load(&device->running) && vq->ready)
            emu_vq_enable(vq);
        return false;
    }
    while (atomic_load(&device->running) && vq->ready) {
        int popped = emu_vq_pop(vq, chain);
        if (popped > 0)
            return true;
        if (popped < 0) {
            emu_virtio_broken(device, vq->fault);
            return false;
        }
        if (!emu_vq_enable(vq))
            return false;
        emu_vq_disable(vq);
    }
    return false;
}

static void tell(emu_virtio *device, uint32_t cause, int what)
{
    pthread_mutex_lock(&device->line);
    device->causes |= cause;
    if (device->tell != NULL)
        device->tell(device, what);
    pthread_mutex_unlock(&device->line);
}

void emu_virtio_signal(emu_virtio *device, uint32_t queue)
{
    if (device->queues[queue].ready && emu_vq_should_signal(&device->queues[queue]))
        tell(device, EMU_VIRTIO_USED, (int)queue);
}

void emu_virtio_broken(emu_virtio *device, const char *why)
{
    atomic_store(&device->running, false);
    snprintf(device->fault, sizeof device->fault, "%s", why);
    uint32_t before = atomic_fetch_or(&device->status, EMU_VIRTIO_NEEDS_RESET);
    if (before & EMU_VIRTIO_DRIVER_OK)
        tell(device, EMU_VIRTIO_CONFIG_CHANGED, EMU_VIRTIO_TELL_CONFIG);
}

void emu_virtio_config_quietly(emu_virtio *device, uint32_t offset, const void *data, uint32_t size)
{
    pthread_mutex_lock(&device->line);
    memcpy(device->config + offset, data, size);
    pthread_mutex_unlock(&device->line);
}

void emu_virtio_config(emu_virtio *device, uint32_t offset, const void *data, uint32_t size)
{
    pthread_mutex_lock(&device->line);
    bool changed = memcmp(device->config + offset, data, size) != 0;
    if (changed) {
        memcpy(device->config + offset, data, size);
        atomic_fetch_add(&device->generation, 1);
    }
    pthread_mutex_unlock(&device->line);
    if (changed && (atomic_load(&device->status) & EMU_VIRTIO_DRIVER_OK))
        tell(device, EMU_VIRTIO_CONFIG_CHANGED, EMU_VIRTIO_TELL_CONFIG);
}

/* ---- what transports call --------------------------------------------------------------- */

static void start_queue(emu_virtio *device, emu_vq *vq)
{
    vq->event_idx = emu_virtio_has(device, EMU_VIRTIO_F_EVENT_IDX);
    vq->indirect = emu_virtio_has(device, EMU_VIRTIO_F_INDIRECT_DESC);
    if (!emu_vq_start(vq)) {
        vq->ready = false;
        emu_virtio_broken(device, vq->fault);
    }
}

void emu_virtio_enable_queue(emu_virtio *device, uint32_t queue, bool ready)
{
    emu_vq *vq = &device->queues[queue];
    vq->ready = ready;
    if (ready && atomic_load(&device->running)) {
        start_queue(device, vq);
        emu_virtio_wake(device);
    }
}

static void start(emu_virtio *device)
{
    if (!start_thread(device)) {
        emu_virtio_broken(device, "the host gives no thread for the device");
        return;
    }
    atomic_store(&device->running, true);
    for (uint32_t i = 0; i < device->nqueues && atomic_load(&device->running); i++)
        if (device->queues[i].ready)
            start_queue(device, &device->queues[i]);
    if (atomic_load(&device->running) && device->type->start != NULL)
        device->type->start(device);
    emu_virtio_wake(device);
}

static void reset(emu_virtio *device)
{
    atomic_store(&device->running, false);
    atomic_store(&device->status, 0);
    device->features = device->accepted = 0;
    device->fault[0] = 0;
    for (uint32_t i = 0; i < device->nqueues; i++)
        emu_vq_reset(&device->queues[i]);
    if (device->type->reset != NULL)
        device->type->reset(device);
    pthread_mutex_lock(&device->line);
    device->causes = 0;
    if (device->tell != NULL)
        device->tell(device, EMU_VIRTIO_TELL_RESET);
    pthread_mutex_unlock(&device->line);
}

void emu_virtio_reset(emu_virtio *device)
{
    emu_virtio_hold(device);
    reset(device);
    emu_virtio_release(device);
}

void emu_virtio_set_status(emu_virtio *device, uint32_t status)
{
    emu_virtio_hold(device);
    uint32_t before = atomic_load(&device->status);
    if ((status & 0xff) == 0) {
        reset(device);
    } else {
        status = (status & 0xff & ~(uint32_t)EMU_VIRTIO_NEEDS_RESET) | (before & EMU_VIRTIO_NEEDS_RESET);
        /* 3.1.1: the driver reads FEATURES_OK back to see whether the device can do with what it chose. */
        if ((status & ~before) & EMU_VIRTIO_FEATURES_OK) {
            if ((device->accepted & ~device->offered) != 0 || !(device->accepted & EMU_VIRTIO_F_VERSION_1))
                status &= ~(uint32_t)EMU_VIRTIO_FEATURES_OK;
            else
                device->features = device->accepted;
        }
        bool starts = (status & ~before) & EMU_VIRTIO_DRIVER_OK;
        if (starts && !(status & EMU_VIRTIO_FEATURES_OK)) /* a legacy driver knows no FEATURES_OK */
            device->features = device->accepted & device->offered & ~EMU_VIRTIO_F_VERSION_1;
        if (!(status & EMU_VIRTIO_DRIVER_OK))
            atomic_store(&device->running, false);
        atomic_store(&device->status, status);
        if (starts && !(status & EMU_VIRTIO_NEEDS_RESET))
            start(device);
    }
    emu_virtio_release(device);
}

uint32_t emu_virtio_read_config(emu_virtio *device, uint32_t offset, uint32_t width)
{
    uint32_t value = UINT32_MAX;
    if (offset < device->config_size && width <= device->config_size - offset) {
        value = 0;
        pthread_mutex_lock(&device->line);
        memcpy(&value, device->config + offset, width);
        pthread_mutex_unlock(&device->line);
    }
    return value;
}

void emu_virtio_write_config(emu_virtio *device, uint32_t offset, uint32_t width, uint32_t value)
{
    if (offset >= device->config_size || width > device->config_size - offset)
        return;
    emu_virtio_hold(device);
    pthread_mutex_lock(&device->line);
    for (uint32_t i = 0; i < width; i++) {
        uint8_t mask = device->writable[offset + i], byte = (uint8_t)(value >> (8 * i));
        device->config[offset + i] = (uint8_t)((device->config[offset + i] & ~mask) | (byte & mask));
    }
    pthread_mutex_unlock(&device->line);
    if (device->type->config_written != NULL)
        device->type->config_written(device, offset, width);
    emu_virtio_release(device);
}

/* ---- snapshots ------------------------------------------------------------------------------ */

void emu_virtio_save(emu_virtio *device, emu_virtio_saved *out)
{
    memset(out, 0, sizeof *out);
    emu_virtio_hold(device);
    out->features = device->features;
    out->accepted = device->accepted;
    out->status = atomic_load(&device->status);
    out->generation = atomic_load(&device->generation);
    out->queues = device->nqueues;
    memcpy(out->config, device->config, sizeof out->config);
    for (uint32_t i = 0; i < device->nqueues; i++) {
        const emu_vq *vq = &device->queues[i];
        out->queue[i] = (emu_virtio_queue_saved){
            .desc = vq->desc,
            .avail = vq->avail,
            .used = vq->used,
            .size = vq->size,
            .ready = vq->ready,
            .next_avail = vq->next_avail,
            .next_used = vq->next_used,
            .signalled = vq->signalled,
        };
    }
    pthread_mutex_lock(&device->line);
    out->causes = device->causes;
    pthread_mutex_unlock(&device->line);
    emu_virtio_release(device);
}

void emu_virtio_load(emu_virtio *device, const emu_virtio_saved *saved)
{
    emu_virtio_hold(device);
    atomic_store(&device->running, false);
    device->features = saved->features & device->offered;
    device->accepted = saved->accepted;
    atomic_store(&device->status, saved->status);
    atomic_store(&device->generation, saved->generation);
    snprintf(device->fault, sizeof device->fault, "%s",
             saved->status & EMU_VIRTIO_NEEDS_RESET ? "it was broken when the snapshot was taken" : "");
    pthread_mutex_lock(&device->line);
    memcpy(device->config, saved->config, sizeof saved->config);
    device->causes = saved->causes;
    pthread_mutex_unlock(&device->line);
    for (uint32_t i = 0; i < device->nqueues; i++) {
        const emu_virtio_queue_saved *from = &saved->queue[i];
        emu_vq *vq = &device->queues[i];
        emu_vq_reset(vq);
        vq->desc = from->desc;
        vq->avail = from->avail;
        vq->used = from->used;
        vq->size = from->size;
        vq->ready = from->ready;
        vq->next_avail = (uint16_t)from->next_avail;
        vq->next_used = (uint16_t)from->next_used;
        vq->signalled = (uint16_t)from->signalled;
    }
    if ((saved->status & EMU_VIRTIO_DRIVER_OK) && !(saved->status & EMU_VIRTIO_NEEDS_RESET))
        start(device);
    emu_virtio_release(device);
}

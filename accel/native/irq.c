/*
 * Interrupt lines: a level and the controller input it ends at.
 *
 * Lock order: a line's lock is taken before its controller's.  It is recursive
 * because a controller may answer at once with a line of the same device.
 */
#include "core.h"
#include "tell.h"

#include <pthread.h>
#include <stdlib.h>

struct emu_irq {
    pthread_mutex_t lock;
    int level;
    emu_irq_fn fn;
    void *opaque;
    uint32_t number;
};

emu_tell_line_fn *emu_irq_tells;

emu_irq *emu_irq_new(void)
{
    emu_irq *irq = calloc(1, sizeof *irq);
    if (irq == NULL)
        return NULL;
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&irq->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    return irq;
}

void emu_irq_free(emu_irq *irq)
{
    if (irq == NULL)
        return;
    pthread_mutex_destroy(&irq->lock);
    free(irq);
}

void emu_irq_connect(emu_irq *irq, emu_irq_fn fn, void *opaque, uint32_t number)
{
    pthread_mutex_lock(&irq->lock);
    irq->fn = fn;
    irq->opaque = opaque;
    irq->number = number;
    pthread_mutex_unlock(&irq->lock);
}

void emu_irq_set(emu_irq *irq, int level)
{
    level = level != 0;
    pthread_mutex_lock(&irq->lock);
    if (irq->level != level) {
        irq->level = level;
        if (__builtin_expect(emu_irq_tells != NULL, 0))
            emu_irq_tells(irq, level);
        if (irq->fn != NULL)
            irq->fn(irq->opaque, irq->number, level);
    }
    pthread_mutex_unlock(&irq->lock);
}

void emu_irq_restore(emu_irq *irq, int level)
{
    pthread_mutex_lock(&irq->lock);
    irq->level = level != 0;
    pthread_mutex_unlock(&irq->lock);
}

int emu_irq_level(const emu_irq *irq_)
{
    emu_irq *irq = (emu_irq *)irq_;
    pthread_mutex_lock(&irq->lock);
    int level = irq->level;
    pthread_mutex_unlock(&irq->lock);
    return level;
}

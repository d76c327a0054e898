/*
 * Turns: on an engine whose guest atomics are not the host's, one thread at a
 * time runs guest code or serves its system call.  A call that may sleep is made
 * without the turn.
 *
 * The turn is handed over in the order of asking.  Nobody measures time while
 * nobody waits: it is the first in the queue who wakes up after a slice and kicks
 * the engine of the thread that has the turn.  A thread that comes back from a
 * call before it has used up its slice goes to the front, and waits only a moment
 * before it kicks: else each of its calls would cost it a slice of the others.
 */
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime.h"

enum { FREE, HELD, WANTED };     /* of turns->state */
enum { WAITING, GRANTED, FIRST }; /* of thread->turn.word; FIRST: has become the first in the queue */

#define SLICE 2000000u /* ns */
#define MOMENT 100000u

static uint64_t now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void sleep_on(_Atomic uint32_t *word, uint32_t value, uint64_t ns)
{
    struct timespec ts = {0, (long)ns};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, ns ? &ts : NULL, NULL, 0);
}

static void wake(emu_thread *thread, uint32_t value)
{
    atomic_store(&thread->turn.word, value);
    syscall(SYS_futex, &thread->turn.word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void enqueue(emu_turns *turns, emu_thread *thread, bool front)
{
    emu_thread **at = &turns->first;
    while (!front && *at != NULL)
        at = &(*at)->turn.next;
    thread->turn.next = *at;
    *at = thread;
}

static void take(emu_thread *thread, emu_turns *turns, bool front)
{
    uint32_t expected = FREE;
    if (atomic_compare_exchange_strong(&turns->state, &expected, HELD)) {
        atomic_store(&turns->holder, thread);
        return;
    }
    pthread_mutex_lock(&turns->lock);
    if (atomic_exchange(&turns->state, WANTED) == FREE) {
        /* Given up since: then nobody is in the queue, whom it would have been given to. */
        atomic_store(&turns->state, HELD);
        atomic_store(&turns->holder, thread);
        pthread_mutex_unlock(&turns->lock);
        return;
    }
    atomic_store(&thread->turn.word, WAITING);
    enqueue(turns, thread, front);
    for (;;) {
        bool first = turns->first == thread;
        uint64_t begin = first ? now() : 0, limit = front ? MOMENT : SLICE;
        uint32_t seen = atomic_load(&thread->turn.word);
        if (!first && seen == FIRST) /* another has been put before it */
            atomic_store(&thread->turn.word, seen = WAITING);
        pthread_mutex_unlock(&turns->lock);
        if (seen != GRANTED)
            sleep_on(&thread->turn.word, seen, first ? limit : 0);
        if (atomic_load(&thread->turn.word) == GRANTED)
            return;
        pthread_mutex_lock(&turns->lock);
        if (atomic_load(&thread->turn.word) == GRANTED)
            break;
        emu_thread *holder = atomic_load(&turns->holder);
        /* It cannot give the turn up, and so cannot end, while we have the lock. */
        if (first && holder != NULL && holder->engine != NULL && now() - begin >= limit)
            holder->ops->kick(holder->engine);
    }
    pthread_mutex_unlock(&turns->lock);
}

static void give(emu_turns *turns)
{
    uint32_t expected = HELD;
    atomic_store(&turns->holder, NULL);
    if (atomic_compare_exchange_strong(&turns->state, &expected, FREE))
        return;
    pthread_mutex_lock(&turns->lock);
    emu_thread *next = turns->first;
    turns->first = next->turn.next;
    atomic_store(&turns->holder, next);
    if (turns->first == NULL)
        atomic_store(&turns->state, HELD);
    emu_thread *then = turns->first;
    wake(next, GRANTED);
    if (then != NULL && atomic_load(&then->turn.word) == WAITING)
        wake(then, FIRST);
    pthread_mutex_unlock(&turns->lock);
}

void emu_turn_take(emu_thread *thread)
{
    emu_turns *turns = &thread->process->turns;
    if (!turns->on)
        return;
    take(thread, turns, thread->turn.used < SLICE);
    if (thread->turn.used >= SLICE)
        thread->turn.used = 0;
    thread->turn.since = now();
}

void emu_turn_give(emu_thread *thread)
{
    emu_turns *turns = &thread->process->turns;
    if (!turns->on)
        return;
    thread->turn.used += now() - thread->turn.since;
    give(turns);
}

bool emu_turn_yield(emu_thread *thread)
{
    emu_turns *turns = &thread->process->turns;
    if (!turns->on || atomic_load(&turns->state) != WANTED)
        return false;
    thread->turn.used = SLICE;
    give(turns);
    emu_turn_take(thread);
    return true;
}

void emu_turn_begin(emu_thread *thread)
{
    emu_turns *turns = &thread->process->turns;
    if (turns->on || thread->ops->parallel)
        return;
    pthread_mutex_init(&turns->lock, NULL);
    turns->first = NULL;
    turns->on = true;
    atomic_store(&turns->holder, thread);
    atomic_store(&turns->state, HELD);
    thread->turn.since = now();
}

void emu_turn_end(emu_process *process)
{
    process->turns.on = false;
    process->turns.first = NULL;
    atomic_store(&process->turns.state, FREE);
}

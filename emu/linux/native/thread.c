/*
 * Threads: one host thread and one engine to each guest thread, with the host's
 * tid.  Host signals, /proc/self/task and the scheduler's calls so are right by
 * themselves.
 *
 * A thread ends in one way: its loop (run.c) finds that it shall not go on, and
 * it leaves through thread_end here.  Whoever wants others to end sets their
 * `leaving`, or the process's `ended`, and nudges them: a host signal interrupts
 * what they wait for, a kick what they run.
 *
 * The host's leader stays, whatever the guest's main thread does: the process
 * ends with it, and execve from another thread moves over to it, so that gettid
 * is getpid again.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "syscall.h"

enum {
    STACK = 1 << 20, /* of a host thread: the translator's recursions and two paths; pages come as they are used */
    IDLE_MOST = 8,   /* engines kept that could be closed as well */
    ROBUST_LIMIT = 2048,
};

/* ---- nudges ---------------------------------------------------------------------------- */

/*
 * SIGBUS is never blocked on the host (signal.c).  Queued with this value it is
 * ours: a guest that forges it only nudges itself.
 */
static char mark, light_mark;

static void interrupt_of(pid_t pid, pid_t tid, void *value)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGBUS;
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = value;
    syscall(SYS_rt_tgsigqueueinfo, pid, tid, SIGBUS, &info);
}

static void interrupt(pid_t tid, void *value)
{
    interrupt_of(getpid(), tid, value);
}

/* A guest's process is a fork of the watcher's: what marks a nudge has the same address in both. */
void emu_thread_nudge(pid_t pid, pid_t tid)
{
    interrupt_of(pid, tid, &mark);
}

bool emu_thread_nudged(emu_thread *thread, int sig, const siginfo_t *info, void *context)
{
    if (sig != SIGBUS || info->si_code != SI_QUEUE)
        return false;
    if (thread != NULL && info->si_value.sival_ptr == &light_mark)
        thread->disturbed = 1;
    else if (thread != NULL && info->si_value.sival_ptr == &mark) {
        thread->pending = 1;
        emu_host_wait_leave(context);
        if (thread->engine != NULL)
            thread->ops->kick(thread->engine);
    }
    return info->si_value.sival_ptr == &mark || info->si_value.sival_ptr == &light_mark;
}

static void nudge_locked(emu_process *process, const emu_thread *except)
{
    for (emu_thread *thread = process->threads; thread != NULL; thread = thread->next) {
        if (thread == except)
            continue;
        thread->pending = 1;
        if (thread->engine != NULL)
            thread->ops->kick(thread->engine);
        interrupt(thread->tid, &mark);
    }
}

void emu_threads_nudge(emu_process *process, const emu_thread *except)
{
    pthread_mutex_lock(&process->lock);
    nudge_locked(process, except);
    pthread_cond_broadcast(&process->changed);
    pthread_mutex_unlock(&process->lock);
}

/* Under process->lock: waits for a change, and nudges again now and then. */
static void wait_for_others(emu_process *process, const emu_thread *except)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20 * 1000 * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    if (pthread_cond_timedwait(&process->changed, &process->lock, &until) == ETIMEDOUT)
        nudge_locked(process, except);
}

/* ---- engines ------------------------------------------------------------------------------ */

/* It may come when the thread has left the engine already: emu_wait then makes up for it. */
static void engine_interrupt(void *opaque, int32_t tid)
{
    interrupt(tid, &light_mark);
}

static emu_engine *engine_new(emu_thread *creator, char *text, size_t size)
{
    emu_process *process = creator->process;
    emu_engine *engine = NULL;
    pthread_mutex_lock(&process->lock);
    if (process->idle_count > 0) {
        engine = process->idle[--process->idle_count];
    } else if (creator->ops->another != NULL) {
        engine = creator->ops->another(creator->engine, text, size);
    } else {
        emu_user_memory memory = emu_process_memory(process, &process->umem);
        engine = creator->ops->open(process->abi->isa, &memory, text, size);
    }
    pthread_mutex_unlock(&process->lock);
    return engine;
}

/* Under process->lock. */
static void engine_done(emu_thread *thread)
{
    emu_process *process = thread->process;
    emu_engine *engine = thread->engine;
    thread->engine = NULL;
    if (thread->ops->another == NULL && process->idle_count >= IDLE_MOST) {
        thread->ops->close(engine);
        return;
    }
    if (process->idle_count == process->idle_room) {
        size_t room = process->idle_room == 0 ? 8 : process->idle_room * 2;
        emu_engine **idle = realloc(process->idle, room * sizeof *idle);
        if (idle == NULL) {
            thread->ops->close(engine);
            return;
        }
        process->idle = idle;
        process->idle_room = room;
    }
    process->idle[process->idle_count++] = engine;
}

void emu_threads_forget_idle(emu_process *process, const emu_engine_ops *ops)
{
    for (size_t i = 0; i < process->idle_count; i++)
        ops->close(process->idle[i]);
    process->idle_count = 0;
}

/*
 * Changes: to one engine where they share what they know, else to each.  The
 * list stands still: its changes are made with the turn, or with umem's lock.
 */
static void tell(emu_process *process, bool after, uint64_t addr, uint64_t size)
{
    if (process->threads == NULL)
        return;
    const emu_engine_ops *ops = process->threads->ops;
    void (*call)(emu_engine *, uint64_t, uint64_t) = after ? ops->after_change : ops->before_change;
    for (emu_thread *thread = process->threads; thread != NULL; thread = thread->next)
        if (thread->engine != NULL) {
            call(thread->engine, addr, size);
            if (ops->another != NULL)
                return;
        }
    for (size_t i = 0; i < process->idle_count; i++)
        call(process->idle[i], addr, size);
}

void emu_threads_before_change(void *process, uint64_t addr, uint64_t size)
{
    tell(process, false, addr, size);
}

void emu_threads_after_change(void *process, uint64_t addr, uint64_t size)
{
    tell(process, true, addr, size);
}

static void code(void *opaque, uint64_t addr, uint64_t size, int changed)
{
    emu_umem *umem = opaque;
    if (changed)
        emu_threads_before_change(umem->opaque, addr, size);
    emu_threads_after_change(umem->opaque, addr, size);
}

static int several(void *opaque)
{
    const emu_umem *umem = opaque;
    const emu_process *process = umem->opaque;
    return process->turns.on || umem->shared;
}

emu_user_memory emu_process_memory(emu_process *process, const emu_umem *umem)
{
    return (emu_user_memory){.base = umem->base,
                             .size = umem->size,
                             .rights = umem_rights,
                             .opaque = &process->umem,
                             .confined = process->root != NULL,
                             .hold = umem_hold,
                             .release = umem_release,
                             .several = several,
                             .code = code,
                             .interrupt = engine_interrupt};
}

/* ---- beginning -------------------------------------------------------------------------------- */

struct birth {
    emu_thread *thread;
    uint64_t unshare;
    int error;
    _Atomic uint32_t done;
};

static void *begin(void *opaque)
{
    struct birth *birth = opaque;
    emu_thread *thread = birth->thread;
    emu_process *process = thread->process;
    emu_signal_thread_begin(thread);
    emu_current = thread;
    thread->tid = (pid_t)syscall(SYS_gettid);
    birth->error = birth->unshare != 0 && unshare((int)birth->unshare) != 0 ? errno : 0;
    bool failed = birth->error != 0;
    atomic_store(&birth->done, 1);
    syscall(SYS_futex, &birth->done, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    if (failed)
        return NULL;
    /* Until all is in place: the creator has the lock. */
    pthread_mutex_lock(&process->lock);
    pthread_mutex_unlock(&process->lock);
    emu_thread_run(thread);
    return NULL;
}

static void copy_extended(emu_thread *from, emu_thread *to)
{
    enum { ROOM = 16384 };
    uint8_t *image = from->ops->xsave != NULL ? malloc(ROOM) : NULL;
    if (image == NULL)
        return;
    uint32_t size = from->ops->xsave(from->engine, image, ROOM);
    if (size != 0)
        to->ops->xrstor(to->engine, image, size);
    free(image);
}

static int host_thread(struct birth *birth)
{
    pthread_attr_t attr;
    pthread_t host;
    int error = pthread_attr_init(&attr);
    if (error != 0)
        return error;
    error = pthread_attr_setstacksize(&attr, STACK);
    if (error == 0)
        error = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (error == 0)
        error = pthread_create(&host, &attr, begin, birth);
    pthread_attr_destroy(&attr);
    if (error != 0)
        return error;
    while (atomic_load(&birth->done) == 0)
        syscall(SYS_futex, &birth->done, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    return birth->error;
}

int64_t emu_thread_new(emu_thread *creator, const emu_cpu_state *state, uint64_t flags, const uint64_t tid_at[2],
                       uint64_t clear_child_tid)
{
    emu_process *process = creator->process;
    emu_thread *thread = calloc(1, sizeof *thread);
    struct birth birth = {.thread = thread,
                          .unshare = (~flags & (CLONE_FS | CLONE_FILES)) |
                                     (flags & (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP))};
    char text[160] = "";
    if (thread == NULL)
        return -ENOMEM;
    thread->process = process;
    thread->ops = creator->ops;
    thread->clear_child_tid = clear_child_tid;
    bool first = !process->turns.on && !process->umem.shared;
    emu_turn_begin(creator);
    process->umem.shared = creator->ops->parallel != 0;
    if (first) /* what it knows of pages it knows of a single thread */
        creator->ops->after_change(creator->engine, 0, process->umem.size);
    int error = emu_signal_thread(thread, creator);
    if (error == 0) {
        thread->engine = engine_new(creator, text, sizeof text);
        error = thread->engine == NULL ? -EAGAIN : 0;
    }
    if (error != 0) {
        emu_signal_thread_free(thread);
        free(thread);
        return error;
    }
    thread->ops->load(thread->engine, state);
    copy_extended(creator, thread);

    emu_signal_fork_begin(creator);
    umem_lock(&process->umem);
    pthread_mutex_lock(&process->lock);
    error = creator->leaving || process->ended ? EAGAIN : host_thread(&birth);
    if (first)
        emu_signal_threaded(process);
    int32_t tid = (int32_t)thread->tid;
    if (error == 0) {
        thread->next = process->threads;
        process->threads = thread;
        for (unsigned i = 0; i < 2; i++)
            if (tid_at[i] != 0)
                (void)umem_write(&process->umem, tid_at[i], &tid, sizeof tid);
    } else {
        engine_done(thread);
        emu_signal_thread_free(thread);
        free(thread);
    }
    pthread_mutex_unlock(&process->lock);
    umem_unlock(&process->umem);
    emu_signal_fork_end(creator);
    return error != 0 ? -error : tid;
}

/* ---- ending ----------------------------------------------------------------------------------------- */

/* A lock that its owner leaves behind: as the kernel's handle_futex_death.  False: stop here. */
static bool robust_death(emu_thread *thread, uint64_t addr, bool pi, bool pending)
{
    emu_umem *umem = &thread->process->umem;
    uint32_t value, found;
    if ((addr & 3) != 0 || umem_read(umem, &value, addr, sizeof value) != 0)
        return false;
    if (pending && !pi && value == 0) {
        syscall(SYS_futex, umem_pointer(umem, addr), FUTEX_WAKE, 1, NULL, NULL, 0);
        return true;
    }
    do {
        if ((value & FUTEX_TID_MASK) != (uint32_t)thread->tid)
            return true;
        found = value;
        int result = umem_exchange(umem, addr, &found, (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED);
        if (result < 0)
            return false;
        if (result == 0)
            break;
        value = found;
    } while (true);
    if (!pi && (value & FUTEX_WAITERS) != 0)
        syscall(SYS_futex, umem_pointer(umem, addr), FUTEX_WAKE, 1, NULL, NULL, 0);
    return true;
}

/* struct robust_list_head: the first entry, the futex's offset from an entry, the entry that is being taken. */
static void robust_walk(emu_thread *thread)
{
    emu_umem *umem = &thread->process->umem;
    unsigned word = thread->process->abi->word;
    uint64_t head = thread->robust_list, entry, offset, pending, next = 0;
    if (head == 0 || umem_word(umem, head, word, &entry) != 0 || umem_word(umem, head + word, word, &offset) != 0 ||
        umem_word(umem, head + 2 * word, word, &pending) != 0)
        return;
    if (word == 4)
        offset = (uint64_t)(int64_t)(int32_t)offset;
    bool pi = entry & 1, pending_pi = pending & 1, next_pi = false;
    entry &= ~UINT64_C(1);
    pending &= ~UINT64_C(1);
    for (unsigned limit = ROBUST_LIMIT; entry != head && limit > 0; limit--) {
        /* First: the dead lock's memory may go as soon as it is free. */
        bool more = umem_word(umem, entry, word, &next) == 0;
        next_pi = next & 1;
        next &= ~UINT64_C(1);
        if (entry != pending && !robust_death(thread, entry + offset, pi, false))
            return;
        if (!more)
            return;
        entry = next;
        pi = next_pi;
    }
    if (pending != 0)
        (void)robust_death(thread, pending + offset, pending_pi, true);
}

void emu_thread_release(emu_thread *thread)
{
    emu_umem *umem = &thread->process->umem;
    robust_walk(thread);
    thread->robust_list = 0;
    if (thread->clear_child_tid != 0) {
        const int32_t none = 0;
        if (umem_write(umem, thread->clear_child_tid, &none, sizeof none) == 0)
            syscall(SYS_futex, umem_pointer(umem, thread->clear_child_tid), FUTEX_WAKE, 1, NULL, NULL, 0);
    }
    thread->clear_child_tid = 0;
}

void emu_thread_exit(emu_thread *thread, int code)
{
    emu_process *process = thread->process;
    pthread_mutex_lock(&process->lock);
    if (thread == process->main)
        process->main_status = code;
    bool last = process->threads->next == NULL && process->alone == NULL;
    thread->leaving = 1;
    pthread_mutex_unlock(&process->lock);
    if (last)
        emu_process_exit(process, thread == process->main ? code : process->main_status);
}

/* With the turn.  The struct is the caller's. */
static void thread_end(emu_thread *thread)
{
    emu_process *process = thread->process;
    emu_umem *umem = &process->umem;
    bool ended;
    emu_signal_thread_end(thread, true);
    emu_thread_release(thread);
    umem_lock(umem);
    pthread_mutex_lock(&process->lock);
    emu_thread **at = &process->threads;
    while (*at != thread)
        at = &(*at)->next;
    *at = thread->next;
    ended = process->threads == NULL && process->alone == NULL && !process->ended;
    engine_done(thread);
    pthread_mutex_unlock(&process->lock);
    umem_unlock(umem);
    emu_turn_give(thread);
    /* Two that left at the same time each saw the other. */
    if (ended)
        emu_process_exit(process, process->main_status);
    pthread_mutex_lock(&process->lock);
    pthread_cond_broadcast(&process->changed);
    pthread_mutex_unlock(&process->lock);
}

int emu_thread_alone(emu_thread *thread)
{
    emu_process *process = thread->process;
    pthread_mutex_lock(&process->lock);
    if (thread->leaving || process->ended || process->alone != NULL) {
        pthread_mutex_unlock(&process->lock);
        thread->pending = 1;
        return -EINTR;
    }
    if (process->threads->next != NULL || thread != process->main) {
        process->alone = thread; /* on the leader only until it is */
        for (emu_thread *other = process->threads; other != NULL; other = other->next)
            other->leaving = other != thread;
        nudge_locked(process, thread);
        pthread_mutex_unlock(&process->lock);
        emu_turn_give(thread);
        pthread_mutex_lock(&process->lock);
        while (process->threads != thread || thread->next != NULL)
            wait_for_others(process, thread);
        if (thread == process->main)
            process->alone = NULL;
    }
    emu_turn_end(process);
    process->umem.shared = false;
    pthread_mutex_unlock(&process->lock);
    return 0;
}

/* ---- the host threads --------------------------------------------------------------------------- */

/* The leader, whose guest thread has ended: the thread that goes on here, or NULL at the process's end. */
static emu_thread *await(emu_process *process)
{
    emu_thread *heir = NULL;
    unsigned patience = 100; /* the host's kernel ends what does not come */
    emu_signal_park();
    pthread_mutex_lock(&process->lock);
    while (heir == NULL && !(process->ended && (process->threads == NULL || patience == 0))) {
        if (process->heir != NULL) {
            heir = process->heir;
            process->heir = NULL;
        } else if (process->ended) {
            wait_for_others(process, NULL);
            patience--;
        } else {
            pthread_cond_wait(&process->changed, &process->lock);
        }
    }
    pthread_mutex_unlock(&process->lock);
    return heir;
}

/* After execve on another host thread: the leader takes over. */
static void bequeath(emu_thread *thread)
{
    emu_process *process = thread->process;
    emu_signal_thread_end(thread, false);
    pthread_mutex_lock(&process->lock);
    process->alone = NULL;
    process->heir = thread;
    pthread_cond_broadcast(&process->changed);
    pthread_mutex_unlock(&process->lock);
}

static void inherit(emu_thread *thread)
{
    emu_process *process = thread->process;
    emu_thread *before = process->main;
    process->main = thread;
    emu_signal_thread_free(before);
    free(before);
    thread->tid = (pid_t)syscall(SYS_gettid);
    prctl(PR_SET_NAME, process->comm);
    emu_current = thread;
    emu_signal_thread_begin(thread);
}

void emu_thread_run(emu_thread *thread)
{
    emu_process *process = thread->process;
    for (;;) {
        emu_signal_thread_open(thread);
        emu_turn_take(thread);
        emu_thread_loop(thread);
        if (process->alone == thread && !process->ended) {
            bequeath(thread);
            return;
        }
        bool leader = thread == process->main; /* it may have become so by fork */
        thread_end(thread);
        if (!leader) {
            emu_current = NULL;
            emu_signal_thread_free(thread);
            free(thread);
            return;
        }
        thread = await(process);
        if (thread == NULL && process->forked)
            emu_process_die(process->status);
        if (thread == NULL)
            return;
        inherit(thread);
    }
}

/* ---- fork -------------------------------------------------------------------------------------------- */

void emu_thread_fork_begin(emu_thread *thread)
{
    emu_process *process = thread->process;
    umem_lock(&process->umem);
    pthread_mutex_lock(&process->lock);
    emu_signal_lock(process);
}

void emu_thread_fork_end(emu_thread *thread, bool child)
{
    emu_process *process = thread->process;
    emu_signal_unlock(process);
    if (!child) {
        pthread_mutex_unlock(&process->lock);
        umem_unlock(&process->umem);
        return;
    }
    /* The others' engines stay as they are, untouched copies. */
    pthread_mutex_init(&process->lock, NULL);
    pthread_cond_init(&process->changed, NULL);
    pthread_rwlock_init(&process->umem.lock, NULL);
    process->umem.shared = false;
    emu_turn_end(process);
    process->threads = process->main = thread;
    process->alone = process->heir = NULL;
    thread->next = NULL;
    if (thread->ops->another != NULL)
        process->idle_count = 0;
}

/*
 * A watch, on both sides.  A slot's life:
 *
 *     FREE -> TAKEN -> ASKED -> (ORDERED -> DONE)* -> GO -> FREE
 *
 * The thread waits while it is ASKED or DONE, the watcher while it is ORDERED.
 * Waiting is by futex, with time limits, since the other side may be killed.
 */
#include "watch.h"

#include <dirent.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "syscall.h"

enum slot_state { FREE, TAKEN, ASKED, ORDERED, DONE, GO };

_Static_assert(sizeof(emu_cpu_state) <= EMU_WATCH_DATA, "EMU_WATCH_DATA holds the registers");
_Static_assert(sizeof(siginfo_t) == 128, "emu_watch_slot.info holds a siginfo_t");

static uint32_t look(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void wake(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static void set(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    wake(word);
}

/* Sleeps while *word is `value`, no longer than so; false after a signal or the time. */
static bool sleep_while(uint32_t *word, uint32_t value, int milliseconds)
{
    const struct timespec limit = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    return syscall(SYS_futex, word, FUTEX_WAIT, value, &limit, NULL, 0) == 0 || errno == EAGAIN;
}

/* False where a process has ended, reaped or not. */
static bool alive(int32_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return errno != ESRCH;
    struct pollfd ended = {.fd = fd, .events = POLLIN};
    bool running = poll(&ended, 1, 0) == 0;
    close(fd);
    return running;
}

uint32_t emu_watch_row(uint64_t nr)
{
    enum { ARM_PRIVATE = 0xf0000, PRIVATE = 16, UNKNOWN = EMU_WATCH_ROWS - PRIVATE - 1 };
    if (nr - ARM_PRIVATE < PRIVATE)
        return (uint32_t)(EMU_WATCH_ROWS - PRIVATE + nr - ARM_PRIVATE);
    return nr < UNKNOWN ? (uint32_t)nr : UNKNOWN;
}

/* ---- the guest's side -------------------------------------------------------------------- */

/* This process's id as /proc names it: the watcher's view, also from inside another pid namespace. */
static int32_t own_pid(void)
{
    static int32_t known, here;
    int32_t pid = getpid();
    if (__atomic_load_n(&here, __ATOMIC_ACQUIRE) != pid) {
        char text[24] = "";
        ssize_t size = readlink("/proc/self", text, sizeof text - 1);
        __atomic_store_n(&known, size > 0 ? atoi(text) : pid, __ATOMIC_RELEASE);
        __atomic_store_n(&here, pid, __ATOMIC_RELEASE);
    }
    return __atomic_load_n(&known, __ATOMIC_ACQUIRE);
}

/* NULL: nobody watches any more. */
static emu_watch_slot *take(emu_watch *watch, emu_thread *thread, uint32_t kind)
{
    while (!look(&watch->closed)) {
        for (unsigned i = 0; i < EMU_WATCH_SLOTS; i++) {
            emu_watch_slot *slot = &watch->slots[(i + (unsigned)thread->tid) % EMU_WATCH_SLOTS];
            uint32_t expected = FREE;
            if (!__atomic_compare_exchange_n(&slot->state, &expected, TAKEN, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
                continue;
            slot->kind = kind;
            slot->pid = own_pid();
            slot->tid = thread->tid;
            slot->isa = thread->process->abi->isa;
            slot->skip = 0;
            slot->step = 0;
            slot->changed = 0;
            slot->start = slot->until = 0;
            return slot;
        }
        const struct timespec while_others = {0, 200000};
        nanosleep(&while_others, NULL);
    }
    return NULL;
}

static int carry_out(emu_thread *thread, emu_watch_slot *slot)
{
    emu_umem *umem = &thread->process->umem;
    emu_cpu_state state;
    siginfo_t info;
    size_t size = slot->size <= EMU_WATCH_DATA ? (size_t)slot->size : EMU_WATCH_DATA;
    switch (slot->order) {
    case EMU_ORDER_READ:
        return umem_read(umem, slot->data, slot->addr, size);
    case EMU_ORDER_WRITE:
        return umem_write(umem, slot->addr, slot->data, size);
    case EMU_ORDER_STRING:
        return (int)umem_string(umem, slot->addr, (char *)slot->data, size);
    case EMU_ORDER_SAVE:
        thread->ops->save(thread->engine, &state);
        memcpy(slot->data, &state, sizeof state);
        return 0;
    case EMU_ORDER_LOAD:
        memcpy(&state, slot->data, sizeof state);
        thread->ops->load(thread->engine, &state);
        return 0;
    case EMU_ORDER_POKE:
        return emu_debug_poke(thread->process, slot->addr, slot->data, size);
    case EMU_ORDER_AUXV:
        size = thread->process->auxv_words * thread->process->abi->word;
        if (size > EMU_WATCH_DATA)
            return -EINVAL;
        for (size_t i = 0; i < thread->process->auxv_words; i++)
            memcpy(slot->data + i * thread->process->abi->word, &thread->process->auxv[i], thread->process->abi->word);
        return (int)size;
    case EMU_ORDER_PROGRAM:
        size = strnlen(thread->process->exe_guest, EMU_WATCH_DATA);
        memcpy(slot->data, thread->process->exe_guest, size);
        return (int)size;
    case EMU_ORDER_SIGINFO:
        memcpy(&info, slot->info, sizeof info);
        siginfo_to_guest(thread->process->abi, &info, slot->data);
        return 0;
    case EMU_ORDER_XSAVE:
        return thread->ops->xsave == NULL ? 0 : (int)thread->ops->xsave(thread->engine, slot->data, EMU_WATCH_DATA);
    case EMU_ORDER_XRSTOR:
        if (thread->ops->xrstor == NULL)
            return -EINVAL;
        thread->ops->xrstor(thread->engine, slot->data, (uint32_t)size);
        return 0;
    default:
        return -EINVAL;
    }
}

static void wait_for_go(emu_watch *watch, emu_thread *thread, emu_watch_slot *slot)
{
    enum { LOOK_AROUND = 1000 };
    for (;;) {
        uint32_t state = look(&slot->state);
        if (state == GO)
            return;
        if (state == ORDERED) {
            slot->status = carry_out(thread, slot);
            set(&slot->state, DONE);
        } else if (look(&watch->closed)) {
            return;
        } else if (!sleep_while(&slot->state, state, LOOK_AROUND) && errno == ETIMEDOUT && !alive(watch->watcher)) {
            set(&watch->closed, 1);
        }
    }
}

/* Tells what the slot says, does what the watcher wants, and returns when the thread may go on. */
static void ask(emu_watch *watch, emu_thread *thread, emu_watch_slot *slot)
{
    bool debug = watch->debug != 0;
    /* A debugger has all threads stand before it looks at one: the others need the turn to get there. */
    bool stands = debug && (slot->kind == EMU_WATCH_STOP || slot->kind == EMU_WATCH_SIGNAL);
    if (stands)
        thread->ops->save(thread->engine, &slot->cpu);
    if (debug)
        emu_turn_give(thread);
    slot->ticket = __atomic_add_fetch(&watch->tickets, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->state, ASKED, __ATOMIC_RELEASE); /* the watcher sleeps on `events` */
    __atomic_add_fetch(&watch->events, 1, __ATOMIC_ACQ_REL);
    wake(&watch->events);
    wait_for_go(watch, thread, slot);
    if (debug)
        emu_turn_take(thread);
    if (stands && slot->changed)
        thread->ops->load(thread->engine, &slot->cpu);
}

static void leave(emu_watch_slot *slot)
{
    __atomic_store_n(&slot->state, FREE, __ATOMIC_RELEASE);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int64_t counted(emu_thread *thread, const emu_stop *stop, emu_watch_count *counter,
                       int64_t (*answer)(emu_thread *, const emu_stop *))
{
    pid_t tid = thread->tid;
    uint64_t start = now();
    /* Not afterwards: not every call comes back. */
    __atomic_add_fetch(&counter->calls, 1, __ATOMIC_RELAXED);
    int64_t result = answer(thread, stop);
    if (thread->tid != tid) /* fork comes back twice */
        return result;
    __atomic_add_fetch(&counter->ns, now() - start, __ATOMIC_RELAXED);
    if (result < 0 && result >= -4095 && result != EMU_KEEP_REGISTERS)
        __atomic_add_fetch(&counter->errors, 1, __ATOMIC_RELAXED);
    return result;
}

int64_t emu_watch_syscall(emu_thread *thread, emu_stop *stop, int64_t (*answer)(emu_thread *, const emu_stop *))
{
    emu_watch *watch = thread->process->watch;
    uint32_t isa = thread->process->abi->isa; /* execve may change it */
    uint32_t row = emu_watch_row(stop->nr);
    emu_watch_slot *slot;
    if (look(&watch->closed) > 1) {
        emu_process_killed(thread->process, SIGKILL, false);
        return EMU_KEEP_REGISTERS;
    }
    uint8_t wanted = look(&watch->closed) ? 0 : watch->wanted[isa][row];
    bool skip = false;
    int64_t result = 0;
    if (wanted & EMU_WANT_CALL && (slot = take(watch, thread, EMU_WATCH_CALL)) != NULL) {
        slot->nr = stop->nr;
        memcpy(slot->args, stop->args, sizeof slot->args);
        ask(watch, thread, slot);
        memcpy(stop->args, slot->args, sizeof slot->args);
        skip = slot->skip != 0;
        result = slot->result;
        leave(slot);
        if (look(&watch->closed) > 1) {
            emu_process_killed(thread->process, SIGKILL, false);
            return EMU_KEEP_REGISTERS;
        }
    }
    if (!skip)
        result = watch->counting ? counted(thread, stop, &watch->counts[isa][row], answer) : answer(thread, stop);
    if (wanted & EMU_WANT_RESULT && (slot = take(watch, thread, EMU_WATCH_RESULT)) != NULL) {
        slot->nr = stop->nr;
        slot->isa = isa;
        memcpy(slot->args, stop->args, sizeof slot->args);
        slot->result = result;
        ask(watch, thread, slot);
        result = slot->result;
        leave(slot);
    }
    return result;
}

bool emu_watch_signal(emu_thread *thread, const siginfo_t *info)
{
    emu_watch *watch = thread->process->watch;
    if (watch == NULL || !(watch->tell & EMU_TELL_SIGNALS))
        return false;
    emu_watch_slot *slot = take(watch, thread, EMU_WATCH_SIGNAL);
    if (slot == NULL)
        return false;
    memcpy(slot->info, info, sizeof slot->info);
    ask(watch, thread, slot);
    bool lost = slot->skip != 0;
    if (watch->debug) { /* a signal that is taken leads to its handler's first instruction, without a step */
        emu_debug_may_step(thread, slot->step != 0 && lost, slot->start, slot->until);
        thread->stopped = slot->step != 0 && !lost ? EMU_STOPPED_STEP : 0;
    }
    leave(slot);
    return lost;
}

bool emu_debug_stops(emu_thread *thread)
{
    emu_watch *watch = thread->process->watch;
    if (watch == NULL || !watch->debug)
        return false;
    if (look(&watch->closed)) { /* another debugger may come, who is told nothing of now */
        thread->stopped = 0;
        thread->stepping = false;
        return false;
    }
    if ((thread->stopped == 0 && (thread->stepping || !look(&watch->hold))) || emu_debug_steps_on(thread))
        return false;
    emu_watch_slot *slot = take(watch, thread, EMU_WATCH_STOP);
    if (slot == NULL)
        return false;
    slot->nr = thread->stopped != 0 ? thread->stopped : EMU_STOPPED_HELD;
    thread->stopped = 0;
    ask(watch, thread, slot);
    emu_debug_may_step(thread, slot->step != 0, slot->start, slot->until);
    leave(slot);
    return true;
}

static void tell(emu_thread *thread, uint32_t kind, int64_t result)
{
    emu_watch *watch = thread->process->watch;
    if (watch == NULL || !(watch->tell & EMU_TELL_ENDS))
        return;
    emu_watch_slot *slot = take(watch, thread, kind);
    if (slot == NULL)
        return;
    slot->result = result;
    ask(watch, thread, slot);
    leave(slot);
}

void emu_watch_end(emu_thread *thread, int status)
{
    emu_watch *watch = thread->process->watch;
    if (watch != NULL && watch->counting && thread->engine != NULL && thread->ops->counts != NULL) {
        uint64_t counts[2];
        thread->ops->counts(thread->engine, counts);
        for (int i = 0; i < 2; i++)
            __atomic_add_fetch(&watch->engine[i], counts[i], __ATOMIC_RELAXED);
    }
    tell(thread, EMU_WATCH_END, status);
}

void emu_watch_native(emu_thread *thread)
{
    tell(thread, EMU_WATCH_NATIVE, 0);
}

bool emu_watch_catches(const emu_process *process)
{
    return process != NULL && process->watch != NULL && process->watch->tell & EMU_TELL_SIGNALS;
}

/* ---- the watcher's side ------------------------------------------------------------------- */

emu_watch *emu_watch_new(void)
{
    emu_watch *watch = mmap(NULL, sizeof *watch, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (watch == MAP_FAILED)
        return NULL;
    watch->watcher = getpid();
    return watch;
}

void emu_watch_free(emu_watch *watch)
{
    munmap(watch, sizeof *watch);
}

void emu_process_watch(emu_process *process, emu_watch *watch)
{
    process->watch = watch;
}

static int eldest(emu_watch *watch)
{
    int found = -1;
    for (int i = 0; i < EMU_WATCH_SLOTS; i++)
        if (look(&watch->slots[i].state) == ASKED &&
            (found < 0 || watch->slots[i].ticket < watch->slots[found].ticket))
            found = i;
    return found;
}

/* Frees what killed threads have left. */
static void reclaim(emu_watch *watch)
{
    for (int i = 0; i < EMU_WATCH_SLOTS; i++) {
        emu_watch_slot *slot = &watch->slots[i];
        uint32_t state = look(&slot->state);
        if ((state == GO || state == ASKED) && !alive(slot->pid))
            __atomic_compare_exchange_n(&slot->state, &state, FREE, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
}

int emu_watch_next(emu_watch *watch, int milliseconds)
{
    enum { OFTEN = 256 };
    uint32_t events = look(&watch->events);
    int slot = eldest(watch);
    if (slot < 0) {
        if (events % OFTEN == 0)
            reclaim(watch);
        if (!sleep_while(&watch->events, events, milliseconds) && errno == ETIMEDOUT)
            reclaim(watch);
        slot = eldest(watch);
    }
    return slot;
}

int emu_watch_order(emu_watch *watch, int index, uint32_t order, uint64_t addr, uint64_t size)
{
    enum { LOOK_AROUND = 50 };
    emu_watch_slot *slot = &watch->slots[index];
    slot->order = order;
    slot->addr = addr;
    slot->size = size;
    set(&slot->state, ORDERED);
    while (look(&slot->state) != DONE)
        if (!sleep_while(&slot->state, ORDERED, LOOK_AROUND) && errno == ETIMEDOUT && !alive(slot->pid)) {
            set(&slot->state, DONE);
            return -ESRCH;
        }
    return slot->status;
}

void emu_watch_keep(emu_watch *watch, int index)
{
    /* Without waking it: what it sleeps for comes later. */
    __atomic_store_n(&watch->slots[index].state, DONE, __ATOMIC_RELEASE);
}

void emu_watch_nudge(int pid)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    const struct dirent *entry;
    while (tasks != NULL && (entry = readdir(tasks)) != NULL)
        if (atoi(entry->d_name) > 0)
            emu_thread_nudge(pid, atoi(entry->d_name));
    if (tasks != NULL)
        closedir(tasks);
}

void emu_watch_go(emu_watch *watch, int index)
{
    set(&watch->slots[index].state, GO);
}

void emu_watch_close(emu_watch *watch, int kill)
{
    set(&watch->closed, kill ? 2 : 1);
    for (int i = 0; i < EMU_WATCH_SLOTS; i++)
        wake(&watch->slots[i].state);
}

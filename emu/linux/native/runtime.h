/*
 * Linux user mode, inside: what the runtime's files share.
 *
 * A process is one guest address space and its threads; a thread is one engine
 * and one host thread.  The run loop (run.c) is short: the engine runs until it
 * stops, a system call is answered, a fault becomes a signal, and pending
 * signals are delivered, always between instructions, with the whole guest
 * state in the engine.
 *
 *     umem.c     the guest's address space: areas, rights, copies that fault safely
 *     mman.c     mmap, munmap, mprotect, mremap, brk, madvise ...
 *     path.c     guest paths to host files: the sysroot, the root
 *     own.c      /proc and /dev as the guest sees them; own_text.c: what files of /proc say
 *     kin.c      the other processes of the guest
 *     load.c     ELF images, stack and auxiliary vector
 *     exec.c     execve, scripts, the program's start
 *     process.c  clone, fork, vfork, exit, thread pointers
 *     thread.c   threads: their host threads, their ends, and what is done to all of them
 *     turn.c     whose turn it is, on engines that run one thread at a time
 *     run.c      the loop
 *     core.c     what is left of a process that a signal has killed
 *     watch.c    who looks at all this from outside
 *     trace.c    what runs, told without being asked
 *     syscall.c, signal.c and others: emu_syscall and emu_signal_*
 *
 * Locks, in the order in which they may be taken: the turn (turn.c), the process's
 * `lock`, umem's, an engine's own, the signal actions' and those of single files.
 * With the turn a thread is alone in the runtime, but for others inside a host
 * call that sleeps; on parallel engines the locks are what keeps order.
 *
 * Errors inside are negative errno values of the host, which on x86-64 are
 * those of every guest ISA here.
 */
#ifndef EMU_RUNTIME_H
#define EMU_RUNTIME_H

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine.h"
#include "process.h"

#define EMU_PAGE UINT64_C(4096)

typedef struct emu_thread emu_thread;

/* ---- ISA --------------------------------------------------------------------- */

typedef struct emu_abi {
    uint32_t isa;         /* enum emu_isa */
    uint16_t elf_machine; /* e_machine */
    uint8_t elf_class;    /* 1: 32-bit, 2: 64-bit */
    uint8_t word;         /* bytes of a pointer and of a long */
    uint8_t sp;           /* index of the stack pointer in emu_cpu_state.r */
    uint8_t result;       /* index of the system call's result */
    uint8_t bits;         /* addresses are below 1 << bits */
    uint8_t call;         /* bytes of the system call instruction (Thumb: 2) */
    const char *name;     /* "aarch64" */
    const char *machine;  /* uname -m */
    const char *platform; /* AT_PLATFORM; NULL: none */
} emu_abi;

/* NULL when nobody runs that machine. */
const emu_abi *emu_abi_of_machine(uint16_t elf_machine, uint8_t elf_class);
const emu_abi *emu_abi_of_isa(uint32_t isa);

/* ---- the guest's memory --------------------------------------------------------- */

/* A mapping.  prot is PROT_*, flags MAP_SHARED or MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN. */
typedef struct emu_area {
    uint64_t start;
    uint64_t end;
    uint32_t prot;
    uint32_t flags;
    uint64_t offset; /* in the file */
    uint64_t dev;
    uint64_t ino;
    char *path;      /* guest's name of the file, "[heap]", "[stack]", or NULL; owned */
} emu_area;

/*
 * Guest address a is at host address base + a.  The whole range is reserved on
 * the host, without rights; guest pages carry the guest's own R and W there
 * (never X), so that the host's kernel answers EFAULT for a bad pointer by
 * itself.  Beyond `size` lies a guard that is never mapped.
 */
typedef struct emu_umem {
    uint8_t *base;
    bool low; /* base 0 was asked for (and may not have been had) */
    uint64_t size;     /* of the guest's address space, and so a bound for addresses */
    uint64_t reserved; /* bytes reserved at base, guard included */
    emu_area *areas; /* sorted, without overlaps, like neighbours merged; room at both ends */
    size_t count;
    size_t front; /* unused slots before them */
    size_t room;  /* slots in all */
    size_t last;  /* the area found last */
    uint64_t search_top; /* from there up to mmap_top nothing is free of search_size bytes; 0: nobody knows */
    uint64_t search_size;
    int64_t spare; /* so many areas may come before the host's mappings are counted again */
    uint64_t brk_start;
    uint64_t brk_end;
    uint64_t brk_limit;   /* brk may not reach this */
    uint64_t top;         /* mappings must end at or below this */
    uint64_t mmap_top;    /* mappings without an address are placed below this */
    uint64_t most[2];     /* RLIMIT_AS and RLIMIT_DATA that the guest has set; UINT64_MAX: none */
    /* Told of every change; the process forwards it to its engines. */
    void (*before)(void *opaque, uint64_t addr, uint64_t size);
    void (*after)(void *opaque, uint64_t addr, uint64_t size);
    /* Of new mappings too, and afterwards; NULL: nobody cares. */
    void (*mapped)(void *opaque, uint64_t addr, uint64_t size);
    void *opaque;
    /*
     * Several threads run on a parallel engine: whoever changes the above has
     * `lock` for writing, from the first look to the last change (umem_lock), and
     * engines have it for reading while they ask for rights.
     */
    bool shared;
    pthread_rwlock_t lock;
} emu_umem;

/* Around a change, or a look at areas that shall last; nothing where one thread at a time is here anyway. */
static inline void umem_lock(emu_umem *umem)
{
    if (umem->shared)
        pthread_rwlock_wrlock(&umem->lock);
}
static inline void umem_unlock(emu_umem *umem)
{
    if (umem->shared)
        pthread_rwlock_unlock(&umem->lock);
}

/* 0, or -errno.  low: base is 0 where those host addresses are free. */
int umem_init(emu_umem *umem, unsigned bits, bool low);
void umem_free(emu_umem *umem);
/* Unmaps everything; an address space for the next program. */
void umem_clear(emu_umem *umem);

/* The area that holds addr, else NULL.  Good until the next change. */
const emu_area *umem_find(emu_umem *umem, uint64_t addr);
/* enum emu_rights at addr, for engines, with the two calls around it. */
uint32_t umem_rights(void *umem, uint64_t addr);
void umem_hold(void *umem);
void umem_release(void *umem);

/*
 * Copies to and from the guest.  0 or -EFAULT, and never a crash, whatever addr
 * and size are.  On -EFAULT a part may have been copied.
 */
int umem_read(emu_umem *umem, void *to, uint64_t addr, size_t size);
int umem_write(emu_umem *umem, uint64_t addr, const void *from, size_t size);
int umem_zero(emu_umem *umem, uint64_t addr, size_t size);
/* Replaces *old by `value` in one step; *old is what was there.  0, 1 (something else was there) or -EFAULT. */
int umem_exchange(emu_umem *umem, uint64_t addr, uint32_t *old, uint32_t value);
/* The string's length; -EFAULT; -ENAMETOOLONG where no NUL is within `room`. */
int64_t umem_string(emu_umem *umem, uint64_t addr, char *out, size_t room);
/* A word of the ABI's size (4 or 8 bytes), zero-extended. */
int umem_word(emu_umem *umem, uint64_t addr, unsigned width, uint64_t *value);

/*
 * A guest pointer for the host's kernel.  0 stays NULL; an address outside the
 * guest becomes one that the kernel refuses with EFAULT.  Only for the kernel:
 * the runtime itself never dereferences it.
 */
static inline void *umem_pointer(const emu_umem *umem, uint64_t addr)
{
    if (addr == 0)
        return NULL;
    return addr < umem->size ? (void *)(umem->base + addr) : (void *)UINTPTR_MAX;
}
/* The same where 0 is an address like others (it faults too, where nothing is mapped there). */
static inline void *umem_address(const emu_umem *umem, uint64_t addr)
{
    return addr < umem->size ? (void *)(umem->base + addr) : (void *)UINTPTR_MAX;
}
/* True when addr .. addr + size - 1 are guest addresses (mapped or not). */
static inline bool umem_range(const emu_umem *umem, uint64_t addr, uint64_t size)
{
    return addr <= umem->size && size <= umem->size - addr;
}

/* Text of /proc/self/maps, with guest addresses.  malloc'ed; NULL without memory. */
char *umem_maps(emu_umem *umem, size_t *length);
/*
 * For mappings that the caller makes itself at umem->base + addr (shmat):
 * umem_place finds a free range (0: none); umem_enter records what is there now.
 */
uint64_t umem_place(emu_umem *umem, uint64_t size, uint64_t align);
int umem_enter(emu_umem *umem, uint64_t addr, uint64_t size, uint32_t prot, uint32_t flags, const char *name);
/*
 * What mmap and its family do, as the system calls of those names.  `fd` is -1
 * for anonymous memory; name is for /proc/self/maps (NULL: the file's own).
 * Addresses or 0, or -errno.
 */
int64_t umem_map(emu_umem *umem, uint64_t addr, uint64_t size, int prot, int flags, int fd, uint64_t offset,
                 const char *name);
int64_t umem_unmap(emu_umem *umem, uint64_t addr, uint64_t size);
int64_t umem_protect(emu_umem *umem, uint64_t addr, uint64_t size, int prot);
int64_t umem_remap(emu_umem *umem, uint64_t addr, uint64_t old_size, uint64_t new_size, int flags,
                   uint64_t new_addr);
int64_t umem_brk(emu_umem *umem, uint64_t addr);
/*
 * A stack (MAP_GROWSDOWN) grows down to addr, where it lies next above it and is
 * at most `limit` bytes long then.  False where not.
 */
bool umem_grow(emu_umem *umem, uint64_t addr, uint64_t limit);
/* True when anything is mapped in [addr, end). */
bool umem_occupied(const emu_umem *umem, uint64_t addr, uint64_t end);
/* True when something of the range may be executed. */
bool umem_executable(emu_umem *umem, uint64_t addr, uint64_t size);
/* True when every page of the range is mapped. */
bool umem_mapped(emu_umem *umem, uint64_t addr, uint64_t size);

/*
 * Runs first in the host's handler of SIGSEGV and SIGBUS: true when the fault was
 * one that the copies above expect, and execution goes on at their fix-up.
 */
bool umem_fixup(int sig, siginfo_t *info, void *context);

/* ---- process and thread ------------------------------------------------------------ */

struct emu_thread {
    emu_process *process;
    emu_thread *next; /* of process->threads */
    const emu_engine_ops *ops;
    emu_engine *engine;
    pid_t tid;
    uint64_t clear_child_tid; /* guest address; 0: none */
    uint64_t robust_list;     /* the same */
    volatile sig_atomic_t disturbed; /* a signal came that concerned the engine alone */
    volatile sig_atomic_t leaving; /* ends before it runs guest code again */
    uint32_t stopped; /* debug.c: what it has to tell a debugger, enum emu_stopped; 0: nothing */
    bool stepping;    /* one instruction, for a debugger */
    uint64_t range[2]; /* ... and more of them while the pc is in [0], [1]) */
    pid_t traced;     /* trace.c: its engine tells as this thread; 0: as none */
    const emu_engine *traced_engine;
    bool tells_steps; /* instructions are told here, since its engine does not tell */
    volatile sig_atomic_t sampled; /* so many samples are to be taken when it stops */
    bool ticks;                    /* it has a timer of samples, */
    int timer;                     /* this one of the host's */
    /*
     * Something is to be looked at before the guest goes on: set by host signal
     * handlers (followed by ops->kick) and by emu_signal_*, cleared by
     * emu_signal_deliver.  Blocking system calls must not begin while it is set.
     */
    volatile sig_atomic_t pending;
    emu_stop stop;                     /* the latest */
    struct emu_thread_signals *signals; /* signal.c's own */
    struct {
        emu_thread *next; /* in the queue */
        _Atomic uint32_t word;
        uint64_t since, used; /* ns */
    } turn; /* turn.c's own */
};

typedef struct emu_turns {
    bool on; /* there has been more than one thread */
    _Atomic uint32_t state;
    _Atomic(emu_thread *) holder;
    emu_thread *first; /* the queue, under `lock` */
    pthread_mutex_t lock;
} emu_turns;

struct emu_process {
    const emu_abi *abi;
    const emu_engine_ops *engines[4]; /* in order of preference; NULL ends them early */
    emu_umem umem;
    /*
     * The thread of the host's leader.  It outlives its guest thread while others
     * run: it has no engine then.
     */
    emu_thread *main;
    pthread_mutex_t lock;   /* of the next lines */
    pthread_cond_t changed; /* of them */
    emu_thread *threads;    /* all that have not ended */
    emu_thread *alone;      /* ends all others, for execve */
    emu_thread *heir;       /* goes on, after execve, on the leader */
    emu_engine **idle;      /* of threads that have ended, for the next ones */
    size_t idle_count, idle_room;
    int main_status;        /* of the main thread, where it ended before others */
    emu_turns turns;
    char *sysroot; /* host path without a trailing slash and symlinks; NULL: none */
    struct emu_root *root; /* path.c's own; NULL: the guest is not confined to a directory */
    bool inside;           /* confined, and the working directory is settled */
    bool mem_files;        /* a descriptor of /proc/self/mem may be open */
    char *exe;       /* host path of the program, absolute, symlinks resolved */
    char *exe_guest; /* the same as the guest names it: what /proc/self/exe shows */
    uint64_t exe_dev, exe_ino;
    char comm[16];
    /* Where the kernel would show them: argument and environment strings, auxv. */
    uint64_t arg_start, arg_end, env_start, env_end;
    uint64_t stack_start;
    uint64_t auxv[2 * 32]; /* pairs, the AT_NULL pair included */
    size_t auxv_words;
    /*
     * Guest address of the signal trampolines, as the kernel's vdso has them:
     * aarch64, riscv64: rt_sigreturn at +0.  arm: +0 rt_sigreturn and +8 sigreturn
     * in A32, +16 and +20 the same in T32.  0: none (x86-64 brings SA_RESTORER).
     */
    uint64_t sigreturn;
    bool exec_stack;
    /* How it ends: a wait status as wait4 gives it; valid when `ended`. */
    bool ended;
    int status;
    const emu_thread *dumper; /* writes the core: how it ends is settled */
    bool forked; /* a child of the process that the caller started: never returns to the caller */
    struct emu_process_signals *signals; /* signal.c's own: actions */
    struct emu_vfork *vfork;             /* the parent waits for us to exec or exit */
    struct emu_watch *watch; /* who looks at system calls and signals (watch.c); NULL: nobody */
    emu_trace *trace;        /* where what runs is told (trace.c); NULL: nowhere */
    pid_t traced;            /* as this process */
    /* Close-on-exec descriptors that were open before the guest: the host program's own. */
    int *host_fds;
    size_t host_fd_count;
};

/* ---- telling what runs (trace.c) ------------------------------------------------------------ */

/* In the thread's loop: has its engine tell, where that is not so yet. */
void emu_trace_attach(emu_thread *thread);
static inline void emu_trace_follow(emu_thread *thread)
{
    if (thread->traced != thread->tid || thread->traced_engine != thread->engine)
        emu_trace_attach(thread);
}
/* For umem's mapped. */
void emu_trace_mapped(void *process, uint64_t addr, uint64_t size);
/* Another program has been loaded; a thread has ended. */
void emu_trace_executed(emu_thread *thread);
/* In the host's handler of SIGBUS: true where it was the timer of samples. */
bool emu_trace_ticked(emu_thread *thread, const siginfo_t *info, void *context);
/* One instruction, which is told; as emu_engine_ops.step. */
int emu_trace_step(emu_thread *thread, emu_stop *stop);
/* The thread has stopped, and samples are to be taken. */
void emu_trace_sample(emu_thread *thread);
void emu_trace_ended(emu_thread *thread, int status);

/* Lets a parent that waits in vfork go on; memory is shared with it until then. */
void emu_vfork_release(emu_process *process);

/* ---- threads (thread.c) ------------------------------------------------------------------- */

/* CLONE_ flags with which a host thread leaves what it shares with the others. */
enum { EMU_THREAD_SHARED = 0x600 /* CLONE_FS | CLONE_FILES */ };

/*
 * A thread that goes on as the caller with `state`.  It shares of `flags` what
 * clone(2) says.  tid_at: guest addresses where its tid is written before it
 * runs, 0 for none.  Its tid, or -errno.
 */
int64_t emu_thread_new(emu_thread *thread, const emu_cpu_state *state, uint64_t flags, const uint64_t tid_at[2],
                       uint64_t clear_child_tid);
/* exit(2): the thread ends; the process too, with `code`, if it was the last. */
void emu_thread_exit(emu_thread *thread, int code);
/* What others wait for on a thread's end: robust mutexes, clear_child_tid. */
void emu_thread_release(emu_thread *thread);
/* execve: ends all other threads.  -EINTR: somebody else was first, and ends this one. */
int emu_thread_alone(emu_thread *thread);
/* Makes every other thread look at where it stands: leave its host call, its guest code. */
void emu_threads_nudge(emu_process *process, const emu_thread *except);
/* In the handler of a host signal: true for such a nudge, whose work is then done.  thread may be NULL. */
bool emu_thread_nudged(emu_thread *thread, int sig, const siginfo_t *info, void *context);
/* Around fork: the process's locks; in the child only `thread` goes on. */
void emu_thread_fork_begin(emu_thread *thread);
void emu_thread_fork_end(emu_thread *thread, bool child);
/* Runs `thread` and, on the host's leader, whatever becomes of the process; until that ends. */
void emu_thread_run(emu_thread *thread);
/* Its guest code and system calls, until it shall not go on.  (run.c) */
void emu_thread_loop(emu_thread *thread);
/* The calls of engines about changes, to all of the process. */
void emu_threads_before_change(void *process, uint64_t addr, uint64_t size);
void emu_threads_after_change(void *process, uint64_t addr, uint64_t size);
/* What engines are given. */
emu_user_memory emu_process_memory(emu_process *process, const emu_umem *umem);
/* Closes the engines that no thread has. */
void emu_threads_forget_idle(emu_process *process, const emu_engine_ops *ops);

/* Turns (turn.c): where they are off, on parallel engines or with one thread, these do nothing. */
void emu_turn_take(emu_thread *thread);
void emu_turn_give(emu_thread *thread);
/* Gives others a turn if some wait for one; true if so. */
bool emu_turn_yield(emu_thread *thread);
/* The thread, now alone, has the turn from now on; and: there is one thread again. */
void emu_turn_begin(emu_thread *thread);
void emu_turn_end(emu_process *process);

/* The thread that runs on this host thread; NULL elsewhere.  For signal handlers. */
extern _Thread_local emu_thread *emu_current;

/* One of host_fds or the engine's: a guest must not meet it. */
bool emu_process_owns_fd(const emu_process *process, int fd);
/* The engine's: a guest must not even take its number. */
enum { EMU_ENGINE_FDS = 1040 }; /* at most */
size_t emu_process_engine_fds(const emu_process *process, int fds[EMU_ENGINE_FDS]);
bool emu_process_engine_fd(const emu_process *process, int fd);
/* Closes what execve closes: all with FD_CLOEXEC but host_fds and the engine's. */
void emu_process_close_on_exec(const emu_process *process);

/* Shows the program's name, arguments and environment to who looks at /proc/<pid> from outside.  (exec.c) */
void emu_process_show(const emu_process *process);

/* Ends the process: the run loop leaves, by exit(code) or by dying of `sig`, with a core where core.c has said so. */
void emu_process_exit(emu_process *process, int code);
void emu_process_killed(emu_process *process, int sig, bool core);

/* ---- system calls -------------------------------------------------------------------- */

/* Arguments as the guest's registers hold them (32-bit guests: zero-extended). */
typedef int64_t (*emu_syscall_fn)(emu_thread *thread, const uint64_t *args);

/*
 * The results besides values and -errno.  RESTART*: the kernel's own ERESTART
 * codes, for a call that a signal interrupted; nothing has been written to the
 * guest's registers, and emu_signal_deliver decides between EINTR and restart.
 */
enum emu_syscall_result {
    EMU_RESTARTSYS = -512,        /* again if no handler ran or it has SA_RESTART, else EINTR */
    EMU_RESTARTNOINTR = -513,     /* again in any case */
    EMU_RESTARTNOHAND = -514,     /* again if no handler ran, else EINTR */
    EMU_RESTART_BLOCK = -516,     /* as RESTARTNOHAND (time left is the caller's matter) */
    EMU_KEEP_REGISTERS = -600,    /* registers are already as they shall be (sigreturn, execve) */
};

/* Answers stop->nr for the thread's ABI.  Result as above.  (syscall.c) */
int64_t emu_syscall(emu_thread *thread, emu_stop *stop);

/*
 * Makes the guest execute the system call that `stop` describes again: moves pc
 * back onto the instruction.  The result register has not been written yet.
 */
void emu_syscall_again(emu_thread *thread, const emu_stop *stop);

/*
 * For a watch (watch.c): a call that is watched, by emu_syscall, which tells how it is answered; before a
 * signal is delivered; where a thread ends, with a wait status; before the host's own execve.
 */
int64_t emu_watch_syscall(emu_thread *thread, emu_stop *stop, int64_t (*answer)(emu_thread *, const emu_stop *));
bool emu_watch_signal(emu_thread *thread, const siginfo_t *info); /* true: the signal is lost */
void emu_watch_end(emu_thread *thread, int status);
void emu_watch_native(emu_thread *thread);
/*
 * For a debugger (debug.c, watch.c).  Between instructions: stops where that is wanted; true: it has, and what the
 * loop knows may have changed.  One instruction, where thread->stepping is set: 0, or as run().  At a breakpoint
 * instruction: true if it is the debugger's.  In the child of a fork, and behind an execve.
 */
bool emu_debug_stops(emu_thread *thread);
void emu_debug_may_step(emu_thread *thread, bool step, uint64_t from, uint64_t until);
bool emu_debug_steps_on(emu_thread *thread); /* behind a step: it was one of several, and the next one comes */
int emu_debug_step(emu_thread *thread, emu_stop *stop);
bool emu_debug_breakpoint(emu_thread *thread, const emu_stop *stop);
void emu_debug_forked(emu_thread *thread);
void emu_debug_executed(emu_thread *thread);
/* Guest memory, whatever the guest may do there; 0 or -errno. */
int emu_debug_poke(emu_process *process, uint64_t addr, const void *from, size_t size);
/* Has a thread of the process, which may be another, look around: at `pending`, wherever it waits. */
void emu_thread_nudge(pid_t pid, pid_t tid);
/* Signals that end the process by default shall come by emu_watch_signal first. */
bool emu_watch_catches(const emu_process *process);

/* Memory (mman.c).  args as the 64-bit ABIs have them: mmap's offset is in bytes. */
int64_t emu_sys_brk(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_mmap(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_mmap2(emu_thread *thread, const uint64_t *args); /* offset in 4096-byte units */
int64_t emu_sys_munmap(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_mprotect(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_mremap(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_madvise(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_msync(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_mincore(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_mlock(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_mlock2(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_munlock(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_mlockall(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_munlockall(emu_thread *thread, const uint64_t *args);

/* Processes (process.c, exec.c). */
int64_t emu_sys_execve(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_execveat(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_clone(emu_thread *thread, const uint64_t *args); /* each ABI's own argument order */
int64_t emu_sys_clone3(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_fork(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_vfork(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_exit(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_exit_group(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_set_tid_address(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_gettid(emu_thread *thread, const uint64_t *args);
int64_t emu_sys_arch_prctl(emu_thread *thread, const uint64_t *args);         /* x86-64 */
int64_t emu_sys_arm_set_tls(emu_thread *thread, const uint64_t *args);        /* arm 0xf0005 */
int64_t emu_sys_arm_get_tls(emu_thread *thread, const uint64_t *args);        /* arm 0xf0006 */
int64_t emu_sys_arm_cacheflush(emu_thread *thread, const uint64_t *args);     /* arm 0xf0002 */
int64_t emu_sys_riscv_flush_icache(emu_thread *thread, const uint64_t *args); /* riscv 259 */

/* ---- signals (signal.c) ------------------------------------------------------------------ */

/* At the process's start; 0 or -errno.  Installs the host's handlers. */
int emu_signal_start(emu_process *process);
/* AT_MINSIGSTKSZ; 0: none. */
uint64_t emu_signal_smallest(emu_thread *thread);
/* A successful execve: handlers become default, the alternative stack goes, the mask stays. */
void emu_signal_exec(emu_thread *thread);
/* Before the host's own execve of a native program: the host's signal mask and actions become the guest's. */
void emu_signal_native(emu_thread *thread);
/* A new thread's signals, from its creator's; 0 or -ENOMEM.  On its own host thread: begin; at its end: end. */
int emu_signal_thread(emu_thread *thread, const emu_thread *creator);
void emu_signal_thread_begin(emu_thread *thread);
void emu_signal_thread_open(emu_thread *thread); /* lets its signals in */
/* hand_over: what it has taken for the process goes back to it, for another thread. */
void emu_signal_thread_end(emu_thread *thread, bool hand_over);
void emu_signal_thread_free(emu_thread *thread);
/* The host thread takes no signal at all any more; it runs none of the runtime's copies either. */
void emu_signal_park(void);
/* The actions' lock, for fork. */
void emu_signal_lock(emu_process *process);
void emu_signal_unlock(emu_process *process);
/* After the first pthread_create, which takes signals for the C library. */
void emu_signal_threaded(emu_process *process);
/* In the child of a fork, first thing: pending signals are the parent's. */
void emu_signal_forked(emu_thread *thread);
void emu_signal_free(emu_process *process);
/* Around fork: no guest signal may be taken in between (blocks and restores the host's). */
void emu_signal_fork_begin(emu_thread *thread);
void emu_signal_fork_end(emu_thread *thread);

/* A signal that the instruction at pc caused: SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE; delivered next. */
void emu_signal_fault(emu_thread *thread, int sig, int code, uint64_t addr);

/*
 * Called whenever thread->pending is set, or a call gave one of the RESTART
 * codes; between instructions.  interrupted: that call, else NULL, with its
 * result.  Writes that call's result (or calls emu_syscall_again), sets up the
 * handler's frame through ops->save and ops->load, or ends or stops the process.
 */
void emu_signal_deliver(emu_thread *thread, const emu_stop *interrupted, int64_t result);

/*
 * The host handler's continuation: a signal that umem_fixup did not claim.  For
 * SIGSEGV and SIGBUS the run loop's handler (run.c) calls it; for the others
 * signal.c installs its own.
 */
void emu_signal_host(int sig, siginfo_t *info, void *context);

/* RLIMIT_STACK as far as it is honoured. */
uint64_t emu_stack_size(const emu_abi *abi);

/* ---- program start (exec.c, load.c) -------------------------------------------------------------- */

/*
 * Replaces the process's image; path is the guest's name of the file, argv and
 * envp are NULL-terminated host copies.  0; -errno while the old image still
 * stands; a failure after that ends the process as the kernel does (SIGKILL).
 * text (may be NULL) gets one line for people.
 */
int emu_exec(emu_thread *thread, const char *path, char *const *argv, char *const *envp, char *text, size_t size);

#endif

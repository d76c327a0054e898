/*
 * System calls, inside: the dispatch table's rows, and what the files that
 * convert or implement calls (sys_*.c) share.
 *
 * A row of the table (written by emu/native/tables.py) says how the guest's
 * registers become arguments.  A function gets them in the order of
 * isa/syscalls/signatures.tbl: ints sign-extended, a 64-bit number that a
 * 32-bit guest passes in two registers joined, pointers as guest addresses.
 */
#ifndef EMU_SYSCALL_H
#define EMU_SYSCALL_H

#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "runtime.h"

enum emu_argument_kind {
    EMU_ARG_INT = 1, /* signed 32 bits */
    EMU_ARG_FD,      /* the same, a descriptor */
    EMU_ARG_UINT,    /* unsigned 32 bits */
    EMU_ARG_LONG,    /* signed, a register wide */
    EMU_ARG_ULONG,   /* unsigned, a register wide */
    EMU_ARG_PAIR,    /* 64 bits in two registers */
    EMU_ARG_ID16,    /* uid_t or gid_t of 16 bits, 0xffff means -1 */
    EMU_ARG_IN,      /* pointers: to what the kernel reads */
    EMU_ARG_OUT,     /* ... writes */
    EMU_ARG_INOUT,
    EMU_ARG_POINTER, /* ... of a size that the guard behind the guest's memory takes care of */
    EMU_ARG_PATH,
    EMU_ARG_LINK,    /* a path whose last component is not followed */
    EMU_ARG_NAME,    /* a path whose last component need not exist */
};

/* Structures of 32-bit guests that are copied into the host's layout and back. */
enum emu_argument_copy {
    EMU_COPY_NONE = 0,
    EMU_COPY_TIMESPEC,
    EMU_COPY_TIMEVAL,
    EMU_COPY_ITIMERSPEC,
    EMU_COPY_ITIMERVAL,
    EMU_COPY_LONG,
    EMU_COPY_MQ_ATTR,
    EMU_COPY_RUSAGE,
    EMU_COPY_SYSINFO,
    EMU_COPY_TMS,
    EMU_COPY_GID16,
    EMU_COPY_UID16,
    EMU_COPY_TIMESPEC64, /* the upper half of tv_nsec is padding */
    EMU_COPY_ITIMERSPEC64,
};

typedef struct emu_argument {
    uint8_t kind;
    uint8_t first;  /* register */
    uint8_t count;  /* argument that holds the number of elements; | 0x80: points at it; 0xff: there is one */
    uint8_t copy;
    uint16_t size;  /* of an element, in bytes of the guest */
} emu_argument;

enum emu_call_flag {
    EMU_CALL_WAITS = 1,  /* may sleep until a signal comes */
    EMU_CALL_PATH = 2,   /* takes a path */
    EMU_CALL_COPIES = 4, /* a structure is copied */
    EMU_CALL_ID16 = 8,   /* the result is an id of 16 bits */
    EMU_CALL_LOOKS = 16, /* changes nothing of what its path names */
};

typedef struct emu_call {
    uint16_t function; /* its number in the table of functions; 0: no such call, 1: none */
    int16_t host;     /* number of the host's call, where there is no function */
    uint16_t refuse;  /* errno; 0: not refused */
    uint8_t arguments;
    uint8_t flags;
    emu_argument argument[6];
} emu_call;

/* The row of a number; NULL when the ABI has no such call. */
const emu_call *emu_call_find(uint32_t isa, uint64_t nr);

/* ---- the host's calls --------------------------------------------------------------- */

/*
 * Makes a system call unless *pending is set; -EMU_RESTARTSYS if it is, or if a
 * host signal that is to be delivered to the guest arrives before the kernel has
 * taken the call, or if the kernel would have begun it again.  Else the kernel's
 * result, -errno included.
 */
long emu_host_wait(const volatile sig_atomic_t *pending, long nr, long a, long b, long c, long d, long e, long f);
/* For the handler of host signals: leads an interrupted emu_host_wait to its early exit. */
void emu_host_wait_leave(void *context);

/* A call that does not sleep: the kernel's result. */
long emu_host(long nr, long a, long b, long c, long d, long e, long f);

/* emu_host_wait for a thread, without its turn. */
long emu_wait(emu_thread *thread, long nr, long a, long b, long c, long d, long e, long f);

/* A call that may sleep. */
#define WAIT6(thread, nr, a, b, c, d, e, f)                                                                \
    emu_wait((thread), (nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define WAIT5(thread, nr, a, b, c, d, e) WAIT6(thread, nr, a, b, c, d, e, 0)
#define WAIT4(thread, nr, a, b, c, d) WAIT6(thread, nr, a, b, c, d, 0, 0)
#define WAIT3(thread, nr, a, b, c) WAIT6(thread, nr, a, b, c, 0, 0, 0)
#define HOST6(nr, a, b, c, d, e, f)                                                                        \
    emu_host((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define HOST5(nr, a, b, c, d, e) HOST6(nr, a, b, c, d, e, 0)
#define HOST4(nr, a, b, c, d) HOST6(nr, a, b, c, d, 0, 0)
#define HOST3(nr, a, b, c) HOST6(nr, a, b, c, 0, 0, 0)
#define HOST2(nr, a, b) HOST6(nr, a, b, 0, 0, 0, 0)

/* ---- the guest's memory ---------------------------------------------------------------- */

static inline emu_umem *umem_of(emu_thread *thread)
{
    return &thread->process->umem;
}
static inline bool is_32(const emu_thread *thread)
{
    return thread->process->abi->word == 4;
}
/* A guest pointer for the kernel. */
static inline void *pointer(emu_thread *thread, uint64_t addr)
{
    return umem_pointer(&thread->process->umem, addr);
}
/* True unless addr .. addr + size leaves the guest's address space. */
static inline bool inside(emu_thread *thread, uint64_t addr, uint64_t size)
{
    return umem_range(&thread->process->umem, addr, size);
}
/* 0 or -EFAULT. */
static inline int get(emu_thread *thread, void *to, uint64_t addr, size_t size)
{
    return umem_read(&thread->process->umem, to, addr, size);
}
static inline int put(emu_thread *thread, uint64_t addr, const void *from, size_t size)
{
    return umem_write(&thread->process->umem, addr, from, size);
}
static inline int put_u32(emu_thread *thread, uint64_t addr, uint32_t value)
{
    return put(thread, addr, &value, sizeof value);
}
/* A word of the guest's size. */
static inline int put_word(emu_thread *thread, uint64_t addr, uint64_t value)
{
    return put(thread, addr, &value, thread->process->abi->word);
}

/* Where the kernel writes what the guest can execute, engines do not see it: asked before the call, told after it. */
static inline bool umem_code(emu_umem *umem, uint64_t addr, uint64_t size)
{
    if (umem->before == NULL)
        return false;
    umem_hold(umem);
    bool code = umem_executable(umem, addr, size);
    umem_release(umem);
    return code;
}
static inline void umem_code_changed(emu_umem *umem, uint64_t addr, uint64_t size)
{
    umem_lock(umem);
    umem->before(umem->opaque, addr, size);
    umem->after(umem->opaque, addr, size);
    umem_unlock(umem);
}

/* A timespec: `wide` of two 64-bit words (of a 32-bit guest's tv_nsec the low half counts), else of longs.  0 or -EFAULT. */
int get_timespec(emu_thread *thread, uint64_t addr, struct timespec *ts, bool wide);
int put_timespec(emu_thread *thread, uint64_t addr, const struct timespec *ts, bool wide);

/*
 * The iovecs at addr for the kernel, in `small` where they fit there, else
 * malloc'ed: release with iovecs_free.  0; -EINVAL for more than IOV_MAX or a
 * negative length; -EFAULT; -ENOMEM.
 */
enum { SMALL_IOVECS = 16 };
int iovecs_get(emu_thread *thread, uint64_t addr, uint64_t count, struct iovec small[SMALL_IOVECS],
               struct iovec **out);
void iovecs_free(struct iovec *iovecs, struct iovec *small);
/* The kernel has written there. */
void iovecs_written(emu_thread *thread, const struct iovec *iovecs, uint64_t count);

/* ---- what the signal part offers to calls that sleep ---------------------------------------- */

/*
 * Calls with a signal mask of their own (ppoll, sigsuspend ...): reads the
 * guest's mask at addr (0: none, *host is NULL) for the host's call and notes it
 * for the handler that may run.  After the call, signal_mask_end with its result.
 */
int signal_mask_begin(emu_thread *thread, uint64_t addr, uint64_t size, uint64_t *space, uint64_t **host);
void signal_mask_end(emu_thread *thread, int64_t result);

/* siginfo_t in the guest's layout, 128 bytes. */
void siginfo_to_guest(const emu_abi *abi, const siginfo_t *info, uint8_t out[128]);
void siginfo_from_guest(const emu_abi *abi, const uint8_t in[128], siginfo_t *info);
/* Mask of what may never be blocked on the host: its faults serve the runtime. */
uint64_t signal_host_mask(uint64_t guest);

/* The process of a pidfd; 0 where it is none. */
pid_t pidfd_process(int fd);

/* The limits that the host's kernel does not know of: before a native program runs; in the text of /proc. */
void limits_native(void);
void limits_text(FILE *out, FILE *host);

/* What execve ends: POSIX timers are deleted; shared memory has gone with the old image. */
void timers_forget(void);
void attachments_forget(void);

#endif

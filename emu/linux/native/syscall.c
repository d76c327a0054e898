/*
 * System calls: from the guest's registers to the host's kernel or to a function,
 * by the table that emu/native/tables.py writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>

#include "address.h"
#include "own.h"
#include "syscall.h"
#include "syscall_calls.h"

/* ---- the table --------------------------------------------------------------------------- */

enum { ARM_PRIVATE = 0xf0000 };
#define ROWS(table) ((table)), sizeof(table) / sizeof(*(table))

static const struct {
    const emu_call *calls;
    size_t count;
} tables[] = {
    [EMU_ISA_AARCH64] = {ROWS(aarch64_calls)},
    [EMU_ISA_ARM] = {ROWS(arm_calls)},
    [EMU_ISA_RISCV64] = {ROWS(riscv64_calls)},
    [EMU_ISA_X86_64] = {ROWS(x86_64_calls)},
};

const emu_call *emu_call_find(uint32_t isa, uint64_t nr)
{
    const emu_call *row = NULL;
    if (isa >= sizeof tables / sizeof *tables)
        return NULL;
    if (nr < tables[isa].count)
        row = &tables[isa].calls[nr];
    else if (isa == EMU_ISA_ARM && nr - ARM_PRIVATE < sizeof arm_private_calls / sizeof *arm_private_calls)
        row = &arm_private_calls[nr - ARM_PRIVATE];
    return row && row->function != CALL_NONE ? row : NULL;
}

/* ---- the host's calls ---------------------------------------------------------------------- */

#if defined(__x86_64__)
/*
 * The test of *pending and the system-call instruction lie between two labels.
 * A handler that finds the program counter there moves it to the third: either
 * the call has not begun, or the kernel has backed off to begin it again.
 * emu_host's lies elsewhere: what does not sleep is not left undone.
 */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl emu_host_wait\n"
        ".hidden emu_host_wait\n"
        ".type emu_host_wait, @function\n"
        "emu_host_wait:\n"
        ".cfi_startproc\n"
        "    mov %rdi, %r11\n"
        "    mov %rsi, %rax\n"
        "    mov %rdx, %rdi\n"
        "    mov %rcx, %rsi\n"
        "    mov %r8, %rdx\n"
        "    mov %r9, %r10\n"
        "    mov 8(%rsp), %r8\n"
        "    mov 16(%rsp), %r9\n"
        "emu_host_wait_start:\n"
        "    cmpl $0, (%r11)\n"
        "    jne emu_host_wait_early\n"
        "    syscall\n"
        "emu_host_wait_end:\n"
        "    ret\n"
        "emu_host_wait_early:\n"
        "    mov $-512, %rax\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size emu_host_wait, . - emu_host_wait\n");
#define PROGRAM_COUNTER(uc) ((uc)->uc_mcontext.gregs[REG_RIP])

long emu_host(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "+a"(nr)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return nr;
}
#elif defined(__aarch64__)
__asm__(".text\n"
        ".p2align 4\n"
        ".globl emu_host_wait\n"
        ".hidden emu_host_wait\n"
        ".type emu_host_wait, @function\n"
        "emu_host_wait:\n"
        ".cfi_startproc\n"
        "    mov x9, x0\n"
        "    mov x8, x1\n"
        "    mov x0, x2\n"
        "    mov x1, x3\n"
        "    mov x2, x4\n"
        "    mov x3, x5\n"
        "    mov x4, x6\n"
        "    mov x5, x7\n"
        "emu_host_wait_start:\n"
        "    ldr w10, [x9]\n"
        "    cbnz w10, emu_host_wait_early\n"
        "    svc #0\n"
        "emu_host_wait_end:\n"
        "    ret\n"
        "emu_host_wait_early:\n"
        "    mov x0, #-512\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size emu_host_wait, . - emu_host_wait\n");
#define PROGRAM_COUNTER(uc) ((uc)->uc_mcontext.pc)

long emu_host(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
                  x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
#error "user mode runs on x86-64 and AArch64 hosts"
#endif

#include <ucontext.h>

extern const char emu_host_wait_start[] __attribute__((visibility("hidden")));
extern const char emu_host_wait_end[] __attribute__((visibility("hidden")));
extern const char emu_host_wait_early[] __attribute__((visibility("hidden")));

void emu_host_wait_leave(void *context)
{
    ucontext_t *uc = context;
    uintptr_t pc = (uintptr_t)PROGRAM_COUNTER(uc);
    if (pc >= (uintptr_t)emu_host_wait_start && pc < (uintptr_t)emu_host_wait_end)
        PROGRAM_COUNTER(uc) = (uintptr_t)emu_host_wait_early;
}

long emu_wait(emu_thread *thread, long nr, long a, long b, long c, long d, long e, long f)
{
    long result;
    emu_turn_give(thread);
    do {
        thread->disturbed = 0;
        result = emu_host_wait(&thread->pending, nr, a, b, c, d, e, f);
        /* Not of the guest's concern: a call that the kernel does not begin again by itself begins again here. */
    } while (result == -EINTR && thread->disturbed && !thread->pending);
    emu_turn_take(thread);
    return result;
}

/* ---- structures of 32-bit guests -------------------------------------------------------------- */

enum { COPY_ROOM = 160 }; /* the largest structure of the host below, twice a timeval included */

static void widen(int64_t *to, const void *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int32_t word;
        memcpy(&word, (const uint8_t *)from + 4 * i, 4);
        to[i] = word;
    }
}

static void narrow(void *to, const void *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        memcpy((uint8_t *)to + 4 * i, (const uint8_t *)from + 8 * i, 4);
}

/* `size` is the guest's, arrays included; so structures of longs need only their length. */
static void copy_in(unsigned copy, void *host, const void *guest, size_t size)
{
    switch (copy) {
    case EMU_COPY_GID16:
    case EMU_COPY_UID16: {
        uint16_t id;
        memcpy(&id, guest, 2);
        *(uint32_t *)host = id == 0xffff ? UINT32_MAX : id;
        return;
    }
    case EMU_COPY_TIMESPEC64:
    case EMU_COPY_ITIMERSPEC64:
        memcpy(host, guest, size);
        for (size_t i = 1; i < size / 8; i += 2)
            ((uint64_t *)host)[i] &= UINT32_MAX;
        return;
    default:
        widen(host, guest, size / 4);
        return;
    }
}

static void sysinfo_to_32(uint8_t *to, const struct sysinfo *info)
{
    /* The kernel scales the unit until the amounts fit into 32 bits. */
    unsigned shift = 0;
    uint32_t words[16] = {0};
    uint64_t unit = info->mem_unit ? info->mem_unit : 1;
    if ((info->totalram | info->totalswap) >> 32)
        while (unit < 4096) {
            unit <<= 1;
            shift++;
        }
    words[0] = (uint32_t)info->uptime;
    for (unsigned i = 0; i < 3; i++)
        words[1 + i] = (uint32_t)info->loads[i];
    words[4] = (uint32_t)(info->totalram >> shift);
    words[5] = (uint32_t)(info->freeram >> shift);
    words[6] = (uint32_t)(info->sharedram >> shift);
    words[7] = (uint32_t)(info->bufferram >> shift);
    words[8] = (uint32_t)(info->totalswap >> shift);
    words[9] = (uint32_t)(info->freeswap >> shift);
    words[10] = info->procs;
    words[11] = (uint32_t)(info->totalhigh >> shift);
    words[12] = (uint32_t)(info->freehigh >> shift);
    words[13] = (uint32_t)unit;
    memcpy(to, words, sizeof words);
}

static void copy_out(unsigned copy, void *guest, const void *host, size_t size)
{
    switch (copy) {
    case EMU_COPY_GID16:
    case EMU_COPY_UID16: {
        uint32_t id = *(const uint32_t *)host;
        uint16_t small = id > 0xffff ? 65534 : (uint16_t)id;
        memcpy(guest, &small, 2);
        return;
    }
    case EMU_COPY_SYSINFO:
        sysinfo_to_32(guest, host);
        return;
    case EMU_COPY_TIMESPEC64:
    case EMU_COPY_ITIMERSPEC64:
        memcpy(guest, host, size);
        return;
    default:
        narrow(guest, host, size / 4);
        return;
    }
}

static size_t copy_host_size(unsigned copy, size_t size)
{
    switch (copy) {
    case EMU_COPY_GID16:
    case EMU_COPY_UID16:
        return sizeof(uint32_t);
    case EMU_COPY_SYSINFO:
        return sizeof(struct sysinfo);
    case EMU_COPY_TIMESPEC64:
    case EMU_COPY_ITIMERSPEC64:
        return size;
    default:
        return 2 * size;
    }
}

_Static_assert(sizeof(struct rusage) <= COPY_ROOM && sizeof(struct sysinfo) <= COPY_ROOM, "COPY_ROOM is too small");

/* ---- passing a call to the host ------------------------------------------------------------------ */

/* How many bytes a pointer argument spans; UINT64_MAX where that overflows. */
static uint64_t span(emu_thread *thread, const emu_call *call, const emu_argument *arg, const uint64_t *args)
{
    uint64_t number;
    if (arg->count == 0xff)
        return arg->size;
    if (arg->count & 0x80) {
        uint32_t at = 0;
        if (get(thread, &at, args[arg->count & 0x7f], sizeof at))
            return 0; /* the kernel finds that out too */
        number = (int32_t)at < 0 ? 0 : at;
    } else {
        number = args[arg->count];
        if (call->argument[arg->count].kind == EMU_ARG_INT && (int32_t)number < 0)
            return 0; /* and refuses this */
    }
    uint64_t bytes;
    return __builtin_mul_overflow(number, (uint64_t)arg->size, &bytes) ? UINT64_MAX : bytes;
}

/* Inline, for each return on the way back from the host costs. */
static inline __attribute__((always_inline)) long begin(emu_thread *thread, const emu_call *call, const long *a)
{
    if (call->flags & EMU_CALL_WAITS)
        return emu_wait(thread, call->host, a[0], a[1], a[2], a[3], a[4], a[5]);
    return emu_host(call->host, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* What a pointer argument without copies becomes; false: EFAULT. */
static bool convert(emu_thread *thread, const emu_call *call, const emu_argument *arg, uint64_t value,
                    const uint64_t *args, long *out)
{
    *out = (long)(uintptr_t)pointer(thread, value);
    if (value == 0)
        return true;
    return inside(thread, value, arg->kind == EMU_ARG_POINTER ? 1 : span(thread, call, arg, args));
}

/* The call that follows a symlink: its path leads to the link itself already. */
static long followed(long call)
{
    switch (call) {
    case SYS_lchown:
        return SYS_chown;
    case SYS_lgetxattr:
        return SYS_getxattr;
    case SYS_lsetxattr:
        return SYS_setxattr;
    case SYS_llistxattr:
        return SYS_listxattr;
    case SYS_lremovexattr:
        return SYS_removexattr;
    default:
        return call;
    }
}

static int64_t with_paths(emu_thread *thread, const emu_call *call, const uint64_t *args, emu_path paths[2])
{
    unsigned used = 0;
    emu_call following = *call;
    long a[6] = {0};
    for (unsigned i = 0; i < call->arguments; i++) {
        const emu_argument *arg = &call->argument[i];
        a[i] = (long)args[i];
        if (arg->kind >= EMU_ARG_PATH) {
            bool beside = i != 0 && call->argument[i - 1].kind == EMU_ARG_FD;
            if (args[i] == 0) { /* the kernel decides what NULL means; futimesat: the descriptor */
                a[i] = 0;
                if (beside && !(call->flags & EMU_CALL_LOOKS) && emu_path_outside(thread->process, (int)args[i - 1]))
                    return -EPERM;
                continue;
            }
            unsigned flags = (arg->kind == EMU_ARG_LINK   ? EMU_PATH_NOFOLLOW
                              : arg->kind == EMU_ARG_NAME ? EMU_PATH_NAME
                                                          : 0) |
                             (call->flags & EMU_CALL_LOOKS ? 0 : EMU_PATH_CHANGE);
            emu_path *path = &paths[used++];
            int status = emu_path_read(thread->process, beside ? (int)args[i - 1] : AT_FDCWD, args[i], flags, path);
            if (status < 0)
                return status;
            if (call->host == SYS_truncate && emu_path_busy(thread->process, path))
                return -ETXTBSY;
            a[i] = (long)(uintptr_t)path->host;
            if (beside)
                a[i - 1] = path->dir;
            if (path->held >= 0)
                following.host = (int16_t)followed(call->host);
        } else if (arg->kind == EMU_ARG_IN && arg->copy) {
            continue; /* below, by pass_copies' rules: times of utimes */
        } else if (arg->kind >= EMU_ARG_IN && !convert(thread, call, arg, args[i], args, &a[i])) {
            return -EFAULT;
        }
    }
    _Alignas(16) uint8_t host[COPY_ROOM];
    if (call->flags & EMU_CALL_COPIES)
        for (unsigned i = 0; i < call->arguments; i++) {
            const emu_argument *arg = &call->argument[i];
            uint8_t guest[COPY_ROOM];
            if (!arg->copy || args[i] == 0)
                continue;
            if (get(thread, guest, args[i], arg->size))
                return -EFAULT;
            copy_in(arg->copy, host, guest, arg->size);
            a[i] = (long)(uintptr_t)host;
        }
    return begin(thread, &following, a);
}

static __attribute__((noinline)) int64_t pass_path(emu_thread *thread, const emu_call *call, const uint64_t *args)
{
    emu_path paths[2];
    paths[0].held = paths[1].held = -1;
    int64_t result = with_paths(thread, call, args, paths);
    emu_path_done(&paths[0]);
    emu_path_done(&paths[1]);
    return result;
}

/* What a confined guest may not do on top of what the kernel refuses: 0, or -errno. */
static int forbidden(emu_thread *thread, const emu_call *call, const uint64_t *args)
{
    enum { TYPE = 0170000 };
    switch (call->host) {
    case SYS_setns: /* leads into the root of another process */
    case SYS_umount2:
    case SYS_pivot_root:
        return -EPERM;
    case SYS_fchmod:
    case SYS_fchown:
    case SYS_fsetxattr:
    case SYS_fremovexattr:
        return emu_path_outside(thread->process, (int)args[0]) ? -EPERM : 0;
    case SYS_fchdir: {
        char guest[PATH_MAX];
        int status = emu_path_position(thread->process, (int)args[0], guest);
        return status != 0 ? status : emu_path_outside(thread->process, (int)args[0]) ? -EACCES : 0;
    }
    case SYS_mknod:
    case SYS_mknodat: {
        unsigned first = call->host == SYS_mknod ? 1 : 2;
        uint32_t type = (uint32_t)args[first] & TYPE;
        return (type == S_IFCHR || type == S_IFBLK) && args[first + 1] != 0 ? -EPERM : 0;
    }
    default:
        return 0;
    }
}

static __attribute__((noinline)) int64_t pass_copies(emu_thread *thread, const emu_call *call, const uint64_t *args)
{
    enum { UNTOUCHED = 0xa5 };
    _Alignas(16) uint8_t host[6][COPY_ROOM];
    uint8_t guest[COPY_ROOM];
    uint8_t untouched[COPY_ROOM];
    long a[6] = {0};
    memset(untouched, UNTOUCHED, sizeof untouched);
    for (unsigned i = 0; i < call->arguments; i++) {
        const emu_argument *arg = &call->argument[i];
        a[i] = (long)args[i];
        if (arg->kind < EMU_ARG_IN)
            continue;
        if (!arg->copy) {
            if (!convert(thread, call, arg, args[i], args, &a[i]))
                return -EFAULT;
            continue;
        }
        if (args[i] == 0) {
            a[i] = 0;
            continue;
        }
        if (arg->kind == EMU_ARG_OUT) {
            memset(host[i], UNTOUCHED, sizeof host[i]);
        } else {
            if (get(thread, guest, args[i], arg->size))
                return -EFAULT;
            copy_in(arg->copy, host[i], guest, arg->size);
        }
        a[i] = (long)(uintptr_t)host[i];
    }
    long result = begin(thread, call, a);
    if (result <= EMU_RESTARTSYS)
        return result;
    for (unsigned i = 0; i < call->arguments; i++) {
        const emu_argument *arg = &call->argument[i];
        if (arg->kind < EMU_ARG_OUT || arg->kind > EMU_ARG_INOUT || !arg->copy || args[i] == 0)
            continue;
        /* What the kernel has not written (a failed call, no child to wait for) stays as it was. */
        if (arg->kind == EMU_ARG_OUT && !memcmp(host[i], untouched, copy_host_size(arg->copy, arg->size)))
            continue;
        copy_out(arg->copy, guest, host[i], arg->size);
        if (put(thread, args[i], guest, arg->size))
            return -EFAULT;
    }
    return result;
}

static int64_t pass(emu_thread *thread, const emu_call *call, const uint64_t *args)
{
    if (call->flags & EMU_CALL_PATH)
        return pass_path(thread, call, args);
    if (call->flags & EMU_CALL_COPIES)
        return pass_copies(thread, call, args);
    const emu_argument *code = NULL;
    long a[6] = {0};
    for (unsigned i = 0; i < call->arguments; i++) {
        const emu_argument *arg = &call->argument[i];
        a[i] = (long)args[i];
        if (arg->kind < EMU_ARG_IN)
            continue;
        if (!convert(thread, call, arg, args[i], args, &a[i]))
            return -EFAULT;
        /* recvfrom's lengths of nothing are NULL too: to look there would be a fault each time. */
        if (arg->kind == EMU_ARG_OUT && args[i] != 0 &&
            umem_code(umem_of(thread), args[i], span(thread, call, arg, args)))
            code = arg;
    }
    long result = begin(thread, call, a);
    if (code != NULL && result > 0)
        umem_code_changed(umem_of(thread), args[code - call->argument], span(thread, call, code, args));
    return result;
}

/* ---- the entry --------------------------------------------------------------------------------------- */

static int64_t answer(emu_thread *thread, const emu_stop *stop)
{
    const emu_abi *abi = thread->process->abi;
    const emu_call *call = emu_call_find(abi->isa, stop->nr);
    uint64_t args[6] = {0};
    if (call == NULL)
        return -ENOSYS;
    if (call->refuse)
        return -(int64_t)call->refuse;
    for (unsigned i = 0; i < call->arguments; i++) {
        const emu_argument *arg = &call->argument[i];
        uint64_t value = stop->args[arg->first];
        switch (arg->kind) {
        case EMU_ARG_FD:
            if ((int32_t)value >= 0 && emu_process_owns_fd(thread->process, (int32_t)value))
                return -EBADF;
            args[i] = (uint64_t)(int64_t)(int32_t)value;
            break;
        case EMU_ARG_INT:
            args[i] = (uint64_t)(int64_t)(int32_t)value;
            break;
        case EMU_ARG_UINT:
            args[i] = (uint32_t)value;
            break;
        case EMU_ARG_LONG:
            args[i] = abi->word == 4 ? (uint64_t)(int64_t)(int32_t)value : value;
            break;
        case EMU_ARG_PAIR:
            args[i] = (uint32_t)value | (stop->args[arg->first + 1] << 32);
            break;
        case EMU_ARG_ID16:
            args[i] = (uint16_t)value == 0xffff ? UINT32_MAX : (uint16_t)value;
            break;
        default:
            args[i] = abi->word == 4 ? (uint32_t)value : value;
            break;
        }
    }
    int64_t result;
    if (call->function != CALL_NO_FUNCTION) {
        result = functions[call->function](thread, args);
    } else {
        bool confined = thread->process->root != NULL;
        result = confined ? forbidden(thread, call, args) : 0;
        if (result == 0 && !(confined && address_call(thread, call->host, args, &result)) &&
            !(thread->process->mem_files && emu_own_mem(thread, call->host, args, &result)))
            result = pass(thread, call, args);
    }
    if (call->flags & EMU_CALL_ID16 && result > 0xffff)
        result = 65534;
    return result;
}

int64_t emu_syscall(emu_thread *thread, emu_stop *stop)
{
    if (__builtin_expect(thread->process->watch != NULL, 0))
        return emu_watch_syscall(thread, stop, answer);
    return answer(thread, stop);
}

/* ---- what the files beside share ------------------------------------------------------------------------ */

int get_timespec(emu_thread *thread, uint64_t addr, struct timespec *ts, bool wide)
{
    if (wide || !is_32(thread)) {
        int status = get(thread, ts, addr, sizeof *ts);
        if (is_32(thread))
            ts->tv_nsec &= UINT32_MAX;
        return status;
    }
    int32_t small[2];
    if (get(thread, small, addr, sizeof small))
        return -EFAULT;
    ts->tv_sec = small[0];
    ts->tv_nsec = small[1];
    return 0;
}

int put_timespec(emu_thread *thread, uint64_t addr, const struct timespec *ts, bool wide)
{
    if (wide || !is_32(thread))
        return put(thread, addr, ts, sizeof *ts);
    int32_t small[2] = {(int32_t)ts->tv_sec, (int32_t)ts->tv_nsec};
    return put(thread, addr, small, sizeof small);
}

int iovecs_get(emu_thread *thread, uint64_t addr, uint64_t count, struct iovec small[SMALL_IOVECS], struct iovec **out)
{
    bool narrow_words = is_32(thread);
    size_t size = narrow_words ? 8 : 16;
    *out = small;
    if (count > IOV_MAX)
        return -EINVAL;
    if (count > SMALL_IOVECS) {
        *out = malloc(count * sizeof **out);
        if (*out == NULL)
            return -ENOMEM;
    }
    uint8_t *raw = (uint8_t *)*out + count * (sizeof **out - size); /* narrow ones are widened in place, forwards */
    int status = count ? get(thread, raw, addr, count * size) : 0;
    for (size_t i = 0; status == 0 && i < count; i++) {
        uint64_t base, length;
        if (narrow_words) {
            uint32_t words[2];
            memcpy(words, raw + 8 * i, sizeof words);
            base = words[0];
            length = words[1];
            if ((int32_t)words[1] < 0)
                status = -EINVAL;
        } else {
            memcpy(&base, raw + 16 * i, 8);
            memcpy(&length, raw + 16 * i + 8, 8);
            if ((int64_t)length < 0)
                status = -EINVAL;
        }
        if (status == 0 && length && !inside(thread, base, length))
            status = -EFAULT;
        (*out)[i].iov_base = pointer(thread, base);
        (*out)[i].iov_len = length;
    }
    if (status)
        iovecs_free(*out, small);
    return status;
}

void iovecs_written(emu_thread *thread, const struct iovec *iovecs, uint64_t count)
{
    emu_umem *umem = umem_of(thread);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t addr = (uint64_t)((uint8_t *)iovecs[i].iov_base - umem->base);
        if (iovecs[i].iov_len != 0 && iovecs[i].iov_base != NULL && umem_code(umem, addr, iovecs[i].iov_len))
            umem_code_changed(umem, addr, iovecs[i].iov_len);
    }
}

void iovecs_free(struct iovec *iovecs, struct iovec *small)
{
    if (iovecs != small)
        free(iovecs);
}

/* System calls about open descriptors: data, control, readiness. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "abi.h"
#include "path.h"
#include "syscall.h"

/* ---- numbers -------------------------------------------------------------------------------- */

int64_t emu_sys_close(emu_thread *thread, const uint64_t *args)
{
    emu_path_fds_lock(thread->process);
    long result = emu_path_holds((int)args[0]) ? -EBADF : HOST2(SYS_close, args[0], 0);
    emu_path_fds_unlock(thread->process);
    return result;
}

int64_t emu_sys_close_range(emu_thread *thread, const uint64_t *args)
{
    const emu_process *process = thread->process;
    int engine[EMU_ENGINE_FDS];
    size_t engine_count = emu_process_engine_fds(process, engine);
    uint64_t first = args[0], last = args[1];
    long result = 0;
    if (first > last)
        return -EINVAL;
    emu_path_fds_lock(process);
    while (first <= last && result >= 0) {
        /* Up to the next descriptor that is not the guest's. */
        uint64_t end = emu_path_held_from(first);
        if (end > last)
            end = last + 1;
        for (size_t i = 0; i < process->host_fd_count + engine_count; i++) {
            int own = i < process->host_fd_count ? process->host_fds[i] : engine[i - process->host_fd_count];
            uint64_t fd = (uint64_t)own;
            if (own >= 0 && fd >= first && fd < end)
                end = fd;
        }
        if (end > first)
            result = HOST3(SYS_close_range, first, end - 1, args[2]);
        first = end + 1;
    }
    emu_path_fds_unlock(process);
    return result;
}

/* A number that the guest chooses becomes its own; what the host program had there is closed. */
static void take_over(emu_process *process, int fd)
{
    for (size_t i = 0; i < process->host_fd_count; i++)
        if (process->host_fds[i] == fd)
            process->host_fds[i] = -1;
}

static int64_t duplicate(emu_thread *thread, long call, uint64_t from, uint64_t to, uint64_t flags)
{
    if (emu_process_engine_fd(thread->process, (int)to))
        return -EBADF;
    emu_path_fds_lock(thread->process);
    /* dup2(2) knows this error: an open that has taken the number is not finished. */
    long result = emu_path_holds((int)to) ? -EBUSY : HOST3(call, from, to, flags);
    emu_path_fds_unlock(thread->process);
    if (result >= 0)
        take_over(thread->process, (int)to);
    return result;
}

int64_t emu_sys_dup2(emu_thread *thread, const uint64_t *args)
{
    return duplicate(thread, SYS_dup2, args[0], args[1], 0);
}

int64_t emu_sys_dup3(emu_thread *thread, const uint64_t *args)
{
    return duplicate(thread, SYS_dup3, args[0], args[1], args[2]);
}

/* ---- scattered data --------------------------------------------------------------------------- */

static int64_t with_iovecs(emu_thread *thread, long nr, const uint64_t *args, uint64_t low, uint64_t high,
                           uint64_t flags)
{
    struct iovec small[SMALL_IOVECS], *iovecs;
    int status = iovecs_get(thread, args[1], args[2], small, &iovecs);
    if (status)
        return status;
    /* The kernel joins the halves of a position as 32-bit ABIs split it, and takes the low one where longs are wide. */
    if (is_32(thread))
        low = (uint32_t)low | high << 32;
    long result = WAIT6(thread, nr, args[0], iovecs, args[2], low, 0, flags);
    if (result > 0 && (nr == SYS_readv || nr == SYS_preadv || nr == SYS_preadv2))
        iovecs_written(thread, iovecs, args[2]);
    iovecs_free(iovecs, small);
    return result;
}

int64_t emu_sys_readv(emu_thread *thread, const uint64_t *args)
{
    return with_iovecs(thread, SYS_readv, args, 0, 0, 0);
}

int64_t emu_sys_writev(emu_thread *thread, const uint64_t *args)
{
    return with_iovecs(thread, SYS_writev, args, 0, 0, 0);
}

int64_t emu_sys_preadv(emu_thread *thread, const uint64_t *args)
{
    return with_iovecs(thread, SYS_preadv, args, args[3], args[4], 0);
}

int64_t emu_sys_pwritev(emu_thread *thread, const uint64_t *args)
{
    return with_iovecs(thread, SYS_pwritev, args, args[3], args[4], 0);
}

int64_t emu_sys_preadv2(emu_thread *thread, const uint64_t *args)
{
    return with_iovecs(thread, SYS_preadv2, args, args[3], args[4], args[5]);
}

int64_t emu_sys_pwritev2(emu_thread *thread, const uint64_t *args)
{
    return with_iovecs(thread, SYS_pwritev2, args, args[3], args[4], args[5]);
}

int64_t emu_sys_vmsplice(emu_thread *thread, const uint64_t *args)
{
    return with_iovecs(thread, SYS_vmsplice, args, args[3], 0, 0);
}

/* ---- fcntl -------------------------------------------------------------------------------------------- */

enum { /* commands that the C library hides or renames */
    LOCK_GET = 5,
    LOCK_SET = 6,
    LOCK_WAIT = 7,
    LOCK_GET64 = 12,
    LOCK_SET64 = 13,
    LOCK_WAIT64 = 14,
};

/* struct flock with 64-bit positions is the same everywhere; with 32-bit ones it has 16 bytes. */
static int64_t lock32(emu_thread *thread, int fd, int command, uint64_t addr)
{
    struct {
        int16_t type, whence;
        int32_t start, length, pid;
    } small;
    struct flock lock;
    if (get(thread, &small, addr, sizeof small))
        return -EFAULT;
    memset(&lock, 0, sizeof lock);
    lock.l_type = small.type;
    lock.l_whence = small.whence;
    lock.l_start = small.start;
    lock.l_len = small.length;
    lock.l_pid = small.pid;
    long result = WAIT3(thread, SYS_fcntl, fd, command, &lock);
    if (result < 0 || command != LOCK_GET)
        return result;
    if (lock.l_start > INT32_MAX || lock.l_len > INT32_MAX)
        return -EOVERFLOW;
    small.type = lock.l_type;
    small.whence = lock.l_whence;
    small.start = (int32_t)lock.l_start;
    small.length = (int32_t)lock.l_len;
    small.pid = lock.l_pid;
    return put(thread, addr, &small, sizeof small);
}

static int64_t control(emu_thread *thread, const uint64_t *args, bool wide_locks)
{
    const emu_abi *abi = thread->process->abi;
    int fd = (int)args[0];
    int command = (int)args[1];
    uint64_t arg = args[2];
    long result;
    switch (command) {
    case F_GETFL:
        result = HOST3(SYS_fcntl, fd, command, 0);
        return result < 0 ? result : (int64_t)abi_open_flags_to_guest(abi, (uint32_t)result);
    case F_SETFL:
        return HOST3(SYS_fcntl, fd, command, abi_open_flags_to_host(abi, (uint32_t)arg));
    case LOCK_GET:
    case LOCK_SET:
    case LOCK_WAIT:
        if (is_32(thread))
            return lock32(thread, fd, command, arg);
        return WAIT3(thread, SYS_fcntl, fd, command, umem_address(umem_of(thread), arg));
    case LOCK_GET64:
    case LOCK_SET64:
    case LOCK_WAIT64:
        if (!is_32(thread) || !wide_locks)
            return -EINVAL;
        command -= LOCK_GET64 - LOCK_GET;
        return WAIT3(thread, SYS_fcntl, fd, command, umem_address(umem_of(thread), arg));
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        if (is_32(thread) && !wide_locks)
            return -EINVAL;
        return WAIT3(thread, SYS_fcntl, fd, command, umem_address(umem_of(thread), arg));
    case F_GETOWN_EX:
    case F_SETOWN_EX:
    case F_GET_RW_HINT:
    case F_SET_RW_HINT:
    case F_GET_FILE_RW_HINT:
    case F_SET_FILE_RW_HINT:
    case 17: /* F_GETOWNER_UIDS */
        return HOST3(SYS_fcntl, fd, command, umem_address(umem_of(thread), arg));
    default:
        /* The rest takes a number or nothing; the kernel knows which commands exist. */
        return HOST3(SYS_fcntl, fd, command, (int)arg);
    }
}

int64_t emu_sys_fcntl(emu_thread *thread, const uint64_t *args)
{
    return control(thread, args, !is_32(thread));
}

int64_t emu_sys_fcntl64(emu_thread *thread, const uint64_t *args)
{
    return control(thread, args, true);
}

/* ---- ioctl --------------------------------------------------------------------------------------------------- */

/* Requests from before their numbers told sizes; the argument is a number where size is 0. */
static const struct {
    uint16_t request;
    uint8_t size;
} old_requests[] = {
    {FIBMAP & 0xffff, 4}, {FIGETBSZ & 0xffff, 4}, {BLKSECTGET & 0xffff, 2}, {BLKIOMIN & 0xffff, 4},
    {BLKIOOPT & 0xffff, 4}, {BLKALIGNOFF & 0xffff, 4}, {BLKPBSZGET & 0xffff, 4}, {BLKDISCARDZEROES & 0xffff, 4},
    {BLKROTATIONAL & 0xffff, 2}, {BLKDISCARD & 0xffff, 16}, {BLKSECDISCARD & 0xffff, 16}, {BLKZEROOUT & 0xffff, 16},
    {BLKROSET & 0xffff, 4}, {BLKROGET & 0xffff, 4}, {BLKRRPART & 0xffff, 0}, {BLKGETSIZE & 0xffff, 8},
    {BLKFLSBUF & 0xffff, 0}, {BLKRASET & 0xffff, 0}, {BLKRAGET & 0xffff, 8}, {BLKSSZGET & 0xffff, 4},
    {0x4b33, 1}, /* KDGKBTYPE */
    {TCGETS, 36}, {TCSETS, 36}, {TCSETSW, 36}, {TCSETSF, 36}, {TCGETA, 18}, {TCSETA, 18}, {TCSETAW, 18},
    {TCSETAF, 18}, {TCSBRK, 0}, {TCXONC, 0}, {TCFLSH, 0}, {TIOCEXCL, 0}, {TIOCNXCL, 0}, {TIOCSCTTY, 0},
    {TIOCGPGRP, 4}, {TIOCSPGRP, 4}, {TIOCOUTQ, 4}, {TIOCSTI, 1}, {TIOCGWINSZ, 8}, {TIOCSWINSZ, 8},
    {TIOCMGET, 4}, {TIOCMBIS, 4}, {TIOCMBIC, 4}, {TIOCMSET, 4}, {TIOCGSOFTCAR, 4}, {TIOCSSOFTCAR, 4},
    {FIONREAD, 4}, {TIOCCONS, 0}, {TIOCPKT, 4}, {FIONBIO, 4}, {TIOCNOTTY, 0}, {TIOCSETD, 4}, {TIOCGETD, 4},
    {TIOCGLCKTRMIOS, 36}, {TIOCSLCKTRMIOS, 36}, {TCSBRKP, 0}, {TIOCSBRK, 0}, {TIOCCBRK, 0},
    {TIOCGSID, 4}, {TIOCVHANGUP, 0}, {0x5441, 0} /* TIOCGPTPEER */,
    {FIONCLEX, 0}, {FIOCLEX, 0}, {FIOASYNC, 4}, {FIOQSIZE, 8},
    {0x8901, 4}, {0x8902, 4}, {0x8903, 4}, {0x8904, 4}, {0x8905, 4}, /* FIOSETOWN ... SIOCATMARK */
    {0x07b9, 4}, /* IOCTL_VM_SOCKETS_GET_LOCAL_CID */
    {0x8906, 16}, {0x8907, 16}, /* SIOCGSTAMP, SIOCGSTAMPNS: two longs */
    {0x894b, 4}, /* SIOCOUTQNSD */
    {0xb701, 0}, {0xb702, 0}, {0xb703, 0}, /* NS_GET_USERNS, NS_GET_PARENT, NS_GET_NSTYPE */
    {0x5200 + 4, 0}, {0x5200 + 6, 0}, {0x5200 + 7, 0}, /* RNDZAPENTCNT, RNDCLEARPOOL, RNDRESEEDCRNG */
};

/*
 * Requests whose numbers tell the argument's size, and whose argument holds no pointer: another would have
 * the host's kernel read or write where the guest says, in the memory of the runtime.  What is not here does
 * not exist, as for a driver that does not know it.
 */
static const struct {
    uint8_t type, first, last;
    bool changes; /* attributes of the file, or its file system */
} known_requests[] = {
    {'T', 0x00, 0x00, false},  /* TFD_IOC_SET_TICKS */
    {'T', 0x2a, 0x43, false},  /* TCGETS2 ... TIOCSISO7816 */
    {'T', 200, 212, false},    /* TUNSETNOCSUM ... */
    {'T', 214, 223, false},    /* ... TUNGETVNETHDRSZ ... */
    {'f', 1, 1, false},        /* FS_IOC_GETFLAGS */
    {'f', 2, 2, true},
    {'f', 3, 3, false},        /* EXT4_IOC_GETVERSION */
    {'f', 4, 4, true},
    {'f', 11, 11, false},      /* FS_IOC_FIEMAP */
    {'f', 19, 20, true},       /* FS_IOC_SET_ENCRYPTION_POLICY */
    {'f', 21, 22, false},
    {'f', 23, 25, true},       /* FS_IOC_ADD_ENCRYPTION_KEY ... */
    {'f', 26, 27, false},
    {'f', 134, 134, false},    /* FS_IOC_MEASURE_VERITY */
    {'v', 1, 1, false},        /* FS_IOC_GETVERSION */
    {'v', 2, 2, true},
    {'X', 31, 31, false},      /* FS_IOC_FSGETXATTR */
    {'X', 32, 32, true},
    {'X', 119, 121, true},     /* FIFREEZE, FITHAW, FITRIM */
    {0x94, 13, 13, false},     /* FICLONERANGE */
    {0x94, 49, 49, false},     /* FS_IOC_GETFSLABEL */
    {0x94, 50, 50, true},
    {0x94, 54, 54, false},     /* FIDEDUPERANGE */
    {0x12, 112, 114, false},   /* BLKBSZGET, BLKBSZSET, BLKGETSIZE64 */
    {0x89, 0x06, 0x07, false}, /* SIOCGSTAMP_NEW, SIOCGSTAMPNS_NEW */
    {0x8a, 1, 2, false},       /* EPIOCSPARAMS, EPIOCGPARAMS */
    {'p', 7, 20, false},       /* real-time clocks */
    {'R', 0, 3, false},        /* /dev/random */
    {'W', 0, 10, false},       /* watchdogs */
};

enum {
    NET_FIRST = 0x8910, /* SIOCGIFNAME */
    NET_CONF = 0x8912,  /* SIOCGIFCONF */
    NET_LAST = 0x8937,
    CLONE_FILE = 0x40049409, /* FICLONE: its argument is a descriptor */
    IFREQ = 40,
    IFREQ32 = 32,
};

/* Requests on a struct ifreq that holds no pointer. */
static bool plain_ifreq(uint32_t request)
{
    return request >= NET_FIRST && request <= NET_LAST && request != NET_CONF;
}

static int64_t interface_request(emu_thread *thread, int fd, uint32_t request, uint64_t addr)
{
    uint8_t raw[IFREQ] = {0};
    size_t size = is_32(thread) ? IFREQ32 : IFREQ;
    if (get(thread, raw, addr, size))
        return -EFAULT;
    long result = HOST3(SYS_ioctl, fd, request, raw);
    if (result < 0)
        return result;
    return put(thread, addr, raw, size) ? -EFAULT : result;
}

/* struct ifconf: a length and a pointer to that many bytes of ifreq. */
static int64_t interface_list(emu_thread *thread, int fd, uint64_t addr)
{
    struct {
        int32_t length;
        int32_t pad;
        uint64_t buffer;
    } conf = {0};
    uint64_t buffer = 0;
    size_t record = is_32(thread) ? IFREQ32 : IFREQ;
    uint64_t at = addr + thread->process->abi->word;
    if (get(thread, &conf.length, addr, 4) || umem_word(umem_of(thread), at, thread->process->abi->word, &buffer))
        return -EFAULT;
    if (buffer && conf.length < 0)
        return -EINVAL;
    uint32_t room = buffer ? (uint32_t)conf.length / record : 0;
    if (room > 4096)
        room = 4096;
    uint8_t *list = buffer ? calloc(room + 1, IFREQ) : NULL;
    if (buffer && list == NULL)
        return -ENOMEM;
    conf.length = (int32_t)(room * IFREQ);
    conf.buffer = (uintptr_t)list;
    long result = HOST3(SYS_ioctl, fd, NET_CONF, &conf);
    if (result >= 0) {
        uint32_t count = (uint32_t)conf.length / IFREQ;
        for (uint32_t i = 0; list && i < count && result >= 0; i++)
            if (put(thread, buffer + i * record, list + i * IFREQ, record))
                result = -EFAULT;
        if (result >= 0 && put_u32(thread, addr, (uint32_t)(count * record)))
            result = -EFAULT;
    }
    free(list);
    return result;
}

/* A request of 64-bit guests has sizes of their longs and size_t in its number. */
static uint32_t widened(uint32_t request)
{
    unsigned type = _IOC_TYPE(request), nr = _IOC_NR(request);
    bool longs = ((type == 'f' || type == 'v') && nr <= 2) || (type == 0x12 && nr >= 112 && nr <= 114);
    if (!longs || _IOC_SIZE(request) != 4)
        return request;
    return (request & ~(uint32_t)(_IOC_SIZEMASK << _IOC_SIZESHIFT)) | 8u << _IOC_SIZESHIFT;
}

/* Descriptors in the argument: those of the runtime are not to be named. */
static int clones(emu_thread *thread, uint32_t request, uint64_t arg)
{
    enum { CLONE_RANGE = 13, DEDUPE_RANGE = 54, DEDUPE_HEAD = 24, DEDUPE_INFO = 32 };
    int64_t fd;
    uint16_t count;
    if (_IOC_NR(request) == CLONE_RANGE)
        return get(thread, &fd, arg, sizeof fd) ? -EFAULT : emu_process_owns_fd(thread->process, (int)fd) ? -EBADF : 0;
    if (_IOC_NR(request) != DEDUPE_RANGE)
        return 0;
    if (get(thread, &count, arg + 16, sizeof count))
        return -EFAULT;
    for (uint16_t i = 0; i < count; i++) {
        if (get(thread, &fd, arg + DEDUPE_HEAD + (uint64_t)DEDUPE_INFO * i, sizeof fd))
            return -EFAULT;
        if (emu_process_owns_fd(thread->process, (int)fd))
            return -EBADF;
    }
    return 0;
}

static int64_t old_request(emu_thread *thread, int fd, uint32_t request, uint64_t arg, uint32_t size)
{
    int64_t wide[2] = {0};
    if (size == 0)
        return WAIT3(thread, SYS_ioctl, fd, request, (int)arg);
    bool one = request == (BLKGETSIZE & 0xffff) || request == (BLKRAGET & 0xffff);
    if (!is_32(thread) || (!one && request != 0x8906 && request != 0x8907)) {
        if (!inside(thread, arg, size))
            return -EFAULT;
        return WAIT3(thread, SYS_ioctl, fd, request, umem_address(umem_of(thread), arg));
    }
    long result = HOST3(SYS_ioctl, fd, request, wide);
    if (result < 0)
        return result;
    if (one && (uint64_t)wide[0] >> 32)
        return -EFBIG;
    const int32_t narrow[2] = {(int32_t)wide[0], (int32_t)wide[1]};
    return put(thread, arg, narrow, one ? 4 : 8);
}

int64_t emu_sys_ioctl(emu_thread *thread, const uint64_t *args)
{
    enum { TUN_INTERFACE = 0x400454ca, TUN_INTERFACE_GET = 0x800454d2 }; /* TUNSETIFF, TUNGETIFF: of an ifreq */
    int fd = (int)args[0];
    uint32_t request = (uint32_t)args[1];
    uint64_t arg = args[2];
    if (request == CLONE_FILE)
        return emu_process_owns_fd(thread->process, (int)arg) ? -EBADF : HOST3(SYS_ioctl, fd, request, (int)arg);
    if (request == NET_CONF)
        return interface_list(thread, fd, arg);
    if (plain_ifreq(request) || request == TUN_INTERFACE || request == TUN_INTERFACE_GET)
        return interface_request(thread, fd, request, arg);
    for (size_t i = 0; i < sizeof old_requests / sizeof *old_requests; i++)
        if (old_requests[i].request == request)
            return old_request(thread, fd, request, arg, old_requests[i].size);
    if (is_32(thread))
        request = widened(request);
    uint32_t size = _IOC_SIZE(request), type = _IOC_TYPE(request), nr = _IOC_NR(request);
    for (size_t i = 0; i < sizeof known_requests / sizeof *known_requests && size != 0; i++) {
        if (known_requests[i].type != type || nr < known_requests[i].first || nr > known_requests[i].last)
            continue;
        if (!inside(thread, arg, size))
            return -EFAULT;
        if (known_requests[i].changes && emu_path_outside(thread->process, fd))
            return -EPERM;
        int status = type == 0x94 ? clones(thread, request, arg) : 0;
        return status ? status : WAIT3(thread, SYS_ioctl, fd, request, umem_address(umem_of(thread), arg));
    }
    return fcntl(fd, F_GETFD) < 0 ? -EBADF : -ENOTTY;
}

/* ---- select and poll --------------------------------------------------------------------------------------------- */

/*
 * Sets are arrays of longs: little-endian words of 32 bits lie as those of 64
 * do, but the last one may be missing.
 */
static int get_set(emu_thread *thread, uint64_t addr, size_t bytes, size_t room, uint8_t *set)
{
    memset(set, 0, room);
    return addr ? get(thread, set, addr, bytes) : 0;
}

static int64_t select_sets(emu_thread *thread, const uint64_t *args, struct timespec *timeout, uint64_t *mask)
{
    uint8_t fixed[3 * 128], *sets = fixed;
    int32_t count = (int32_t)args[0];
    struct rlimit limit;
    if (count < 0)
        return -EINVAL;
    /* The kernel looks at no more than there can be. */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && (uint64_t)count > limit.rlim_cur && limit.rlim_cur < INT32_MAX)
        count = (int32_t)limit.rlim_cur;
    unsigned bits = thread->process->abi->word * 8;
    size_t bytes = ((size_t)count + bits - 1) / bits * (bits / 8);
    size_t room = ((size_t)count + 63) / 64 * 8;
    if (3 * room > sizeof fixed) {
        sets = malloc(3 * room);
        if (sets == NULL)
            return -ENOMEM;
    }
    int64_t result = 0;
    for (unsigned i = 0; i < 3 && result == 0; i++)
        result = get_set(thread, args[1 + i], bytes, room, sets + i * room);
    if (result == 0) {
        struct {
            uint64_t *mask;
            size_t size;
        } pack = {mask, 8};
        result = WAIT6(thread, SYS_pselect6, count, args[1] ? sets : NULL, args[2] ? sets + room : NULL,
                       args[3] ? sets + 2 * room : NULL, timeout, &pack);
        for (unsigned i = 0; i < 3 && result >= 0; i++)
            if (args[1 + i] && put(thread, args[1 + i], sets + i * room, bytes))
                result = -EFAULT;
    }
    if (sets != fixed)
        free(sets);
    return result;
}

int64_t emu_sys_select(emu_thread *thread, const uint64_t *args)
{
    struct timespec tv, timeout;
    if (args[4]) {
        /* A timeval has the shape of a timespec. */
        if (get_timespec(thread, args[4], &tv, false))
            return -EFAULT;
        if (tv.tv_sec < 0 || tv.tv_nsec < 0)
            return -EINVAL;
        if (__builtin_add_overflow(tv.tv_sec, tv.tv_nsec / 1000000, &timeout.tv_sec))
            timeout.tv_sec = INT64_MAX;
        timeout.tv_nsec = tv.tv_nsec % 1000000 * 1000;
    }
    int64_t result = select_sets(thread, args, args[4] ? &timeout : NULL, NULL);
    if (args[4] && result > EMU_RESTARTSYS) {
        tv.tv_sec = timeout.tv_sec;
        tv.tv_nsec = timeout.tv_nsec / 1000;
        put_timespec(thread, args[4], &tv, false); /* as the kernel: a result is not lost for want of this */
    }
    return result;
}

static int64_t select_masked(emu_thread *thread, const uint64_t *args, bool wide)
{
    struct timespec timeout;
    uint64_t space, *mask = NULL;
    if (args[4] && get_timespec(thread, args[4], &timeout, wide))
        return -EFAULT;
    if (args[5]) {
        unsigned word = thread->process->abi->word;
        uint64_t addr, size;
        if (umem_word(umem_of(thread), args[5], word, &addr) ||
            umem_word(umem_of(thread), args[5] + word, word, &size))
            return -EFAULT;
        int status = signal_mask_begin(thread, addr, size, &space, &mask);
        if (status)
            return status;
    }
    int64_t result = select_sets(thread, args, args[4] ? &timeout : NULL, mask);
    signal_mask_end(thread, result);
    if (args[4] && result > EMU_RESTARTSYS)
        put_timespec(thread, args[4], &timeout, wide);
    return result;
}

int64_t emu_sys_pselect6(emu_thread *thread, const uint64_t *args)
{
    return select_masked(thread, args, false);
}

int64_t emu_sys_pselect6_time64(emu_thread *thread, const uint64_t *args)
{
    return select_masked(thread, args, true);
}

static int64_t poll_masked(emu_thread *thread, const uint64_t *args, bool wide)
{
    struct timespec timeout;
    uint64_t space, *mask;
    if (args[2] && get_timespec(thread, args[2], &timeout, wide))
        return -EFAULT;
    if (args[1] > INT32_MAX)
        return -EINVAL;
    if (args[1] && !inside(thread, args[0], args[1] * sizeof(struct pollfd)))
        return -EFAULT;
    int status = signal_mask_begin(thread, args[3], args[4], &space, &mask);
    if (status)
        return status;
    int64_t result =
        WAIT5(thread, SYS_ppoll, pointer(thread, args[0]), args[1], args[2] ? &timeout : NULL, mask, sizeof *mask);
    signal_mask_end(thread, result);
    if (args[2] && result > EMU_RESTARTSYS)
        put_timespec(thread, args[2], &timeout, wide);
    return result;
}

int64_t emu_sys_ppoll(emu_thread *thread, const uint64_t *args)
{
    return poll_masked(thread, args, false);
}

int64_t emu_sys_ppoll_time64(emu_thread *thread, const uint64_t *args)
{
    return poll_masked(thread, args, true);
}

/* ---- epoll --------------------------------------------------------------------------------------------------------- */

int64_t emu_sys_epoll_ctl(emu_thread *thread, const uint64_t *args)
{
    const abi_layout *layout = layout_of(thread->process->abi);
    struct epoll_event event = {0};
    uint8_t raw[16];
    if ((int)args[1] == EPOLL_CTL_DEL)
        return HOST4(SYS_epoll_ctl, args[0], args[1], args[2], &event);
    if (get(thread, raw, args[3], layout->epoll_size))
        return -EFAULT;
    memcpy(&event.events, raw, 4);
    memcpy(&event.data, raw + layout->epoll_data, 8);
    return HOST4(SYS_epoll_ctl, args[0], args[1], args[2], &event);
}

enum { SMALL_EVENTS = 64 };

static int64_t put_events(emu_thread *thread, uint64_t addr, const struct epoll_event *events, int64_t count)
{
    const abi_layout *layout = layout_of(thread->process->abi);
    for (int64_t i = 0; i < count; i++) {
        uint8_t raw[16] = {0};
        memcpy(raw, &events[i].events, 4);
        memcpy(raw + layout->epoll_data, &events[i].data, 8);
        if (put(thread, addr + (uint64_t)i * layout->epoll_size, raw, layout->epoll_size))
            return -EFAULT;
    }
    return count;
}

/* nr: SYS_epoll_pwait, with milliseconds as timeout, or SYS_epoll_pwait2, with a timespec. */
static int64_t wait_events(emu_thread *thread, long nr, const uint64_t *args, long timeout, uint64_t *mask)
{
    struct epoll_event small[SMALL_EVENTS], *events = small;
    int32_t max = (int32_t)args[2];
    if (max <= 0 || (uint64_t)max > INT32_MAX / sizeof *events)
        return -EINVAL;
    if (!inside(thread, args[1], (uint64_t)max * layout_of(thread->process->abi)->epoll_size))
        return -EFAULT;
    /* Untouched pages of a large one cost nothing. */
    if (max > SMALL_EVENTS && (events = malloc((size_t)max * sizeof *events)) == NULL)
        return -ENOMEM;
    int64_t result = WAIT6(thread, nr, args[0], events, max, timeout, mask, 8);
    result = put_events(thread, args[1], events, result);
    if (events != small)
        free(events);
    return result;
}

int64_t emu_sys_epoll_wait(emu_thread *thread, const uint64_t *args)
{
    return wait_events(thread, SYS_epoll_pwait, args, (long)args[3], NULL);
}

int64_t emu_sys_epoll_pwait(emu_thread *thread, const uint64_t *args)
{
    uint64_t space, *mask;
    int status = signal_mask_begin(thread, args[4], args[5], &space, &mask);
    if (status)
        return status;
    int64_t result = wait_events(thread, SYS_epoll_pwait, args, (long)args[3], mask);
    signal_mask_end(thread, result);
    return result;
}

int64_t emu_sys_epoll_pwait2(emu_thread *thread, const uint64_t *args)
{
    struct timespec timeout;
    uint64_t space, *mask;
    if (args[3] && get_timespec(thread, args[3], &timeout, true))
        return -EFAULT;
    int status = signal_mask_begin(thread, args[4], args[5], &space, &mask);
    if (status)
        return status;
    int64_t result = wait_events(thread, SYS_epoll_pwait2, args, args[3] ? (long)(uintptr_t)&timeout : 0, mask);
    signal_mask_end(thread, result);
    return result;
}

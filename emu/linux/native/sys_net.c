/* System calls about sockets: messages, control messages, options. */
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "address.h"

/* ---- message headers ----------------------------------------------------------------------------- */

/* msghdr as the guest has it: pointers and sizes are words. */
typedef struct header {
    uint64_t name, iov, iovlen, control, controllen;
    uint32_t namelen, flags;
} header;

enum { HEADER64 = 56, HEADER32 = 28, CONTROL_MAX = 65536, CONTROL_MAX64 = 1 << 20, NAME_MAX_SIZE = 128 };

static size_t header_size(emu_thread *thread)
{
    return is_32(thread) ? HEADER32 : HEADER64;
}

static int get_header(emu_thread *thread, uint64_t addr, header *out)
{
    uint64_t wide[7];
    uint32_t narrow[7];
    if (is_32(thread)) {
        if (get(thread, narrow, addr, sizeof narrow))
            return -EFAULT;
        *out = (header){.name = narrow[0],
                        .namelen = narrow[1],
                        .iov = narrow[2],
                        .iovlen = narrow[3],
                        .control = narrow[4],
                        .controllen = narrow[5],
                        .flags = narrow[6]};
        return 0;
    }
    if (get(thread, wide, addr, sizeof wide))
        return -EFAULT;
    *out = (header){.name = wide[0],
                    .namelen = (uint32_t)wide[1],
                    .iov = wide[2],
                    .iovlen = wide[3],
                    .control = wide[4],
                    .controllen = wide[5],
                    .flags = (uint32_t)wide[6]};
    return 0;
}

/* What recvmsg changes: the lengths and the flags. */
static int put_header(emu_thread *thread, uint64_t addr, uint32_t namelen, uint64_t controllen, uint32_t flags)
{
    bool narrow = is_32(thread);
    if (put_u32(thread, addr + (narrow ? 4 : 8), namelen) || put_word(thread, addr + (narrow ? 20 : 40), controllen) ||
        put_u32(thread, addr + (narrow ? 24 : 48), flags))
        return -EFAULT;
    return 0;
}

/*
 * Control messages: a length of a word, level and type; data aligned to a word.
 * A 32-bit guest's are repacked; what they carry is the same but for times.
 */
#define ALIGN4(n) (((n) + 3) & ~(size_t)3)
#define ALIGN8(n) (((n) + 7) & ~(size_t)7)
enum { CMSG32 = 12, CMSG64 = 16 };

/* From the guest's bytes to the host's; *out has room for twice `size`.  Bytes or -EINVAL. */
static int64_t widen_control(const uint8_t *in, size_t size, uint8_t *out)
{
    size_t at = 0, to = 0;
    while (size - at >= CMSG32) {
        uint32_t length;
        memcpy(&length, in + at, 4);
        if (length < CMSG32 || length > size - at)
            return -EINVAL;
        size_t data = length - CMSG32;
        uint64_t wide = CMSG64 + data;
        memcpy(out + to, &wide, 8);
        memcpy(out + to + 8, in + at + 4, 8);
        memset(out + to + CMSG64, 0, ALIGN8(data));
        memcpy(out + to + CMSG64, in + at + CMSG32, data);
        to += CMSG64 + ALIGN8(data);
        if (ALIGN4(length) >= size - at)
            break;
        at += ALIGN4(length);
    }
    return (int64_t)to;
}

/* SCM_TIMESTAMP and its kind hold pairs of longs: a timeval, a timespec, three timespecs. */
static bool holds_longs(int level, int type)
{
    return level == SOL_SOCKET && (type == SO_TIMESTAMP || type == SO_TIMESTAMPNS || type == SO_TIMESTAMPING);
}

/* From the host's bytes to the guest's, as far as they fit; sets MSG_CTRUNC in *flags where they do not. */
static size_t narrow_control(const uint8_t *in, size_t size, uint8_t *out, size_t room, uint32_t *flags)
{
    size_t at = 0, to = 0;
    while (size - at >= CMSG64) {
        uint64_t length;
        int32_t kind[2];
        memcpy(&length, in + at, 8);
        if (length < CMSG64 || length > size - at)
            break;
        memcpy(kind, in + at + 8, sizeof kind);
        size_t data = length - CMSG64;
        const uint8_t *from = in + at + CMSG64;
        bool longs = holds_longs(kind[0], kind[1]);
        size_t narrow = longs ? data / 2 : data;
        if (room - to < CMSG32 + narrow) {
            *flags |= MSG_CTRUNC;
            if (longs || room - to < CMSG32)
                break;
            narrow = room - to - CMSG32;
            if (kind[0] == SOL_SOCKET && kind[1] == SCM_RIGHTS) {
                /* Descriptors that the guest is not told of must not stay open. */
                narrow &= ~(size_t)3;
                for (size_t i = narrow; i + 4 <= data; i += 4) {
                    int fd;
                    memcpy(&fd, from + i, sizeof fd);
                    close(fd);
                }
                if (narrow == 0)
                    break;
            }
        }
        uint32_t head = (uint32_t)(CMSG32 + narrow);
        memcpy(out + to, &head, 4);
        memcpy(out + to + 4, kind, sizeof kind);
        if (longs)
            for (size_t i = 0; i < data / 8; i++)
                memcpy(out + to + CMSG32 + 4 * i, from + 8 * i, 4);
        else
            memcpy(out + to + CMSG32, from, narrow);
        size_t step = ALIGN4((size_t)head);
        to = step > room - to ? room : to + step;
        if (ALIGN8(length) >= size - at)
            break;
        at += ALIGN8(length);
    }
    return to;
}

/* ---- one message ---------------------------------------------------------------------------------------- */

static int begin_message(emu_thread *thread, const header *from, struct msghdr *msg, struct iovec small[SMALL_IOVECS])
{
    struct iovec *iovecs;
    memset(msg, 0, sizeof *msg);
    if (from->iovlen > IOV_MAX)
        return -EMSGSIZE;
    if ((int32_t)from->namelen < 0)
        return -EINVAL;
    msg->msg_namelen = from->namelen > NAME_MAX_SIZE ? NAME_MAX_SIZE : from->namelen;
    msg->msg_name = pointer(thread, from->name);
    if (from->name && !inside(thread, from->name, msg->msg_namelen))
        return -EFAULT;
    int status = iovecs_get(thread, from->iov, from->iovlen, small, &iovecs);
    if (status)
        return status;
    msg->msg_iov = iovecs;
    msg->msg_iovlen = from->iovlen;
    return 0;
}

/* True where control messages hand over a descriptor that the guest does not have. */
static bool hands_over_ours(const emu_process *process, const uint8_t *control, size_t size)
{
    size_t at = 0;
    while (size - at >= CMSG64) {
        uint64_t length;
        int32_t kind[2];
        memcpy(&length, control + at, 8);
        memcpy(kind, control + at + 8, sizeof kind);
        if (length < CMSG64 || length > size - at)
            break; /* the kernel refuses it */
        for (size_t i = CMSG64; kind[0] == SOL_SOCKET && kind[1] == SCM_RIGHTS && i + 4 <= length; i += 4) {
            int32_t fd;
            memcpy(&fd, control + at + i, sizeof fd);
            if (emu_process_owns_fd(process, fd))
                return true;
        }
        if (ALIGN8(length) >= size - at)
            break;
        at += ALIGN8(length);
    }
    return false;
}

static int64_t send_one(emu_thread *thread, int fd, uint64_t addr, uint32_t flags)
{
    struct iovec small[SMALL_IOVECS];
    struct msghdr msg;
    header from;
    address to;
    uint8_t *control = NULL;
    int64_t result = get_header(thread, addr, &from);
    if (result == 0)
        result = begin_message(thread, &from, &msg, small);
    if (result)
        return result;
    to.path.held = -1;
    if (from.name && thread->process->root != NULL) {
        result = address_get(thread, from.name, msg.msg_namelen, false, &to);
        msg.msg_name = to.bytes;
        msg.msg_namelen = to.size;
    }
    if (result) {
        /* below, with what is to be freed */
    } else if (from.controllen > INT32_MAX) {
        result = -ENOBUFS;
    } else if (!is_32(thread) && from.controllen) {
        /* A copy, which nobody changes any more. */
        if (from.controllen > CONTROL_MAX64)
            result = -ENOBUFS;
        else if ((control = malloc(from.controllen)) == NULL)
            result = -ENOMEM;
        else if (get(thread, control, from.control, from.controllen))
            result = -EFAULT;
        msg.msg_control = control;
        msg.msg_controllen = from.controllen;
    } else if (from.controllen) {
        if (from.controllen > CONTROL_MAX)
            result = -ENOBUFS;
        else if ((control = malloc(3 * from.controllen + CMSG64)) == NULL)
            result = -ENOMEM;
        else if (get(thread, control, from.control, from.controllen))
            result = -EFAULT;
        else
            result = widen_control(control, from.controllen, control + ALIGN8(from.controllen));
        if (result > 0) {
            msg.msg_control = control + ALIGN8(from.controllen);
            msg.msg_controllen = (size_t)result;
        }
    }
    if (result >= 0 && msg.msg_control != NULL &&
        hands_over_ours(thread->process, msg.msg_control, msg.msg_controllen))
        result = -EBADF;
    if (result >= 0)
        result = WAIT3(thread, SYS_sendmsg, fd, &msg, flags);
    emu_path_done(&to.path);
    free(control);
    iovecs_free(msg.msg_iov, small);
    return result;
}

static int64_t receive_one(emu_thread *thread, int fd, uint64_t addr, uint32_t flags)
{
    struct iovec small[SMALL_IOVECS];
    struct msghdr msg;
    header from;
    uint8_t *control = NULL, name[ADDRESS_MAX] = {0};
    size_t room = 0;
    int64_t result = get_header(thread, addr, &from);
    if (result == 0)
        result = begin_message(thread, &from, &msg, small);
    if (result)
        return result;
    bool named = from.name && thread->process->root != NULL;
    if (named) {
        msg.msg_name = name;
        msg.msg_namelen = sizeof name;
    }
    if (!is_32(thread)) {
        msg.msg_control = pointer(thread, from.control);
        msg.msg_controllen = from.controllen;
        if (from.control && !inside(thread, from.control, from.controllen))
            result = -EFAULT;
    } else if (from.control && from.controllen) {
        room = from.controllen > CONTROL_MAX ? CONTROL_MAX : from.controllen;
        /* Heads and alignment take more on the host: nothing that fits the guest's buffer is cut. */
        msg.msg_controllen = 2 * room + CMSG64;
        control = malloc(msg.msg_controllen + room);
        msg.msg_control = control;
        if (control == NULL)
            result = -ENOMEM;
    }
    if (result == 0)
        result = WAIT3(thread, SYS_recvmsg, fd, &msg, flags);
    if (result > 0)
        iovecs_written(thread, msg.msg_iov, from.iovlen);
    if (result >= 0) {
        uint32_t out_flags = (uint32_t)msg.msg_flags;
        uint64_t length = msg.msg_controllen;
        if (control) {
            uint8_t *out = control + 2 * room + CMSG64;
            length = narrow_control(control, msg.msg_controllen, out, room, &out_flags);
            if (put(thread, from.control, out, length))
                result = -EFAULT;
        }
        uint32_t namelen = msg.msg_namelen;
        if (named) {
            namelen = namelen <= sizeof name ? address_guest(thread, name, namelen) : sizeof name;
            if (put(thread, from.name, name, namelen < from.namelen ? namelen : from.namelen))
                result = -EFAULT;
        }
        if (put_header(thread, addr, namelen, length, out_flags))
            result = -EFAULT;
    }
    free(control);
    iovecs_free(msg.msg_iov, small);
    return result;
}

int64_t emu_sys_sendmsg(emu_thread *thread, const uint64_t *args)
{
    return send_one(thread, (int)args[0], args[1], (uint32_t)args[2]);
}

int64_t emu_sys_recvmsg(emu_thread *thread, const uint64_t *args)
{
    return receive_one(thread, (int)args[0], args[1], (uint32_t)args[2]);
}

/* ---- several messages --------------------------------------------------------------------------------------- */

/* mmsghdr: a msghdr and the number of bytes, padded to a word. */
static uint64_t slot_size(emu_thread *thread)
{
    return header_size(thread) + (is_32(thread) ? 4 : 8);
}

static uint32_t slots(const uint64_t *args)
{
    return (uint32_t)args[2] > IOV_MAX ? IOV_MAX : (uint32_t)args[2];
}

int64_t emu_sys_sendmmsg(emu_thread *thread, const uint64_t *args)
{
    int64_t result = 0;
    uint32_t done = 0, count = slots(args);
    for (; done < count; done++) {
        uint64_t addr = args[1] + done * slot_size(thread);
        result = send_one(thread, (int)args[0], addr, (uint32_t)args[3]);
        if (result >= 0 && put_u32(thread, addr + header_size(thread), (uint32_t)result))
            result = -EFAULT;
        if (result < 0)
            break;
    }
    return done ? done : result;
}

static int64_t receive_many(emu_thread *thread, const uint64_t *args, bool wide)
{
    uint32_t done = 0, flags = (uint32_t)args[3] & ~(uint32_t)MSG_WAITFORONE, count = slots(args);
    struct timespec timeout, now, end = {0};
    int64_t result = 0;
    if (args[4]) {
        if (get_timespec(thread, args[4], &timeout, wide))
            return -EFAULT;
        if (timeout.tv_sec < 0 || timeout.tv_nsec < 0 || timeout.tv_nsec > 999999999)
            return -EINVAL;
        if (timeout.tv_sec > 1000000000)
            timeout.tv_sec = 1000000000; /* 31 years, and no overflow below */
        clock_gettime(CLOCK_MONOTONIC, &now);
        end.tv_sec = now.tv_sec + timeout.tv_sec + (now.tv_nsec + timeout.tv_nsec) / 1000000000;
        end.tv_nsec = (now.tv_nsec + timeout.tv_nsec) % 1000000000;
    }
    while (done < count) {
        uint64_t addr = args[1] + done * slot_size(thread);
        result = receive_one(thread, (int)args[0], addr, flags);
        if (result >= 0 && put_u32(thread, addr + header_size(thread), (uint32_t)result))
            result = -EFAULT;
        if (result < 0)
            break;
        done++;
        if (args[3] & MSG_WAITFORONE)
            flags |= MSG_DONTWAIT;
        if (args[4]) {
            /* Linux looks at the time after a datagram, not while it waits for one. */
            clock_gettime(CLOCK_MONOTONIC, &now);
            int64_t left = (end.tv_sec - now.tv_sec) * 1000000000 + end.tv_nsec - now.tv_nsec;
            if (left < 0)
                left = 0;
            timeout.tv_sec = left / 1000000000;
            timeout.tv_nsec = left % 1000000000;
            if (put_timespec(thread, args[4], &timeout, wide))
                return -EFAULT;
            if (left == 0)
                break;
        }
    }
    return done ? done : result;
}

int64_t emu_sys_recvmmsg(emu_thread *thread, const uint64_t *args)
{
    return receive_many(thread, args, false);
}

int64_t emu_sys_recvmmsg_time64(emu_thread *thread, const uint64_t *args)
{
    return receive_many(thread, args, true);
}

int64_t emu_sys_send(emu_thread *thread, const uint64_t *args)
{
    if (!inside(thread, args[1], args[2]))
        return -EFAULT;
    return WAIT4(thread, SYS_sendto, args[0], pointer(thread, args[1]), args[2], args[3]);
}

int64_t emu_sys_recv(emu_thread *thread, const uint64_t *args)
{
    if (!inside(thread, args[1], args[2]))
        return -EFAULT;
    return WAIT4(thread, SYS_recvfrom, args[0], pointer(thread, args[1]), args[2], args[3]);
}

/* ---- options -------------------------------------------------------------------------------------------------------- */

/* Options whose structures hold pointers, which nobody translates: a kernel without them. */
static bool holds_pointers(int level, int name)
{
    enum {
        TCP = 6,
        TCP_ZEROCOPY = 35,              /* TCP_ZEROCOPY_RECEIVE */
        TABLES = 64, TABLES_LAST = 65,  /* netfilter's; 66 and 67 are IPv6's traffic class */
        ARP_TABLES = 96, ARP_TABLES_LAST = 97,
        BRIDGES = 128, BRIDGES_LAST = 131, /* on the same level */
        SCTP = 132,
        SCTP_CONNECTX3 = 111,
        RDS = 276,
        XDP = 283,
        XDP_UMEM = 4,                   /* XDP_UMEM_REG */
    };
    switch (level) {
    case TCP:
        return name == TCP_ZEROCOPY;
    case SOL_IP:
        return (name >= TABLES && name <= TABLES_LAST) || (name >= ARP_TABLES && name <= ARP_TABLES_LAST) ||
               (name >= BRIDGES && name <= BRIDGES_LAST);
    case SOL_IPV6:
        return name >= TABLES && name <= TABLES_LAST;
    case SCTP:
        return name == SCTP_CONNECTX3;
    case XDP:
        return name == XDP_UMEM;
    default:
        return level == RDS;
    }
}

static bool is_timeout(int level, int name)
{
    return level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO);
}

static int64_t attach_filter(emu_thread *thread, const uint64_t *args)
{
    struct sock_fprog program = {0};
    unsigned word = thread->process->abi->word;
    uint64_t addr;
    if ((int32_t)args[4] != (int32_t)(2 * word))
        return -EINVAL;
    if (get(thread, &program.len, args[3], sizeof program.len) ||
        umem_word(umem_of(thread), args[3] + word, word, &addr) ||
        !inside(thread, addr, program.len * sizeof *program.filter))
        return -EFAULT;
    program.filter = pointer(thread, addr);
    return HOST5(SYS_setsockopt, args[0], args[1], args[2], &program, sizeof program);
}

int64_t emu_sys_setsockopt(emu_thread *thread, const uint64_t *args)
{
    int level = (int)args[1], name = (int)args[2];
    int32_t length = (int32_t)args[4];
    if (holds_pointers(level, name))
        return -ENOPROTOOPT;
    if (level == SOL_SOCKET && (name == SO_ATTACH_FILTER || name == SO_ATTACH_REUSEPORT_CBPF))
        return attach_filter(thread, args);
    if (is_32(thread) && is_timeout(level, name)) {
        struct timespec ts; /* a timeval: the same shape */
        if (length < 8)
            return -EINVAL;
        if (get_timespec(thread, args[3], &ts, false))
            return -EFAULT;
        return HOST5(SYS_setsockopt, args[0], level, name, &ts, sizeof ts);
    }
    if (args[3] && length > 0 && !inside(thread, args[3], (uint32_t)length))
        return -EFAULT;
    return HOST5(SYS_setsockopt, args[0], level, name, pointer(thread, args[3]), length);
}

int64_t emu_sys_getsockopt(emu_thread *thread, const uint64_t *args)
{
    int level = (int)args[1], name = (int)args[2];
    int32_t length;
    if (holds_pointers(level, name))
        return -ENOPROTOOPT;
    if (get(thread, &length, args[4], sizeof length))
        return -EFAULT;
    if (is_32(thread) && is_timeout(level, name)) {
        struct timespec ts;
        socklen_t size = sizeof ts;
        int32_t small[2];
        if (length < 0)
            return -EINVAL;
        long result = HOST5(SYS_getsockopt, args[0], level, name, &ts, &size);
        if (result < 0)
            return result;
        small[0] = (int32_t)ts.tv_sec;
        small[1] = (int32_t)ts.tv_nsec;
        size = length < (int32_t)sizeof small ? (uint32_t)length : sizeof small;
        return put(thread, args[3], small, size) || put_u32(thread, args[4], size) ? -EFAULT : 0;
    }
    /* SO_GET_FILTER counts instructions of 8 bytes. */
    uint64_t unit = level == SOL_SOCKET && name == SO_GET_FILTER ? 8 : 1;
    if (args[3] && length > 0 && !inside(thread, args[3], (uint32_t)length * unit))
        return -EFAULT;
    return HOST5(SYS_getsockopt, args[0], level, name, pointer(thread, args[3]), pointer(thread, args[4]));
}

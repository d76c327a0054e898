/*
 * System calls that take or give the address of a socket.
 *
 * The kernel has no call that binds or connects a unix socket relative to a
 * directory's descriptor, so a confined guest's are given the path of the
 * descriptor that the lookup gave: /proc/thread-self/fd/N, and for bind
 * /proc/thread-self/fd/N/name.  The kernel keeps that name for everybody who asks
 * whose socket it is; what the guest called it stands in a table that all
 * processes of the guest share, by a number which the kept name holds in its
 * redundant slashes: "/" is a zero, "./" a one.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>

#include "address.h"

enum { NAMES = 512, PATH_AT = offsetof(struct sockaddr_un, sun_path), PATH_ROOM = 108 };

struct names {
    _Atomic uint32_t last;
    struct {
        char host[PATH_ROOM], guest[PATH_ROOM];
    } of[NAMES];
};

static struct names *names;

void address_start(void)
{
    if (names != NULL)
        return;
    void *shared = mmap(NULL, sizeof *names, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    names = shared == MAP_FAILED ? NULL : shared;
}

/* The number as slashes, at most 2 * 9 + 1 bytes with the NUL. */
static void spell(uint32_t number, char out[24])
{
    int shift = 31;
    *out = 0;
    while (shift >= 0 && !(number >> shift & 1))
        shift--;
    for (; shift >= 0; shift--)
        strcat(out, number >> shift & 1 ? "./" : "/");
}

/* The name that the guest gave to a socket of that host name; NULL: nobody knows. */
static const char *spelled(const char *host)
{
    static const char folder[] = "/proc/thread-self/fd/";
    uint32_t number = 0;
    if (names == NULL || strncmp(host, folder, sizeof folder - 1) != 0)
        return NULL;
    const char *at = host + sizeof folder - 1;
    at += strspn(at, "0123456789");
    if (*at++ != '/')
        return NULL;
    for (; *at == '/' || (at[0] == '.' && at[1] == '/'); at++) {
        number = number << 1 | (*at == '.');
        at += *at == '.';
    }
    if (number == 0 || number >= NAMES || strncmp(names->of[number].host, host, PATH_ROOM) != 0)
        return NULL;
    return names->of[number].guest;
}

int address_get(emu_thread *thread, uint64_t addr, uint32_t size, bool binds, address *out)
{
    out->path.held = -1;
    out->size = size;
    out->id = 0;
    if (size > ADDRESS_MAX)
        return -EINVAL;
    memset(out->bytes, 0, sizeof out->bytes);
    if (get(thread, out->bytes, addr, size))
        return -EFAULT;
    uint16_t family;
    memcpy(&family, out->bytes, sizeof family);
    const char *name = (const char *)out->bytes + PATH_AT;
    if (thread->process->root == NULL || size <= PATH_AT || family != AF_UNIX || name[0] == 0 ||
        size > PATH_AT + PATH_ROOM)
        return 0;
    memcpy(out->name, name, PATH_ROOM);
    out->name[size - PATH_AT < PATH_ROOM ? size - PATH_AT : PATH_ROOM] = 0;
    int status = emu_path_find(thread->process, AT_FDCWD, out->name, binds ? EMU_PATH_NAME : 0, &out->path);
    if (status)
        return status;
    if (out->path.held < 0)
        return -ECONNREFUSED; /* something of /proc or /dev */
    char host[PATH_ROOM], code[24] = "";
    int length = snprintf(host, sizeof host, "%s", out->path.host);
    if (binds && names != NULL) {
        out->id = names->last++ % (NAMES - 1) + 1;
        spell(out->id, code);
        const char *last = strrchr(out->path.host, '/');
        int all = snprintf(host, sizeof host, "%.*s/%s%s", (int)(last - out->path.host), out->path.host, code, last + 1);
        if (all >= PATH_ROOM) {
            out->id = 0;
            length = snprintf(host, sizeof host, "%s", out->path.host);
        } else {
            length = all;
        }
    }
    if (length >= PATH_ROOM) {
        emu_path_done(&out->path);
        return -ENAMETOOLONG;
    }
    memcpy(out->bytes + PATH_AT, host, (size_t)length + 1);
    out->size = (socklen_t)(PATH_AT + length + 1);
    return 0;
}

void address_done(address *address, bool bound)
{
    if (bound && address->id != 0) {
        memcpy(names->of[address->id].host, address->bytes + PATH_AT, PATH_ROOM);
        memcpy(names->of[address->id].guest, address->name, PATH_ROOM);
    }
    emu_path_done(&address->path);
}

socklen_t address_guest(const emu_thread *thread, void *bytes, socklen_t size)
{
    struct sockaddr_un at;
    if (thread->process->root == NULL || size <= PATH_AT || size > sizeof at + 1)
        return size;
    memset(&at, 0, sizeof at);
    memcpy(&at, bytes, size < sizeof at ? size : sizeof at);
    const char *guest = at.sun_family == AF_UNIX && at.sun_path[0] != 0 ? spelled(at.sun_path) : NULL;
    if (guest == NULL)
        return size;
    size_t length = strnlen(guest, PATH_ROOM);
    memset((uint8_t *)bytes + PATH_AT, 0, PATH_ROOM + 1);
    memcpy((uint8_t *)bytes + PATH_AT, guest, length);
    return (socklen_t)(PATH_AT + length + 1);
}

int address_put(emu_thread *thread, uint64_t addr, uint64_t size_at, int32_t room, void *bytes, socklen_t size)
{
    socklen_t full = size > ADDRESS_MAX ? size : address_guest(thread, bytes, size);
    size_t fits = full < (uint32_t)room ? full : (uint32_t)room;
    return put(thread, addr, bytes, fits > ADDRESS_MAX ? ADDRESS_MAX : fits) || put_u32(thread, size_at, full) ? -EFAULT : 0;
}

/* ---- the calls -------------------------------------------------------------------------------------- */

static int64_t bind_to(emu_thread *thread, const uint64_t *args)
{
    address to;
    int status = address_get(thread, args[1], (uint32_t)args[2], true, &to);
    if (status)
        return status == -EEXIST ? -EADDRINUSE : status;
    long result = HOST3(SYS_bind, args[0], to.bytes, to.size);
    address_done(&to, result == 0);
    return result;
}

static int64_t connect_to(emu_thread *thread, const uint64_t *args)
{
    address to;
    int status = address_get(thread, args[1], (uint32_t)args[2], false, &to);
    if (status)
        return status;
    long result = WAIT3(thread, SYS_connect, args[0], to.bytes, to.size);
    address_done(&to, false);
    return result;
}

static int64_t send_to(emu_thread *thread, const uint64_t *args)
{
    address to;
    if (!inside(thread, args[1], args[2]))
        return -EFAULT;
    if (args[4] == 0)
        return WAIT6(thread, SYS_sendto, args[0], pointer(thread, args[1]), args[2], args[3], 0, 0);
    int status = address_get(thread, args[4], (uint32_t)args[5], false, &to);
    if (status)
        return status;
    long result = WAIT6(thread, SYS_sendto, args[0], pointer(thread, args[1]), args[2], args[3], to.bytes, to.size);
    address_done(&to, false);
    return result;
}

/* The room that the guest has for an address: 0, -EFAULT, -EINVAL. */
static int room_get(emu_thread *thread, uint64_t size_at, int32_t *room)
{
    if (get(thread, room, size_at, sizeof *room))
        return -EFAULT;
    return *room < 0 ? -EINVAL : 0;
}

static int64_t name_of(emu_thread *thread, long call, const uint64_t *args)
{
    uint8_t bytes[ADDRESS_MAX] = {0};
    socklen_t size = sizeof bytes;
    int32_t room;
    long result = HOST3(call, args[0], bytes, &size);
    if (result < 0)
        return result;
    int status = room_get(thread, args[2], &room);
    return status ? status : address_put(thread, args[1], args[2], room, bytes, size);
}

static int64_t accept_from(emu_thread *thread, const uint64_t *args, uint64_t flags)
{
    uint8_t bytes[ADDRESS_MAX] = {0};
    socklen_t size = sizeof bytes;
    int32_t room;
    if (args[1] == 0)
        return WAIT4(thread, SYS_accept4, args[0], 0, 0, flags);
    int status = room_get(thread, args[2], &room);
    if (status)
        return status;
    long result = WAIT4(thread, SYS_accept4, args[0], bytes, &size, flags);
    if (result >= 0 && address_put(thread, args[1], args[2], room, bytes, size)) {
        HOST2(SYS_close, result, 0);
        return -EFAULT;
    }
    return result;
}

static int64_t receive_from(emu_thread *thread, const uint64_t *args)
{
    uint8_t bytes[ADDRESS_MAX] = {0};
    socklen_t size = sizeof bytes;
    int32_t room;
    if (!inside(thread, args[1], args[2]))
        return -EFAULT;
    if (args[4] == 0)
        return WAIT6(thread, SYS_recvfrom, args[0], pointer(thread, args[1]), args[2], args[3], 0, 0);
    long result = WAIT6(thread, SYS_recvfrom, args[0], pointer(thread, args[1]), args[2], args[3], bytes, &size);
    if (result < 0)
        return result;
    int status = room_get(thread, args[5], &room);
    if (status == 0)
        status = address_put(thread, args[4], args[5], room, bytes, size);
    return status ? status : result;
}

bool address_call(emu_thread *thread, long call, const uint64_t *args, int64_t *result)
{
    switch (call) {
    case SYS_bind:
        *result = bind_to(thread, args);
        return true;
    case SYS_connect:
        *result = connect_to(thread, args);
        return true;
    case SYS_getsockname:
    case SYS_getpeername:
        *result = name_of(thread, call, args);
        return true;
    case SYS_accept:
        *result = accept_from(thread, args, 0);
        return true;
    case SYS_accept4:
        *result = accept_from(thread, args, args[3]);
        return true;
    case SYS_sendto:
        *result = send_to(thread, args);
        return true;
    case SYS_recvfrom:
        *result = receive_from(thread, args);
        return true;
    default:
        return false;
    }
}

/* Directories: what they list, and positions in them. */
#include <errno.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "own.h"
#include "path.h"
#include "syscall.h"

/* ---- positions of 32-bit guests ------------------------------------------------------------------------ */

/*
 * Positions in a directory are hashes of 63 bits on some file systems; a 32-bit
 * kernel asks them for hashes of 31 bits, which a 64-bit process cannot.  So a
 * position that does not fit is given a number, which lseek translates back.
 */
enum { COOKIE_FIRST = 0x40000000, COOKIES_MAX = 1 << 20, SLOTS = 2 * COOKIES_MAX };

static uint64_t *cookies; /* positions by number */
static uint32_t cookie_count;
static uint32_t *cookie_slots; /* number + 1 by hash; 0: free */

static uint64_t cookie_of(uint64_t position)
{
    if (position < COOKIE_FIRST)
        return position;
    if (cookies == NULL) {
        /* Untouched pages cost nothing. */
        cookies = calloc(COOKIES_MAX, sizeof *cookies);
        cookie_slots = calloc(SLOTS, sizeof *cookie_slots);
    }
    if (cookies == NULL || cookie_slots == NULL)
        return position & INT32_MAX;
    uint64_t slot = position * UINT64_C(0x9e3779b97f4a7c15) >> 43;
    while (cookie_slots[slot % SLOTS]) {
        uint32_t number = cookie_slots[slot % SLOTS] - 1;
        if (cookies[number] == position)
            return COOKIE_FIRST + number;
        slot++;
    }
    if (cookie_count == COOKIES_MAX)
        return position & INT32_MAX;
    cookies[cookie_count] = position;
    cookie_slots[slot % SLOTS] = ++cookie_count;
    return COOKIE_FIRST + cookie_count - 1;
}

static int64_t seek(int fd, uint64_t offset, uint64_t whence)
{
    struct stat st;
    bool numbered = offset - COOKIE_FIRST < cookie_count;
    bool directory = (cookie_count || whence == SEEK_CUR) && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    if (directory && numbered && whence == SEEK_SET)
        offset = cookies[offset - COOKIE_FIRST];
    long result = HOST3(SYS_lseek, fd, offset, whence);
    return directory && result > 0 ? (int64_t)cookie_of((uint64_t)result) : result;
}

/* ---- records --------------------------------------------------------------------------------------------- */

/* struct linux_dirent64, and struct linux_dirent of 64-bit ABIs: the name begins behind d_type, or before it. */
enum { RECORD_POSITION = 8, RECORD_LENGTH = 16, RECORD_NAME = 18, RECORD_NAME64 = 19 };

/* A directory of /proc that lists things which are not the guest's: the host's name of it. */
static bool partly_shown(emu_thread *thread, int fd, char folder[PATH_MAX])
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC && emu_path_host_name(fd, folder) == 0 &&
           emu_own_lists(thread->process, folder);
}

static long drop_hidden(emu_thread *thread, const char *folder, uint8_t *records, long size, unsigned name)
{
    long kept = 0;
    for (long at = 0; at < size;) {
        uint16_t length;
        memcpy(&length, records + at + RECORD_LENGTH, 2);
        if (length == 0)
            break;
        if (emu_own_shows(thread->process, folder, (const char *)records + at + name)) {
            memmove(records + kept, records + at, length);
            kept += length;
        }
        at += length;
    }
    return kept;
}

/* The host's call, without what is hidden; not the end where all of one answer was. */
static long records(emu_thread *thread, long call, int fd, uint8_t *to, size_t room)
{
    char folder[PATH_MAX];
    long got;
    bool partly = partly_shown(thread, fd, folder), more;
    do {
        got = HOST3(call, fd, to, room);
        more = partly && got > 0;
        if (more)
            got = drop_hidden(thread, folder, to, got, call == SYS_getdents64 ? RECORD_NAME64 : RECORD_NAME);
    } while (more && got == 0);
    return got;
}

/* In the guest's buffer. */
static int64_t put_records(emu_thread *thread, long call, const uint64_t *args)
{
    enum { CHUNK = 32768 };
    char folder[PATH_MAX];
    uint32_t room = (uint32_t)args[2];
    if (!partly_shown(thread, (int)args[0], folder))
        return HOST3(call, args[0], pointer(thread, args[1]), room);
    uint8_t *buffer = malloc(CHUNK);
    if (buffer == NULL)
        return -ENOMEM;
    long got = records(thread, call, (int)args[0], buffer, room < CHUNK ? room : CHUNK);
    if (got > 0 && put(thread, args[1], buffer, (size_t)got))
        got = -EFAULT;
    free(buffer);
    return got;
}

int64_t emu_sys_getdents64(emu_thread *thread, const uint64_t *args)
{
    int64_t got = put_records(thread, SYS_getdents64, args);
    if (!is_32(thread))
        return got;
    for (int64_t at = 0; at < got;) {
        uint8_t head[RECORD_NAME];
        if (get(thread, head, args[1] + (uint64_t)at, sizeof head))
            return -EFAULT;
        uint64_t position;
        uint16_t length;
        memcpy(&position, head + RECORD_POSITION, 8);
        memcpy(&length, head + RECORD_LENGTH, 2);
        position = cookie_of(position);
        if (put(thread, args[1] + (uint64_t)at + RECORD_POSITION, &position, 8))
            return -EFAULT;
        if (length == 0)
            break;
        at += length;
    }
    return got;
}

/* struct linux_dirent with longs of 32 bits, made from the records of getdents64. */
static int64_t narrow_records(emu_thread *thread, const uint64_t *args)
{
    enum { CHUNK = 4096, OLD_HEAD = 10 };
    _Alignas(8) uint8_t in[CHUNK];
    uint64_t room = args[2], done = 0;
    int fd = (int)args[0];
    for (;;) {
        /* A record of the old kind is never longer than its source: 10 bytes of head instead of 19. */
        size_t ask = room - done < CHUNK ? room - done : CHUNK;
        long got = records(thread, SYS_getdents64, fd, in, ask);
        if (got <= 0)
            return done && got == -EINVAL ? (int64_t)done : got < 0 && !done ? got : (int64_t)done;
        for (long at = 0; at < got;) {
            const uint8_t *record = in + at;
            uint64_t ino, offset;
            uint16_t length;
            uint8_t out[CHUNK];
            memcpy(&ino, record, 8);
            memcpy(&offset, record + 8, 8);
            offset = cookie_of(offset);
            memcpy(&length, record + 16, 2);
            const char *name = (const char *)record + 19;
            size_t size = (OLD_HEAD + strlen(name) + 2 + 3) & ~(size_t)3;
            memset(out, 0, size);
            memcpy(out, &ino, 4);
            memcpy(out + 4, &offset, 4);
            out[8] = (uint8_t)size;
            out[9] = (uint8_t)(size >> 8);
            memcpy(out + OLD_HEAD, name, strlen(name));
            out[size - 1] = record[18];
            if (put(thread, args[1] + done, out, size))
                return -EFAULT;
            done += size;
            at += length;
        }
    }
}

int64_t emu_sys_getdents(emu_thread *thread, const uint64_t *args)
{
    return is_32(thread) ? narrow_records(thread, args) : put_records(thread, SYS_getdents, args);
}

/* ---- positions ------------------------------------------------------------------------------------------- */

int64_t emu_sys_lseek(emu_thread *thread, const uint64_t *args)
{
    int64_t result = seek((int)args[0], args[1], args[2]);
    return result > INT32_MAX ? -EOVERFLOW : result;
}

int64_t emu_sys__llseek(emu_thread *thread, const uint64_t *args)
{
    int64_t result = seek((int)args[0], args[1] << 32 | (uint32_t)args[2], (uint32_t)args[4]);
    return result < 0 ? result : put(thread, args[3], &result, 8);
}

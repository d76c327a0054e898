/*
 * 9P2000.L on the wire (Linux' Documentation/filesystems/9p.rst names its
 * sources; include/net/9p/9p.h the numbers): little-endian fields, strings with
 * their length before them.
 */
#ifndef EMU_P9_WIRE_H
#define EMU_P9_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum p9_type { /* a request; its answer is one more */
    P9_LERROR = 6,
    P9_STATFS = 8,
    P9_LOPEN = 12,
    P9_LCREATE = 14,
    P9_SYMLINK = 16,
    P9_MKNOD = 18,
    P9_RENAME = 20,
    P9_READLINK = 22,
    P9_GETATTR = 24,
    P9_SETATTR = 26,
    P9_XATTRWALK = 30,
    P9_XATTRCREATE = 32,
    P9_READDIR = 40,
    P9_FSYNC = 50,
    P9_LOCK = 52,
    P9_GETLOCK = 54,
    P9_LINK = 70,
    P9_MKDIR = 72,
    P9_RENAMEAT = 74,
    P9_UNLINKAT = 76,
    P9_VERSION = 100,
    P9_AUTH = 102,
    P9_ATTACH = 104,
    P9_FLUSH = 108,
    P9_WALK = 110,
    P9_READ = 116,
    P9_WRITE = 118,
    P9_CLUNK = 120,
    P9_REMOVE = 122,
};

#define P9_HEADER 7u      /* size[4] type[1] tag[2] */
#define P9_NAME_MAX 255u
#define P9_WALK_MAX 16u
#define P9_QID_DIR 0x80
#define P9_QID_LINK 0x02

/* A message that is read, or one that grows; `bad` once it did not suffice. */
struct p9_message {
    uint8_t *data;
    uint32_t size, at;
    bool bad;
};

static inline uint64_t p9_take(struct p9_message *m, uint32_t width)
{
    uint64_t value = 0;
    if (m->bad || width > m->size - m->at) {
        m->bad = true;
        return 0;
    }
    memcpy(&value, m->data + m->at, width);
    m->at += width;
    return value;
}

static inline uint8_t p9_take8(struct p9_message *m) { return (uint8_t)p9_take(m, 1); }
static inline uint16_t p9_take16(struct p9_message *m) { return (uint16_t)p9_take(m, 2); }
static inline uint32_t p9_take32(struct p9_message *m) { return (uint32_t)p9_take(m, 4); }
static inline uint64_t p9_take64(struct p9_message *m) { return p9_take(m, 8); }

/* A string into out[size], ended by 0; one that is too long or holds a 0 is bad. */
static inline void p9_take_string(struct p9_message *m, char *out, uint32_t size)
{
    uint32_t length = p9_take16(m);
    out[0] = 0;
    if (m->bad || length >= size || length > m->size - m->at || memchr(m->data + m->at, 0, length) != NULL) {
        m->bad = true;
        return;
    }
    memcpy(out, m->data + m->at, length);
    out[length] = 0;
    m->at += length;
}

static inline void p9_put(struct p9_message *m, uint64_t value, uint32_t width)
{
    if (m->bad || width > m->size - m->at) {
        m->bad = true;
        return;
    }
    memcpy(m->data + m->at, &value, width);
    m->at += width;
}

static inline void p9_put_string(struct p9_message *m, const char *text)
{
    size_t length = strlen(text);
    p9_put(m, length, 2);
    if (m->bad || length > m->size - m->at) {
        m->bad = true;
        return;
    }
    memcpy(m->data + m->at, text, length);
    m->at += (uint32_t)length;
}

#endif

/*
 * Disk images: what a guest's disk is kept in on the host.
 *
 * An open image takes calls from any number of threads.  Calls are synchronous, and give 0 or a negative errno;
 * iovecs may point straight into a guest's RAM.  Offsets and lengths are in bytes, and lie inside emu_block_size().
 */
#ifndef EMU_BLOCK_H
#define EMU_BLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

typedef struct emu_block emu_block;

/* What the file holds.  PROBE looks at its first bytes. */
enum { EMU_BLOCK_PROBE, EMU_BLOCK_RAW, EMU_BLOCK_QCOW2 };

/*
 * What stands between a write and the disk.  WRITEBACK: the host's page cache, until a flush.  NONE: no page cache
 * (O_DIRECT), until a flush.  WRITETHROUGH: every write is flushed before it ends.  UNSAFE: a flush does nothing.
 */
enum { EMU_BLOCK_WRITEBACK, EMU_BLOCK_NONE, EMU_BLOCK_WRITETHROUGH, EMU_BLOCK_UNSAFE };

/*
 * Which files an image may stand on.  Whoever made the image chose the name, and the guest sees what is in the file:
 * BESIDE takes only what lies in the image's own folder, or below.
 */
enum { EMU_BLOCK_BACKING_ANY, EMU_BLOCK_BACKING_BESIDE, EMU_BLOCK_BACKING_NONE };

/* All zero is a sound choice for an image that one trusts. */
typedef struct emu_block_options {
    uint32_t format;     /* EMU_BLOCK_PROBE ... */
    uint32_t cache;      /* EMU_BLOCK_WRITEBACK ... */
    uint32_t read_only;
    uint32_t discard;    /* a discard frees the host's space; else it does nothing */
    uint32_t backing;    /* EMU_BLOCK_BACKING_ANY ... */
    uint32_t no_lock;    /* the image is neither locked nor are others' locks looked at */
} emu_block_options;

typedef struct emu_block_info {
    uint64_t size;         /* what the guest sees, in bytes, a multiple of 512 */
    uint64_t allocated;    /* what the file takes of the host's disk, in bytes */
    uint64_t cluster_size; /* unit of allocation; 0 for raw */
    uint32_t format;       /* EMU_BLOCK_RAW or EMU_BLOCK_QCOW2 */
    uint32_t cache;
    uint32_t read_only;
    uint32_t can_discard;
    uint32_t block_size;   /* smaller or unaligned requests cost a copy; at least 512 */
    /* qcow2's */
    uint32_t version, refcount_bits, snapshots, dirty, corrupt;
    const char *backing;   /* the file that the image stands on, as it was opened; NULL without one */
} emu_block_info;

/* What a check of an image's tables found. */
typedef struct emu_block_report {
    uint64_t allocated; /* clusters of the guest's data */
    uint64_t errors;    /* tables that contradict each other: data may be lost */
    uint64_t leaks;     /* clusters of the file that nothing refers to */
    uint64_t repaired;  /* of both */
} emu_block_report;

/* What of a new image's space is taken at once: nothing, its tables, all of it. */
enum { EMU_BLOCK_OFF, EMU_BLOCK_METADATA, EMU_BLOCK_FALLOC };

/* A new image.  The caller has checked that qcow2's numbers are such as it has. */
typedef struct emu_block_new {
    uint64_t size;
    uint64_t cluster_size;
    uint32_t format;
    uint32_t preallocation;
    uint32_t version, refcount_bits, lazy_refcounts;
    const char *backing, *backing_format; /* NULL: none */
} emu_block_new;

/* 0, or `error` has one line; the file must not exist, and does not if this fails. */
int emu_block_create(const char *path, const emu_block_new *image, char *error, size_t error_size);

/* NULL: `error` has one line, cause and remedy. */
emu_block *emu_block_open(const char *path, const emu_block_options *options, char *error, size_t error_size);
/* Writes what is held back and closes, whatever fails: then the error is given. */
int emu_block_close(emu_block *block);

uint64_t emu_block_size(const emu_block *block);
void emu_block_describe(emu_block *block, emu_block_info *info);

/* All of it, or an error. */
int emu_block_readv(emu_block *block, const struct iovec *iov, int count, uint64_t offset);
int emu_block_writev(emu_block *block, const struct iovec *iov, int count, uint64_t offset);
/* Everything written before is on the disk, as far as the cache mode promises. */
int emu_block_flush(emu_block *block);
/* The range's contents are no longer needed. */
int emu_block_discard(emu_block *block, uint64_t offset, uint64_t length);
/* The range reads as zeroes; with may_unmap its space may go as well. */
int emu_block_write_zeroes(emu_block *block, uint64_t offset, uint64_t length, int may_unmap);
/* Compares an image's tables with each other; raw images have none.  With repair, counts are set right. */
int emu_block_check(emu_block *block, int repair, emu_block_report *report);
/* A new size, a multiple of 512; what is added reads as zeroes. */
int emu_block_resize(emu_block *block, uint64_t size);

#endif

/*
 * qcow2, versions 2 and 3, after QEMU's "Qcow2 Image File Format".
 *
 * A guest's clusters are found by two levels of tables (L1, L2); how often each cluster of the file is referred to
 * is counted in refcount blocks, which a table finds.  L1 and the refcount table are in memory; of L2 tables and
 * refcount blocks pages are kept (qcow2_pages.c) and written later, in an order that leaves a sound image at any time:
 *
 *     data, copies   at once, to clusters that nothing refers to yet
 *     refcounts up   before what refers to the clusters
 *     L2, then L1    after a sync, which makes the above true on the disk as well
 *     refcounts down after another: only then is nothing left that refers to them
 *
 * So whatever end a process or a host has, a cluster may be lost until the image is repaired, but none is used twice.
 *
 * Locks, in their order: `map` shared by who reads tables and moves data of clusters that stay where they are, alone by
 * who changes tables; `pages` by who reads tables with `map` shared; the file's own.
 */
#ifndef EMU_BLOCK_QCOW2_H
#define EMU_BLOCK_QCOW2_H

#include "image.h"

#include <endian.h>

/* The header's fields, by their offset. */
enum {
    HEADER_MAGIC = 0,
    HEADER_VERSION = 4,
    HEADER_BACKING_OFFSET = 8,
    HEADER_BACKING_SIZE = 16,
    HEADER_CLUSTER_BITS = 20,
    HEADER_SIZE = 24,
    HEADER_CRYPT = 32,
    HEADER_L1_SIZE = 36,
    HEADER_L1_OFFSET = 40,
    HEADER_TABLE_OFFSET = 48,
    HEADER_TABLE_CLUSTERS = 56,
    HEADER_SNAPSHOTS = 60,
    HEADER_SNAPSHOTS_OFFSET = 64,
    HEADER_V2_LENGTH = 72,
    HEADER_INCOMPATIBLE = 72,
    HEADER_COMPATIBLE = 80,
    HEADER_AUTOCLEAR = 88,
    HEADER_REFCOUNT_ORDER = 96,
    HEADER_LENGTH = 100,
    HEADER_V3_LENGTH = 104,
    HEADER_COMPRESSION = 104,
};

enum {
    INCOMPATIBLE_DIRTY = 1 << 0,
    INCOMPATIBLE_CORRUPT = 1 << 1,
    INCOMPATIBLE_DATA_FILE = 1 << 2,
    INCOMPATIBLE_COMPRESSION = 1 << 3,
    INCOMPATIBLE_EXTENDED_L2 = 1 << 4,
    COMPATIBLE_LAZY_REFCOUNTS = 1 << 0,
};

enum { EXTENSION_END = 0, EXTENSION_BACKING_FORMAT = (int)0xE2792ACA };
enum { COMPRESSION_ZLIB, COMPRESSION_ZSTD };

/* What QEMU takes as well. */
enum {
    MIN_CLUSTER_BITS = 9,
    MAX_CLUSTER_BITS = 21,
    MAX_L1_BYTES = 32 << 20,
    MAX_TABLE_BYTES = 8 << 20,
    MAX_BACKING_NAME = 1023,
    MAX_SNAPSHOTS = 65536,
    MAX_SNAPSHOT_EXTRA = 1024,
};

#define ENTRY_COPIED (UINT64_C(1) << 63) /* L1 and L2: the only reference; it may be written in place */
#define ENTRY_COMPRESSED (UINT64_C(1) << 62)
#define ENTRY_ZERO UINT64_C(1)
#define ENTRY_OFFSET UINT64_C(0x00fffffffffffe00)
#define TABLE_OFFSET UINT64_C(0xfffffffffffffe00)

typedef struct qcow2_page {
    uint64_t offset;
    char *data;
    int32_t next; /* in its bucket; -1 ends it */
    bool of_l2, dirty, recent;
} qcow2_page;

typedef struct qcow2_range {
    uint64_t first, count; /* in clusters of the file */
} qcow2_range;

typedef struct emu_qcow2 {
    emu_block block;
    emu_file *file;
    emu_block *backing;
    uint32_t version, cluster_bits, l2_bits;
    uint64_t cluster; /* in bytes */
    uint64_t incompatible;
    uint32_t compression;
    bool writable;
    _Atomic bool corrupt; /* found so: nothing is written any more */

    pthread_rwlock_t map;
    pthread_mutex_t pages_lock;

    uint64_t l1_offset;
    uint32_t l1_size; /* entries */
    uint64_t *l1;
    uint8_t *l1_dirty; /* per L1_SECTOR entries */
    bool l1_any_dirty;

    uint32_t refcount_order, block_bits; /* 2^block_bits refcounts are in a block */
    uint64_t table_offset, table_size;   /* entries */
    uint64_t *table;
    uint64_t free_hint; /* no cluster below is free */
    uint64_t end;       /* no cluster from here on was given out */
    qcow2_range *released; /* references that go with the next flush */
    size_t released_count, released_room;

    uint64_t *metadata; /* a hash set of the clusters that hold tables, as index + 1 */
    uint64_t metadata_room, metadata_count;

    uint32_t snapshots;
    uint64_t snapshots_offset, snapshots_bytes;

    qcow2_page *pages;
    int32_t *buckets;
    uint32_t page_bytes, pages_used, pages_hand, dirty_blocks, dirty_l2;

    pthread_mutex_t inflate_lock;
    uint64_t inflated_entry; /* of the cluster in `inflated`; 0: none */
    char *inflated, *deflated;
} emu_qcow2;

enum { L1_SECTOR = 64 };

static inline emu_qcow2 *qcow2_of(emu_block *block) { return (emu_qcow2 *)block; }
static inline uint64_t qcow2_down(const emu_qcow2 *q, uint64_t value) { return value & ~(q->cluster - 1); }
static inline uint64_t qcow2_up(const emu_qcow2 *q, uint64_t value) { return qcow2_down(q, value + q->cluster - 1); }
static inline uint64_t qcow2_clusters(const emu_qcow2 *q, uint64_t bytes) { return qcow2_up(q, bytes) >> q->cluster_bits; }

/* qcow2.c: the image is not what it should be; it takes no writes from now on.  Always -EIO. */
int qcow2_broken(emu_qcow2 *q);
/* With `map` held alone: all is on the disk, and what was released is free. */
int qcow2_flush_alone(emu_qcow2 *q);
/* The same where much is waiting to be freed: before anything is changed. */
int qcow2_flush_many(emu_qcow2 *q);
int qcow2_put64(emu_qcow2 *q, uint64_t offset, uint64_t value);

/* qcow2_header.c: reads and checks all that is in memory; 0, or a line for the user. */
int qcow2_read_header(emu_qcow2 *q, const emu_block_options *options, const emu_chain *chain, char *error,
                      size_t error_size);

typedef struct qcow2_snapshot {
    uint64_t l1_offset, l1_size, end; /* end: where the next one's begins */
} qcow2_snapshot;
int qcow2_snapshot_at(emu_qcow2 *q, uint64_t offset, qcow2_snapshot *snapshot);

/* qcow2_metadata.c: which clusters hold tables.  Adding is -EEXIST where one is there already. */
int qcow2_metadata_add(emu_qcow2 *q, uint64_t offset, uint64_t bytes);
void qcow2_metadata_remove(emu_qcow2 *q, uint64_t offset, uint64_t bytes);
bool qcow2_metadata_has(const emu_qcow2 *q, uint64_t offset, uint64_t bytes);

/* qcow2_pages.c.  Callers hold `map` alone, or `pages_lock`.  A page is good until the next call. */
int qcow2_pages_init(emu_qcow2 *q);
void qcow2_pages_free(emu_qcow2 *q);
int qcow2_page_at(emu_qcow2 *q, uint64_t offset, bool of_l2, qcow2_page **page);
void qcow2_page_changed(emu_qcow2 *q, qcow2_page *page);
void qcow2_pages_forget(emu_qcow2 *q, uint64_t offset, uint64_t bytes);
/* Writes all that is held back, in the order above, but for references that go. */
int qcow2_write_back(emu_qcow2 *q);

/* qcow2_refcount.c, with `map` held alone. */
int qcow2_refcount(emu_qcow2 *q, uint64_t index, uint64_t *count);
int qcow2_set_refcount(emu_qcow2 *q, uint64_t index, uint64_t count);
uint64_t qcow2_max_refcount(const emu_qcow2 *q);
/* Room for more references that go; what needs them is done only when there is. */
int qcow2_release_room(emu_qcow2 *q, size_t ranges);
void qcow2_release(emu_qcow2 *q, uint64_t offset, uint64_t bytes);
/* After a sync: what was released is free. */
int qcow2_settle(emu_qcow2 *q);

/* qcow2_allocate.c, with `map` held alone.  Up to `want` clusters that follow each other, at least one. */
int qcow2_allocate(emu_qcow2 *q, uint64_t want, uint64_t *offset, uint64_t *got);
/* So many in one piece, at the end of the file. */
int qcow2_allocate_area(emu_qcow2 *q, uint64_t clusters, uint64_t *offset);
/* A block for the counts of clusters that may be in use. */
int qcow2_add_block_for(emu_qcow2 *q, uint64_t block);
/* Gives back what nothing has referred to. */
void qcow2_unallocate(emu_qcow2 *q, uint64_t offset, uint64_t clusters);

/* qcow2_map.c */
enum { EXTENT_HOLE, EXTENT_ZERO, EXTENT_DATA, EXTENT_COMPRESSED };
typedef struct qcow2_extent {
    int kind;
    bool copied;     /* ZERO and DATA: it may be written in place */
    uint64_t host;   /* ZERO: 0 where no cluster is kept; COMPRESSED: the L2 entry */
    uint64_t length; /* of what is the same and follows itself in the file */
} qcow2_extent;
/* With `map` held, shared or alone. */
int qcow2_lookup(emu_qcow2 *q, uint64_t offset, uint64_t length, qcow2_extent *extent);
/* With `map` held alone: the L2 table of a guest's offset, ours alone. */
int qcow2_own_l2(emu_qcow2 *q, uint64_t offset, uint64_t *l2);
/* Sets `count` entries of the table from `index` on, to `entry`, `entry + step` ... and releases what was there.
   Gives in *done how many were set. */
int qcow2_set_entries(emu_qcow2 *q, uint64_t l2, uint64_t index, uint64_t count, uint64_t entry, uint64_t step,
                      uint64_t *done);
/* Bytes of the file that a compressed cluster lies in. */
void qcow2_compressed_place(const emu_qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *bytes);

/* qcow2_read.c, with `map` held. */
int qcow2_read(emu_qcow2 *q, const struct iovec *iov, int count, uint64_t skip, uint64_t length, uint64_t offset);
/* Whether the range reads as zeroes without looking at data. */
int qcow2_reads_zero(emu_qcow2 *q, uint64_t offset, uint64_t length, bool *zero);

/* qcow2_write.c */
int qcow2_writev(emu_block *block, const struct iovec *iov, int count, uint64_t skip, uint64_t length, uint64_t offset);
int qcow2_write_alone(emu_qcow2 *q, const struct iovec *iov, int count, uint64_t skip, uint64_t length, uint64_t offset);

/* qcow2_zero.c */
int qcow2_discard(emu_block *block, uint64_t offset, uint64_t length);
int qcow2_write_zeroes(emu_block *block, uint64_t offset, uint64_t length, int may_unmap);
enum { ZERO_KEEP, ZERO_UNMAP, ZERO_DISCARD, ZERO_DROP };
/* ZERO_KEEP, ZERO_UNMAP: it reads as zeroes.  ZERO_DISCARD: it may read as anything.  ZERO_DROP: the clusters go, with
   what they hold, as at the end of an image that becomes smaller. */
int qcow2_zero_alone(emu_qcow2 *q, uint64_t offset, uint64_t length, int mode);

/* qcow2_resize.c */
int qcow2_resize(emu_block *block, uint64_t size);

/* qcow2_check.c, with `map` held alone. */
int qcow2_check(emu_qcow2 *q, bool repair, emu_block_report *report);

/* inflate.c: raw deflate; 0 if `out` was filled. */
int emu_inflate(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size);
/* zstd.c: 0 if `out` was filled, -ENOTSUP without the library. */
int emu_zstd(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size);

#endif

/* The header and the tables that are in memory: read once, and nothing of them believed. */
#include "qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_ROOM = 512, EXTENSIONS_MOST = 256, FORMAT_NAME = 16 };

typedef struct reader {
    emu_qcow2 *q;
    const char *path;
    uint8_t header[HEADER_ROOM];
    uint64_t length; /* of the header */
    char backing[MAX_BACKING_NAME + 1];
    char backing_format[FORMAT_NAME];
    char *error;
    size_t error_size;
} reader;

#define REFUSE(r, ...) (emu_block_refuse((r)->error, (r)->error_size, __VA_ARGS__), -EINVAL)
#define REPAIR "repair it with `qemu-img check -r all`"

static uint32_t field32(const reader *r, unsigned at)
{
    uint32_t value;
    memcpy(&value, r->header + at, 4);
    return be32toh(value);
}

static uint64_t field64(const reader *r, unsigned at)
{
    uint64_t value;
    memcpy(&value, r->header + at, 8);
    return be64toh(value);
}

static int refuse_io(reader *r, int failed)
{
    return REFUSE(r, "%s: %s: check the host's disk", r->path, strerror(-failed));
}

/* -- the header itself ----------------------------------------------------- */

static int read_features(reader *r)
{
    emu_qcow2 *q = r->q;
    q->incompatible = field64(r, HEADER_INCOMPATIBLE);
    const uint64_t known = INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_COMPRESSION;
    if (q->incompatible & INCOMPATIBLE_DATA_FILE)
        return REFUSE(r, "%s: its data is in another file, which emu does not follow: convert it with `qemu-img convert`",
                      r->path);
    if (q->incompatible & INCOMPATIBLE_EXTENDED_L2)
        return REFUSE(r, "%s: it has subclusters (extended_l2), which emu does not read: convert it with "
                         "`qemu-img convert -o extended_l2=off`", r->path);
    if (q->incompatible & ~known)
        return REFUSE(r, "%s: it has features that emu does not know (%#llx): convert it with `qemu-img convert`",
                      r->path, (unsigned long long)(q->incompatible & ~known));
    if (q->incompatible & INCOMPATIBLE_COMPRESSION) {
        if (r->length <= HEADER_COMPRESSION || r->header[HEADER_COMPRESSION] > COMPRESSION_ZSTD)
            return REFUSE(r, "%s: it is compressed in a way that emu does not know: convert it with `qemu-img convert`",
                          r->path);
        q->compression = r->header[HEADER_COMPRESSION];
    }
    if ((q->incompatible & INCOMPATIBLE_CORRUPT) && q->writable)
        return REFUSE(r, "%s: the image is marked as corrupt: " REPAIR ", or open it read-only", r->path);
    return 0;
}

static int read_fields(reader *r)
{
    emu_qcow2 *q = r->q;
    if (q->file->size < HEADER_V2_LENGTH || emu_block_probe(r->header, HEADER_ROOM) != EMU_BLOCK_QCOW2)
        return REFUSE(r, "%s: not a qcow2 image: give its format, format=raw", r->path);
    q->version = field32(r, HEADER_VERSION);
    if (q->version != 2 && q->version != 3)
        return REFUSE(r, "%s: version %u of qcow2 is none that emu knows: convert it with `qemu-img convert -O qcow2`",
                      r->path, q->version);
    q->cluster_bits = field32(r, HEADER_CLUSTER_BITS);
    if (q->cluster_bits < MIN_CLUSTER_BITS || q->cluster_bits > MAX_CLUSTER_BITS)
        return REFUSE(r, "%s: clusters of 2^%u bytes are none that qcow2 has: the image is damaged: take another copy",
                      r->path, q->cluster_bits);
    q->cluster = UINT64_C(1) << q->cluster_bits;
    q->l2_bits = q->cluster_bits - 3;
    if (field32(r, HEADER_CRYPT) != 0)
        return REFUSE(r, "%s: the image is encrypted: convert it to a plain one with `qemu-img convert`", r->path);
    r->length = HEADER_V2_LENGTH;
    q->refcount_order = 4;
    if (q->version == 3) {
        r->length = field32(r, HEADER_LENGTH);
        q->refcount_order = field32(r, HEADER_REFCOUNT_ORDER);
        if (r->length < HEADER_V3_LENGTH || r->length > q->cluster || q->refcount_order > 6)
            return REFUSE(r, "%s: its header is damaged (%llu bytes, refcounts of 2^%u bits): take another copy", r->path,
                          (unsigned long long)r->length, q->refcount_order);
        int failed = read_features(r);
        if (failed != 0)
            return failed;
    }
    q->block_bits = q->cluster_bits + 3 - q->refcount_order;
    q->block.size = field64(r, HEADER_SIZE);
    if (q->block.size > (uint64_t)INT64_MAX - q->cluster)
        return REFUSE(r, "%s: a disk of %llu bytes is too large: the image is damaged: take another copy", r->path,
                      (unsigned long long)q->block.size);
    q->block.size = (q->block.size + 511) & ~UINT64_C(511);
    return 0;
}

/* Extensions stand behind the header, up to the name of the backing file or the cluster's end. */
static int read_extensions(reader *r)
{
    const emu_qcow2 *q = r->q;
    const uint64_t name = field64(r, HEADER_BACKING_OFFSET), end = name != 0 && name < q->cluster ? name : q->cluster;
    uint64_t at = r->length;
    for (int i = 0; i < EXTENSIONS_MOST && at + 8 <= end; i++) {
        uint32_t head[2];
        int failed = emu_file_read(q->file, head, sizeof head, at);
        if (failed != 0)
            return refuse_io(r, failed);
        const uint32_t type = be32toh(head[0]), length = be32toh(head[1]);
        at += sizeof head;
        if (type == EXTENSION_END)
            return 0;
        if (length > end - at)
            return REFUSE(r, "%s: an extension of its header is longer than there is room: " REPAIR, r->path);
        if (type == (uint32_t)EXTENSION_BACKING_FORMAT) {
            if (length >= FORMAT_NAME)
                return REFUSE(r, "%s: its backing file's format is none that emu knows: name another with "
                                 "`qemu-img rebase -u -F`", r->path);
            failed = emu_file_read(q->file, r->backing_format, length, at);
            if (failed != 0)
                return refuse_io(r, failed);
        }
        at += (length + 7) & ~UINT32_C(7);
    }
    return 0;
}

/* -- tables ---------------------------------------------------------------- */

/* A table of 64-bit entries, from the file into memory. */
static int read_table(reader *r, const char *what, uint64_t offset, uint64_t entries, uint64_t **table)
{
    const emu_qcow2 *q = r->q;
    const uint64_t bytes = entries * 8;
    if ((offset & (q->cluster - 1)) != 0 || (entries > 0 && (offset == 0 || offset >= q->file->size ||
                                                             bytes > qcow2_up(q, q->file->size) - offset)))
        return REFUSE(r, "%s: its %s (%llu bytes at %#llx) is not inside the file: take another copy", r->path, what,
                      (unsigned long long)bytes, (unsigned long long)offset);
    *table = calloc(entries + 1, 8);
    if (*table == NULL)
        return REFUSE(r, "%s: no memory left: free some", r->path);
    int failed = emu_file_read(q->file, *table, bytes, offset);
    if (failed != 0)
        return refuse_io(r, failed);
    for (uint64_t i = 0; i < entries; i++)
        (*table)[i] = be64toh((*table)[i]);
    return 0;
}

static int read_tables(reader *r)
{
    emu_qcow2 *q = r->q;
    const unsigned covers = q->cluster_bits + q->l2_bits;
    const uint64_t needed = (q->block.size + (UINT64_C(1) << covers) - 1) >> covers;
    q->l1_size = field32(r, HEADER_L1_SIZE);
    q->l1_offset = field64(r, HEADER_L1_OFFSET);
    if (q->l1_size > MAX_L1_BYTES / 8 || q->l1_size < needed)
        return REFUSE(r, "%s: a first table of %u entries does not suit a disk of %llu bytes: take another copy", r->path,
                      q->l1_size, (unsigned long long)q->block.size);
    int failed = read_table(r, "first table", q->l1_offset, q->l1_size, &q->l1);
    if (failed != 0)
        return failed;
    const uint64_t table_clusters = field32(r, HEADER_TABLE_CLUSTERS);
    q->table_offset = field64(r, HEADER_TABLE_OFFSET);
    if (table_clusters == 0 || table_clusters << q->cluster_bits > MAX_TABLE_BYTES)
        return REFUSE(r, "%s: a refcount table of %llu clusters is none that qcow2 has: " REPAIR, r->path,
                      (unsigned long long)table_clusters);
    q->table_size = (table_clusters << q->cluster_bits) / 8;
    return read_table(r, "refcount table", q->table_offset, q->table_size, &q->table);
}

/* Enters a table that must be in the file, and in no other's place. */
static int claim(reader *r, const char *what, uint64_t offset, uint64_t bytes)
{
    emu_qcow2 *q = r->q;
    if ((offset & (q->cluster - 1)) != 0 || offset >= q->file->size || bytes > qcow2_up(q, q->file->size) - offset)
        return REFUSE(r, "%s: a table (%s at %#llx) is not inside the file: " REPAIR ", or open it read-only", r->path,
                      what, (unsigned long long)offset);
    int failed = qcow2_metadata_add(q, offset, bytes);
    if (failed == -EEXIST)
        return REFUSE(r, "%s: a table (%s at %#llx) lies over another: " REPAIR ", or open it read-only", r->path, what,
                      (unsigned long long)offset);
    return failed != 0 ? REFUSE(r, "%s: no memory left: free some", r->path) : 0;
}

/* All that may not be written by a guest.  Snapshots may share L2 tables with the image, so theirs are left out. */
static int claim_all(reader *r)
{
    emu_qcow2 *q = r->q;
    int failed = claim(r, "header", 0, q->cluster);
    if (failed == 0 && q->l1_size > 0)
        failed = claim(r, "L1", q->l1_offset, (uint64_t)q->l1_size * 8);
    if (failed == 0)
        failed = claim(r, "refcount table", q->table_offset, q->table_size * 8);
    for (uint64_t i = 0; i < q->table_size && failed == 0; i++)
        if (q->table[i] != 0)
            failed = claim(r, "refcounts", q->table[i], q->cluster);
    for (uint64_t i = 0; i < q->l1_size && failed == 0; i++)
        if ((q->l1[i] & ENTRY_OFFSET) != 0)
            failed = claim(r, "L2", q->l1[i] & ENTRY_OFFSET, q->cluster);
    return failed;
}

static int claim_snapshots(reader *r)
{
    emu_qcow2 *q = r->q;
    uint64_t at = q->snapshots_offset;
    int failed = 0;
    for (uint32_t i = 0; i < q->snapshots && failed == 0; i++) {
        qcow2_snapshot snapshot;
        failed = qcow2_snapshot_at(q, at, &snapshot);
        if (failed != 0)
            return REFUSE(r, "%s: its table of snapshots is damaged: " REPAIR ", or open it read-only", r->path);
        if (snapshot.l1_size > 0)
            failed = claim(r, "a snapshot's L1", snapshot.l1_offset, snapshot.l1_size * 8);
        at = snapshot.end;
    }
    if (failed == 0 && q->snapshots > 0)
        failed = claim(r, "snapshots", q->snapshots_offset, at - q->snapshots_offset);
    return failed;
}

int qcow2_snapshot_at(emu_qcow2 *q, uint64_t offset, qcow2_snapshot *snapshot)
{
    uint8_t head[40];
    if (offset >= q->file->size)
        return -EIO;
    int failed = emu_file_read(q->file, head, sizeof head, offset);
    if (failed != 0)
        return failed;
    uint32_t size, extra;
    uint16_t id, name;
    memcpy(&snapshot->l1_offset, head, 8);
    memcpy(&size, head + 8, 4);
    memcpy(&id, head + 12, 2);
    memcpy(&name, head + 14, 2);
    memcpy(&extra, head + 36, 4);
    snapshot->l1_offset = be64toh(snapshot->l1_offset);
    snapshot->l1_size = be32toh(size);
    snapshot->end = (offset + sizeof head + be32toh(extra) + be16toh(id) + be16toh(name) + 7) & ~UINT64_C(7);
    if (be32toh(extra) > MAX_SNAPSHOT_EXTRA || snapshot->l1_size > MAX_L1_BYTES / 8 ||
        (snapshot->l1_offset & (q->cluster - 1)) != 0)
        return -EIO;
    return 0;
}

/* -- backing files --------------------------------------------------------- */

static int read_backing_name(reader *r)
{
    const emu_qcow2 *q = r->q;
    const uint64_t offset = field64(r, HEADER_BACKING_OFFSET), size = field32(r, HEADER_BACKING_SIZE);
    if (offset == 0 || size == 0)
        return 0;
    if (size > MAX_BACKING_NAME || offset > q->cluster || size > q->cluster - offset)
        return REFUSE(r, "%s: its backing file's name is not in the header: name another with `qemu-img rebase -u`",
                      r->path);
    int failed = emu_file_read(q->file, r->backing, size, offset);
    if (failed != 0)
        return refuse_io(r, failed);
    if (strlen(r->backing) != size)
        return REFUSE(r, "%s: its backing file's name is damaged: name another with `qemu-img rebase -u`", r->path);
    return 0;
}

/* The name as seen from here: names are relative to the image that has them. */
static int backing_path(const reader *r, char *path, size_t room)
{
    const char *slash = strrchr(r->path, '/');
    int folder = r->backing[0] == '/' || slash == NULL ? 0 : (int)(slash + 1 - r->path);
    int length = snprintf(path, room, "%.*s%s", folder, r->path, r->backing);
    return length < 0 || (size_t)length >= room ? -ENAMETOOLONG : 0;
}

/* Whether a file lies in the image's folder or below, wherever links lead; one that is not there does not matter. */
static int is_beside(const reader *r, const char *path)
{
    char *image = realpath(r->path, NULL), *other = realpath(path, NULL);
    int beside = image != NULL;
    if (image != NULL && other != NULL) {
        size_t folder = (size_t)(strrchr(image, '/') + 1 - image);
        beside = strncmp(image, other, folder) == 0;
    }
    free(image);
    free(other);
    return beside;
}

static int open_backing(reader *r, const emu_block_options *options, const emu_chain *chain)
{
    emu_qcow2 *q = r->q;
    char path[4096], cause[900];
    if (r->backing[0] == 0)
        return 0;
    if (options->backing == EMU_BLOCK_BACKING_NONE)
        return REFUSE(r, "%s: it has a backing file (%s), which was forbidden: allow it, or convert the image with "
                         "`qemu-img convert`", r->path, r->backing);
    /* As QEMU reads names, what stands before a colon is a protocol. */
    const char *colon = strchr(r->backing, ':'), *slash = strchr(r->backing, '/');
    if (colon != NULL && (slash == NULL || colon < slash))
        return REFUSE(r, "%s: its backing file (%s) is not on this host's disk: name a file with `qemu-img rebase -u`",
                      r->path, r->backing);
    emu_block_options below = {.cache = options->cache, .read_only = 1, .no_lock = options->no_lock,
                               .backing = options->backing};
    if (strcmp(r->backing_format, "raw") == 0)
        below.format = EMU_BLOCK_RAW;
    else if (strcmp(r->backing_format, "qcow2") == 0)
        below.format = EMU_BLOCK_QCOW2;
    else if (r->backing_format[0] != 0)
        return REFUSE(r, "%s: its backing file is %s, which emu does not read: convert it with `qemu-img convert`",
                      r->path, r->backing_format);
    if (backing_path(r, path, sizeof path) != 0)
        return REFUSE(r, "%s: its backing file's name is too long: move both to a shorter folder", r->path);
    if (options->backing == EMU_BLOCK_BACKING_BESIDE && !is_beside(r, path))
        return REFUSE(r, "%s: it stands on %s, outside of its folder, and the guest would see what is in there: say "
                         "backing=any if you trust the image", r->path, path);
    q->backing = emu_block_open_below(path, &below, chain, cause, sizeof cause);
    if (q->backing == NULL && chain->above != NULL)
        return REFUSE(r, "%s", cause); /* the lowest says why, the one that the user named what it is for */
    if (q->backing == NULL)
        return REFUSE(r, "%s: its backing file cannot be opened: %s", r->path, cause);
    /* A guest may have written the header of a raw image whose format nobody said. */
    emu_block_info info;
    emu_block_describe(q->backing, &info);
    if (below.format == EMU_BLOCK_PROBE && info.backing != NULL)
        return REFUSE(r, "%s: nobody says the format of its backing file, which seems to stand on a third (%s): say it "
                         "with `qemu-img rebase -u -b %s -F qcow2`", r->path, info.backing, r->backing);
    return 0;
}

int qcow2_read_header(emu_qcow2 *q, const emu_block_options *options, const emu_chain *chain, char *error,
                      size_t error_size)
{
    reader r = {.q = q, .path = q->file->path, .error = error, .error_size = error_size};
    int failed = emu_file_read(q->file, r.header, sizeof r.header, 0);
    if (failed != 0)
        return refuse_io(&r, failed);
    failed = read_fields(&r);
    if (failed == 0)
        failed = read_extensions(&r);
    if (failed == 0)
        failed = read_backing_name(&r);
    if (failed == 0)
        failed = read_tables(&r);
    q->snapshots = field32(&r, HEADER_SNAPSHOTS);
    q->snapshots_offset = field64(&r, HEADER_SNAPSHOTS_OFFSET);
    if (failed == 0 && (q->snapshots > MAX_SNAPSHOTS || (q->snapshots_offset & (q->cluster - 1)) != 0))
        failed = REFUSE(&r, "%s: its table of snapshots is damaged: " REPAIR, r.path);
    if (failed == 0 && q->writable)
        failed = claim_all(&r);
    if (failed == 0 && q->writable)
        failed = claim_snapshots(&r);
    if (failed == 0)
        failed = open_backing(&r, options, chain);
    return failed;
}

/* What every format is to block.c: an emu_block with a table of functions. */
#ifndef EMU_BLOCK_IMAGE_H
#define EMU_BLOCK_IMAGE_H

#include "block.h"
#include "copy.h"
#include "file.h"

#include <stdarg.h>
#include <sys/types.h>

typedef struct emu_block_format {
    uint32_t format;
    /* Requests are checked before: not empty, inside the image, on a writable one.  Of iovecs `length` bytes from `skip`
       on, as in file.h. */
    int (*readv)(emu_block *, const struct iovec *, int count, uint64_t skip, uint64_t length, uint64_t offset);
    int (*writev)(emu_block *, const struct iovec *, int count, uint64_t skip, uint64_t length, uint64_t offset);
    int (*flush)(emu_block *);
    int (*discard)(emu_block *, uint64_t offset, uint64_t length);
    int (*write_zeroes)(emu_block *, uint64_t offset, uint64_t length, int may_unmap);
    int (*resize)(emu_block *, uint64_t size);
    int (*check)(emu_block *, bool repair, emu_block_report *);
    void (*describe)(emu_block *, emu_block_info *);
    /* Ends what the format began; the file is closed afterwards. */
    int (*close)(emu_block *);
} emu_block_format;

/* The first member of every format's own struct. */
struct emu_block {
    const emu_block_format *format;
    emu_file *file;
    emu_block_options options;
    _Atomic uint64_t size;
    int probed; /* the format was not given, but found in the file */
    emu_copy *copy; /* that this is the source or the target of; NULL without */
};

/* The images that stand on each other, from the one the user named down. */
typedef struct emu_chain {
    const struct emu_chain *above;
    dev_t device;
    ino_t inode;
    int depth;
} emu_chain;

/* One line for the user; always NULL. */
void *emu_block_refuse(char *error, size_t error_size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* EMU_BLOCK_RAW or EMU_BLOCK_QCOW2, by a file's first bytes. */
uint32_t emu_block_probe(const void *data, size_t size);

/* As emu_block_open, for an image that others stand on. */
emu_block *emu_block_open_below(const char *path, const emu_block_options *options, const emu_chain *above, char *error,
                                size_t error_size);

/* The formats' own: they fill in `format` and `size`, and do not close the file when they fail. */
emu_block *emu_raw_open(emu_file *file, char *error, size_t error_size);
emu_block *emu_qcow2_open(emu_file *file, const emu_block_options *options, const emu_chain *chain, char *error,
                          size_t error_size);

#endif

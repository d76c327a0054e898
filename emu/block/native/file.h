/*
 * A host file or block device, read and written at any offset and from any memory.
 *
 * With O_DIRECT the kernel wants offsets, lengths and addresses to be multiples of the disk's blocks: what is not
 * goes through a copy here.  Calls come from any number of threads.
 */
#ifndef EMU_BLOCK_FILE_H
#define EMU_BLOCK_FILE_H

#include "block.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

/* As emu_block_open's; the path is kept for messages and for names that are relative to it. */
typedef struct emu_file {
    int fd;
    char *path;
    bool device;     /* a block device: its size is fixed, and what lies in it is not zero by itself */
    dev_t device_number; /* who it is, whatever its name */
    ino_t inode;
    bool read_only;
    bool no_sync;    /* cache=unsafe */
    bool direct;
    uint32_t align;  /* of offsets, lengths and addresses; 1 without O_DIRECT */
    _Atomic uint64_t size;
    _Atomic uint64_t written, synced; /* writes that have ended; of them, those that are on the disk */
    _Atomic int sync_error;           /* of an fdatasync: what the page cache held then may be lost for good */
    _Atomic bool no_zero_range, no_punch_hole;
    pthread_rwlock_t edges;           /* shared: whole blocks are written; alone: parts of one */
} emu_file;

emu_file *emu_file_open(const char *path, const emu_block_options *options, char *error, size_t error_size);
int emu_file_close(emu_file *file);

/* `length` bytes, in `iov` from its byte `skip` on.  What lies beyond the file's end reads as zeroes. */
int emu_file_readv(emu_file *file, const struct iovec *iov, int count, uint64_t skip, uint64_t length, uint64_t offset);
int emu_file_writev(emu_file *file, const struct iovec *iov, int count, uint64_t skip, uint64_t length,
                    uint64_t offset);
int emu_file_read(emu_file *file, void *data, uint64_t length, uint64_t offset);
int emu_file_write(emu_file *file, const void *data, uint64_t length, uint64_t offset);
int emu_file_sync(emu_file *file);
/* Gives space back; the range reads as zeroes afterwards, or -EOPNOTSUPP. */
int emu_file_punch(emu_file *file, uint64_t offset, uint64_t length);
/* The range reads as zeroes afterwards: by the host's means if it has any, else by writing them. */
int emu_file_zero(emu_file *file, uint64_t offset, uint64_t length, bool may_unmap);
int emu_file_truncate(emu_file *file, uint64_t size);
uint64_t emu_file_allocated(emu_file *file);

/* lock.c: byte ranges that QEMU's programs know as well.  0, or a line for the user. */
int emu_file_lock(int fd, const char *path, bool write, char *error, size_t error_size);

/* Nothing but zeroes, for lists of iovecs that are written; aligned as any file wants it. */
enum { EMU_ZEROES = 1 << 16 };
extern char emu_zeroes[EMU_ZEROES];

/* iov.c.  The `length` bytes of `iov` from `skip` on as a list in `out`, as far as its `room` goes: gives their number,
   and in *taken the bytes. */
int emu_iov_part(const struct iovec *iov, int count, uint64_t skip, uint64_t length, struct iovec *out, int room,
                 uint64_t *taken);
void emu_iov_scatter(const struct iovec *iov, int count, uint64_t skip, const void *data, uint64_t length);
void emu_iov_gather(const struct iovec *iov, int count, uint64_t skip, void *data, uint64_t length);
void emu_iov_zero(const struct iovec *iov, int count, uint64_t skip, uint64_t length);

#endif

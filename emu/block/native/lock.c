/*
 * Locks of images, which emu and QEMU's programs keep against each other.
 *
 * Five things may be done with an image, each with a number.  Who does one holds a shared lock on byte 100 + n;
 * who cannot bear that others do it holds one on byte 200 + n.  A claim is good when nobody holds its opposite,
 * which F_OFD_GETLK tells.  The bytes need not exist; the locks belong to the open file, and end with it.
 */
#include "file.h"
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { DOES = 100, REFUSES = 200 };
enum { READ = 1 << 0, WRITE = 1 << 1, WRITE_SAME = 1 << 2, RESIZE = 1 << 3, ACTIONS = 4 };

static const char *const actions[ACTIONS] = {"reads", "writes", "copies", "resizes"};

static int lock_byte(int fd, off_t byte, short kind)
{
    struct flock range = {.l_type = kind, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &range) == 0 ? 0 : -errno;
}

/* Whether somebody else holds a lock on the byte. */
static bool held(int fd, off_t byte)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

int emu_file_lock(int fd, const char *path, bool write, char *error, size_t error_size)
{
    const unsigned does = write ? READ | WRITE | RESIZE : READ;
    const unsigned refuses = WRITE | RESIZE;
    for (int i = 0; i < ACTIONS; i++) {
        int failed = does >> i & 1 ? lock_byte(fd, DOES + i, F_RDLCK) : 0;
        if (failed == 0 && (refuses >> i & 1))
            failed = lock_byte(fd, REFUSES + i, F_RDLCK);
        if (failed == -EAGAIN || failed == -EACCES) {
            emu_block_refuse(error, error_size, "%s: another process has locked the image: end it first", path);
            return failed;
        }
        if (failed < 0)
            return 0; /* a file system without locks */
    }
    for (int i = 0; i < ACTIONS; i++) {
        const char *other = NULL;
        if ((does >> i & 1) && held(fd, REFUSES + i))
            other = "uses";
        else if ((refuses >> i & 1) && held(fd, DOES + i))
            other = actions[i];
        if (other != NULL) {
            emu_block_refuse(error, error_size, "%s: another process %s the image: end it first%s", path, other,
                             write ? ", or open the image read-only in both" : "");
            return -EAGAIN;
        }
    }
    return 0;
}

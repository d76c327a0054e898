/* Clusters compressed with zstd, by the host's library where it has one. */
#include "qcow2.h"

#include <dlfcn.h>
#include <errno.h>

static size_t (*decompress)(void *, size_t, const void *, size_t);
static size_t (*frame_size)(const void *, size_t);
static unsigned (*is_error)(size_t);

static void find(void)
{
    void *library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return;
    *(void **)&frame_size = dlsym(library, "ZSTD_findFrameCompressedSize");
    *(void **)&is_error = dlsym(library, "ZSTD_isError");
    *(void **)&decompress = dlsym(library, "ZSTD_decompress");
}

int emu_zstd(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find);
    if (decompress == NULL || frame_size == NULL || is_error == NULL)
        return -ENOTSUP;
    /* What follows the frame in its last sector is not of it. */
    size_t size = frame_size(in, in_size);
    if (is_error(size))
        return -EIO;
    size = decompress(out, out_size, in, size);
    return is_error(size) || size != out_size ? -EIO : 0;
}

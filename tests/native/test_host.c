/* host.c: memory is reserved and not touched; time does not go back. */
#include "check.h"
#include "core.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
    int fd = -7;
    CHECK(emu_memory_new("none", 0, &fd) == NULL && errno == EINVAL);
    CHECK(emu_memory_new("huge", UINT64_MAX, &fd) == NULL && errno == EINVAL);
    CHECK(emu_memory_new("huge", INT64_MAX, &fd) == NULL);

    const uint64_t size = UINT64_C(4) << 30;
    uint8_t *host = emu_memory_new("ram", size, &fd);
    CHECK(host != NULL && fd >= 0);
    struct stat st;
    CHECK_EQUAL(fstat(fd, &st), 0);
    CHECK_EQUAL(st.st_size, size);
    CHECK_EQUAL(st.st_blocks, 0); /* nothing touched, nothing paid */
    CHECK_EQUAL(host[size - 1], 0);
    host[size - 1] = 0x5a;
    uint8_t byte = 0;
    CHECK_EQUAL(pread(fd, &byte, 1, (off_t)size - 1), 1);
    CHECK_EQUAL(byte, 0x5a);
    CHECK_EQUAL(fstat(fd, &st), 0);
    CHECK(st.st_blocks * 512 <= 2 << 20); /* one page, of at most 2 MiB */
    emu_memory_free(host, size, fd);
    CHECK(close(fd) == -1 && errno == EBADF);

    uint64_t before = emu_now();
    for (int i = 0; i < 100000; i++) {
        uint64_t now = emu_now();
        CHECK(now >= before);
        before = now;
    }
    return 0;
}

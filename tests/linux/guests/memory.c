/* Mappings as a program sees them.  The same program, built for the host, says what is right. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096

static const char *outcome(void *at)
{
    return at == MAP_FAILED ? strerrorname_np(errno) : "mapped";
}

static const char *done(int result)
{
    return result == 0 ? "0" : strerrorname_np(errno);
}

static sigjmp_buf back;
static volatile int caught, code;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    caught = sig;
    code = info->si_code;
    siglongjmp(back, 1);
}

static const char *touch(volatile char *at, int write)
{
    caught = 0;
    if (sigsetjmp(back, 1) == 0) {
        if (write)
            *at = 1;
        else
            (void)*at;
    }
    return caught == 0 ? "ok" : caught == SIGSEGV ? (code == SEGV_MAPERR ? "SEGV_MAPERR" : "SEGV_ACCERR") : "SIGBUS";
}

static void say(const char *word)
{
    printf(" %s", word);
}

static void number(long value)
{
    printf(" %ld", value);
}

static void line(const char *what)
{
    printf("\n%s:", what);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS, both = PROT_READ | PROT_WRITE;

    char *p = mmap(NULL, 16 * PAGE, both, anonymous, -1, 0);
    line("anonymous"), say(outcome(p)), number(p[5 * PAGE]), say(touch(p, 1));
    line("protect"), say(done(mprotect(p + 4 * PAGE, 2 * PAGE, PROT_READ)));
    say(touch(p + 4 * PAGE, 0)), say(touch(p + 4 * PAGE, 1)), say(touch(p + 6 * PAGE, 1));
    line("no rights"), say(done(mprotect(p + 6 * PAGE, PAGE, PROT_NONE))), say(touch(p + 6 * PAGE, 0));
    line("unmap"), say(done(munmap(p + 8 * PAGE, PAGE))), say(touch(p + 8 * PAGE, 0)), say(touch(p + 9 * PAGE, 1));
    line("protect a hole"), say(done(mprotect(p, 16 * PAGE, PROT_READ)));
    line("unmap again"), say(done(munmap(p + 8 * PAGE, PAGE))), say(done(munmap(p + 1, PAGE))), say(done(munmap(p, 0)));
    mprotect(p + 9 * PAGE, 7 * PAGE, both);
    char *fixed = mmap(p + 8 * PAGE, PAGE, both, anonymous | MAP_FIXED, -1, 0);
    line("fixed"), number(fixed == p + 8 * PAGE), say(touch(fixed, 1)), say(touch(fixed + PAGE, 1));
    line("no replace"), say(outcome(mmap(p, PAGE, PROT_READ, anonymous | MAP_FIXED_NOREPLACE, -1, 0)));
    line("size 0"), say(outcome(mmap(NULL, 0, PROT_READ, anonymous, -1, 0)));
    line("huge"), say(outcome(mmap(NULL, SIZE_MAX - PAGE, PROT_READ, anonymous, -1, 0)));
    line("huge and fixed"), say(outcome(mmap(p, SIZE_MAX / 2, PROT_READ, anonymous | MAP_FIXED, -1, 0)));
    line("no file"), say(outcome(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0)));
    line("no kind"), say(outcome(mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0)));
    line("protect bits"), say(done(mprotect(p, PAGE, 0x40))), say(done(mprotect(p + 3, PAGE, PROT_READ)));
    line("protect nothing"), say(done(mprotect(p, 0, PROT_READ)));
    line("unmap the top"), say(done(munmap((void *)(UINTPTR_MAX & ~4095ul), PAGE)));

    /* growing, in place and not, and what was in it */
    char *m = mmap(NULL, 4 * PAGE, both, anonymous, -1, 0);
    for (int i = 0; i < 4; i++)
        m[i * PAGE] = (char)('a' + i);
    char *n = mremap(m, 4 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    line("grow"), say(outcome(n)), printf(" %c%c%c%c", n[0], n[PAGE], n[2 * PAGE], n[3 * PAGE]);
    number(n[63 * PAGE]), say(touch(n + 63 * PAGE, 1));
    n = mremap(n, 64 * PAGE, 2 * PAGE, 0);
    line("shrink"), say(outcome(n)), printf(" %c", n[PAGE]), say(touch(n + 2 * PAGE, 0));
    n = mremap(n, 2 * PAGE, 3 * PAGE, 0);
    line("grow in place"), say(outcome(n)), printf(" %c", n[PAGE]), say(touch(n + 2 * PAGE, 1));
    char *room = mmap(NULL, 8 * PAGE, PROT_NONE, anonymous, -1, 0);
    char *o = mremap(n, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + 2 * PAGE);
    line("move"), number(o == room + 2 * PAGE), printf(" %c%c", o[0], o[PAGE]);
    say(touch(n, 0)), say(touch(n + 2 * PAGE, 0)), say(touch(o + 3 * PAGE, 1)), say(touch(o + 4 * PAGE, 0));
    line("remap nothing"), say(outcome(mremap(n, PAGE, 2 * PAGE, MREMAP_MAYMOVE)));
    line("remap flags"), say(outcome(mremap(o, PAGE, PAGE, 1 << 20))), say(outcome(mremap(o + 1, PAGE, PAGE, 0)));
    line("remap over itself"), say(outcome(mremap(o, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, o + PAGE)));
    char *w = mmap(NULL, 8 * PAGE, both, anonymous, -1, 0);
    w = mremap(w, 8 * PAGE, 2 * PAGE, 0);
    line("advise and grow"), say(done(madvise(w, 2 * PAGE, MADV_SEQUENTIAL)));
    say(outcome(mremap(w, 2 * PAGE, 4 * PAGE, 0)));
    for (int i = 0; i < 4; i++)
        w[i * PAGE] = (char)('p' + i);
    mmap(w + 4 * PAGE, PAGE, PROT_NONE, anonymous | MAP_FIXED, -1, 0);
    char *v = mremap(w, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE);
    line("and move"), say(outcome(v)), number(v != w), say(touch(w + 3 * PAGE, 0)), say(touch(v + 7 * PAGE, 1));
    printf(" %c%c%c%c", v[0], v[PAGE], v[2 * PAGE], v[3 * PAGE]);
    char *u = mremap(v, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    line("leave empty"), say(outcome(u)), printf(" %c%c", u[0], u[3 * PAGE]);
    say(touch(v + 3 * PAGE, 0)), number(v[0]), say(touch(u + 3 * PAGE, 1));
    say(outcome(mremap(u, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL)));
    say(outcome(mremap(u, 4 * PAGE, 4 * PAGE, MREMAP_DONTUNMAP, NULL)));

    /* files */
    char name[] = "/tmp/emu-memory-XXXXXX";
    int fd = mkstemp(name);
    unlink(name);
    for (int i = 0; i < 3; i++) {
        char page[PAGE];
        memset(page, 'A' + i, PAGE);
        if (write(fd, page, i == 2 ? 100 : PAGE) < 0)
            return 1;
    }
    char *f = mmap(NULL, 4 * PAGE, both, MAP_SHARED, fd, 0);
    line("file"), printf(" %c%c%c", f[0], f[PAGE], f[2 * PAGE]), number(f[2 * PAGE + 100]);
    say(touch(f + 2 * PAGE + 200, 0)), say(touch(f + 3 * PAGE, 0));
    f[1] = 'z';
    char back_from[4] = "";
    if (pread(fd, back_from, 3, 0) != 3)
        return 1;
    line("shared"), say(back_from), say(done(msync(f, 3 * PAGE, MS_SYNC)));
    char *c = mmap(NULL, PAGE, both, MAP_PRIVATE, fd, PAGE);
    c[0] = 'y';
    line("private"), printf(" %c %c", c[0], f[PAGE]);
    if (pwrite(fd, "QQ", 2, 2 * PAGE) != 2)
        return 1;
    line("written"), printf(" %c", f[2 * PAGE]);
    int ro = open("/proc/self/exe", O_RDONLY);
    line("read-only file"), say(outcome(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, ro, 0)));
    say(outcome(mmap(NULL, PAGE, both, MAP_PRIVATE, ro, 0)));
    char *shown = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0);
    say(done(mprotect(shown, PAGE, both))), say(touch(shown, 0)), say(touch(shown, 1));

    /* advice and the rest */
    char *d = mmap(NULL, 2 * PAGE, both, anonymous, -1, 0);
    d[0] = 1;
    line("dontneed"), say(done(madvise(d, PAGE, MADV_DONTNEED))), number(d[0]);
    line("bad advice"), say(done(madvise(d, PAGE, 9999))), say(done(madvise(d + 1, PAGE, MADV_DONTNEED)));
    munmap(d + PAGE, PAGE);
    line("advice on a hole"), say(done(madvise(d, 2 * PAGE, MADV_DONTNEED)));
    unsigned char residence[2];
    line("mincore"), say(done(mincore(d, PAGE, residence))), say(done(mincore(d, 2 * PAGE, residence)));
    say(done(mincore(d, PAGE, (void *)8)));
    line("mlock"), say(done(mlock(d + 100, 10))), say(done(munlock(d, PAGE))), say(done(mlock(d, 2 * PAGE)));
    line("msync"), say(done(msync(d, PAGE, 0x100))), say(done(msync(d, 2 * PAGE, MS_ASYNC)));

    /* brk */
    char *end = sbrk(0), *more = sbrk(5 * PAGE);
    line("brk"), number(more == end), number(((char *)sbrk(0) - end) / PAGE), say(touch(end + 4 * PAGE, 1));
    line("brk back"), number(brk(end)), number((char *)sbrk(0) == end);

    /* pointers that the kernel must refuse */
    line("bad pointers"), say(write(1, (void *)16, 4) < 0 ? strerrorname_np(errno) : "?");
    say(read(ro, p + 6 * PAGE, 1) < 0 ? strerrorname_np(errno) : "?");
    say(read(ro, p, 1) < 0 ? strerrorname_np(errno) : "?");
    say(open((char *)(UINTPTR_MAX - 3), O_RDONLY) < 0 ? strerrorname_np(errno) : "?");
    say(syscall(SYS_getcwd, (void *)-5000L, PAGE) < 0 ? strerrorname_np(errno) : "?");
    say(read(ro, shown, PAGE) < 0 ? strerrorname_np(errno) : "?");

    /* the stack's own reach */
    volatile char deep[6 << 20];
    deep[0] = 1;
    line("deep stack"), number(deep[0]), say(touch(NULL, 0));
    puts("");
    return 0;
}

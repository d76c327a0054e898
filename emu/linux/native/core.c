/*
 * Core files (core(5)): what is left of a guest that a signal has killed.
 *
 * A parent learns from the host's kernel alone whether its child dumped core, so
 * the host's kernel has to make a core file; but one of the emulator would say
 * nothing about the guest.  So the kernel is left to make an empty one
 * (RLIMIT_FSIZE), in whose place comes the guest's own, in ELF as its kernel
 * would have written it.  That must happen after the kernel has made its file and
 * before anybody hears of the death: by a child that traces the dying process
 * up to its exit.
 *
 *     emu_core_write   the killed thread, with the guest's memory as it stands:
 *                      the guest's core, under another name beside its place
 *     emu_core_die     the host process's end
 *
 * Where cores go to a program or a socket (core_pattern's | and @) that one gets
 * the emulator's, without any memory.
 */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core_notes.h"
#include "path.h"

enum {
    SMALLEST = 4096,              /* of RLIMIT_CORE: below, the kernel dumps nothing */
    FILTER_PRIVATE = 1,           /* bits of coredump_filter: anonymous memory */
    FILTER_SHARED = 2,
    FILTER_FILE_PRIVATE = 4,
    FILTER_FILE_SHARED = 8,
    FILTER_HEADERS = 16,
    SEGMENTS = 65000,
};
#define HUGE (UINT64_C(64) << 30) /* nobody looks for pages in an area of that size */

/* Where the guest's core lies and shall lie, and where the kernel puts its own. */
static struct {
    bool begun;
    char aside[PATH_MAX], place[PATH_MAX], host[PATH_MAX];
} core;

static bool read_line(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    bool got = file != NULL && fgets(text, (int)size, file) != NULL;
    if (file != NULL)
        fclose(file);
    text[got ? strcspn(text, "\n") : 0] = 0;
    return got;
}

/* ---- where it goes ------------------------------------------------------------------------------------ */

struct facts {
    int sig, tid;
    const char *comm, *exe;
};

static void put_flat(FILE *out, const char *text)
{
    for (; *text != 0; text++)
        fputc(*text == '/' ? '!' : *text, out);
}

/* core_pattern filled in.  False where it asks for what nobody knows here. */
static bool expand(const char *pattern, const struct facts *facts, char out[PATH_MAX])
{
    char digit[8] = "0";
    struct utsname uts;
    struct rlimit limit = {0, 0};
    bool numbered = false, known = true;
    FILE *name = fmemopen(out, PATH_MAX, "w");
    if (name == NULL)
        return false;
    uname(&uts);
    getrlimit(RLIMIT_CORE, &limit);
    const char *last = strrchr(facts->exe, '/');
    for (const char *at = pattern; *at != 0; at++) {
        if (*at != '%') {
            fputc(*at, name);
            continue;
        }
        switch (*++at) {
        case 0:
            at--;
            break;
        case '%':
            fputc('%', name);
            break;
        case 'p':
        case 'P':
            numbered = true;
            fprintf(name, "%d", (int)getpid());
            break;
        case 'i':
        case 'I':
            fprintf(name, "%d", facts->tid);
            break;
        case 'u':
            fprintf(name, "%u", (unsigned)getuid());
            break;
        case 'g':
            fprintf(name, "%u", (unsigned)getgid());
            break;
        case 'd':
            fprintf(name, "%d", prctl(PR_GET_DUMPABLE));
            break;
        case 's':
            fprintf(name, "%d", facts->sig);
            break;
        case 'c':
            fprintf(name, "%lu", (unsigned long)limit.rlim_cur);
            break;
        case 'h':
            put_flat(name, uts.nodename);
            break;
        case 'e':
            put_flat(name, facts->comm);
            break;
        case 'f':
            put_flat(name, last != NULL ? last + 1 : facts->exe);
            break;
        case 'E':
            put_flat(name, facts->exe);
            break;
        default: /* the time, the CPU, and what is not there yet */
            known = false;
            break;
        }
    }
    if (!numbered && read_line("/proc/sys/kernel/core_uses_pid", digit, sizeof digit) && digit[0] != '0')
        fprintf(name, ".%d", (int)getpid());
    bool fits = ftell(name) < PATH_MAX - 32;
    fclose(name);
    return known && fits && out[0] != 0;
}

/* As the kernel looks at the file that it finds under the name. */
static bool replaceable(const char *path)
{
    struct stat status;
    if (lstat(path, &status) != 0)
        return errno == ENOENT;
    return S_ISREG(status.st_mode) && status.st_nlink == 1 && status.st_uid == geteuid() &&
           (status.st_mode & 0677) == 0600;
}

enum fate { NONE, ELSEWHERE, FILED };

/* Whether and how the kernel would dump; where it would be a file, its names. */
static enum fate fate_of(int sig, int tid, const char *guest_exe, bool confined)
{
    char pattern[256], comm[32], exe[PATH_MAX];
    struct rlimit limit;
    if (prctl(PR_GET_DUMPABLE) != 1 || getrlimit(RLIMIT_CORE, &limit) != 0 ||
        !read_line("/proc/sys/kernel/core_pattern", pattern, sizeof pattern))
        return NONE;
    if (pattern[0] == '|' || pattern[0] == '@')
        return limit.rlim_cur == 1 ? NONE : ELSEWHERE;
    /* In a root: only what lies in the working directory is certain to be in it. */
    if (limit.rlim_cur < SMALLEST || (confined && strchr(pattern, '/') != NULL))
        return NONE;
    if (!read_line("/proc/self/comm", comm, sizeof comm))
        comm[0] = 0;
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[length > 0 ? length : 0] = 0;
    struct facts host = {sig, (int)gettid(), comm, exe}, guest = {sig, tid, comm, guest_exe != NULL ? guest_exe : exe};
    if (!expand(pattern, &host, core.host) || !expand(pattern, &guest, core.place))
        return ELSEWHERE;
    if (!replaceable(core.host) || !replaceable(core.place))
        return NONE;
    snprintf(core.aside, sizeof core.aside, "%.*s.%d~", PATH_MAX - 32, core.place, (int)getpid());
    return FILED;
}

/* ---- the file ------------------------------------------------------------------------------------------- */

struct segment {
    uint64_t start, memory, file, at;
    uint32_t flags;
    bool sparse; /* only pages that are there */
};

static uint64_t pages_from(int pagemap, const emu_umem *umem, uint64_t addr, uint64_t end, bool there)
{
    enum { CHUNK = 512 };
    uint64_t words[CHUNK], base = (uint64_t)(uintptr_t)umem->base;
    while (addr < end) {
        size_t ask = (end - addr) / EMU_PAGE < CHUNK ? (size_t)((end - addr) / EMU_PAGE) : CHUNK;
        ssize_t got = pread(pagemap, words, ask * 8, (off_t)((base + addr) / EMU_PAGE * 8));
        if (got < 8)
            return there ? end : addr;
        for (size_t i = 0; i < (size_t)got / 8; i++, addr += EMU_PAGE)
            if ((words[i] >> 62 != 0) == there) /* present, or swapped out */
                return addr;
    }
    return end;
}

static uint32_t rights_of(uint32_t prot)
{
    return (prot & PROT_READ ? 4 : 0) | (prot & PROT_WRITE ? 2 : 0) | (prot & PROT_EXEC ? 1 : 0); /* PF_ */
}

/* What of an area is kept, as the kernel's vma_dump_size. */
static struct segment segment_of(emu_umem *umem, const emu_area *area, unsigned filter, int pagemap)
{
    struct segment s = {.start = area->start, .memory = area->end - area->start, .flags = rights_of(area->prot)};
    bool file = area->ino != 0, shared = area->flags & MAP_SHARED, written = !shared && area->prot & PROT_WRITE;
    uint8_t magic[4];
    if (area->prot == 0 || s.memory > HUGE)
        return s;
    if (!file || written) {
        if (!(filter & (shared ? FILTER_SHARED : FILTER_PRIVATE)))
            return s;
        s.sparse = !file;
        uint64_t first = s.sparse ? pages_from(pagemap, umem, area->start, area->end, true) : area->start;
        if (area->flags & MAP_GROWSDOWN && first < area->end) {
            s.start = first;
            s.memory = area->end - first;
        }
        s.file = first < area->end ? s.memory : 0;
    } else if (filter & (shared ? FILTER_FILE_SHARED : FILTER_FILE_PRIVATE)) {
        s.file = s.memory;
    } else if (filter & FILTER_HEADERS && area->offset == 0 && umem_read(umem, magic, area->start, 4) == 0 &&
               memcmp(magic, "\177ELF", 4) == 0) {
        s.file = EMU_PAGE;
    }
    return s;
}

struct output {
    int fd;
    uint64_t room; /* RLIMIT_CORE */
};

/* What cannot be read, or does not fit, is left out. */
static void put_at(const struct output *out, const void *from, uint64_t size, uint64_t at)
{
    while (size > 0 && at < out->room) {
        uint64_t part = size < out->room - at ? size : out->room - at;
        ssize_t done = pwrite(out->fd, from, part, (off_t)at);
        if (done <= 0 && errno == EFAULT) /* a page without rights, or behind a file's end */
            done = (ssize_t)(part < EMU_PAGE ? part : EMU_PAGE);
        else if (done <= 0)
            return;
        from = (const char *)from + done;
        at += (uint64_t)done;
        size -= (uint64_t)done;
    }
}

static void put_memory(const struct output *out, emu_umem *umem, const struct segment *s, int pagemap)
{
    uint64_t addr = s->start, end = s->start + s->file;
    while (addr < end) {
        uint64_t from = s->sparse ? pages_from(pagemap, umem, addr, end, true) : addr;
        uint64_t to = s->sparse ? pages_from(pagemap, umem, from, end, false) : end;
        if (from < to)
            put_at(out, umem->base + from, to - from, s->at + (from - s->start));
        addr = to > from ? to : end;
    }
}

static void put_file(const struct output *out, const emu_abi *abi, const char *notes, size_t noted,
                     struct segment *segments, size_t count)
{
    bool wide = abi->word == 8;
    uint64_t head = wide ? 64 : 52, entry = wide ? 56 : 32, at = head + (count + 1) * entry;
    uint64_t data = (at + noted + EMU_PAGE - 1) & ~(EMU_PAGE - 1);
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    if (file == NULL)
        return;
    core_put_header(file, abi, count + 1);
    core_put_segment(file, abi, 4 /* PT_NOTE */, 0, (const uint64_t[]){at, 0, noted, 0, 4});
    for (size_t i = 0; i < count; i++) {
        struct segment *s = &segments[i];
        s->at = data;
        core_put_segment(file, abi, 1 /* PT_LOAD */, s->flags,
                         (const uint64_t[]){s->at, s->start, s->file, s->memory, EMU_PAGE});
        data += s->file;
    }
    if (fclose(file) == 0) {
        put_at(out, text, length, 0);
        put_at(out, notes, noted, at);
        if (ftruncate(out->fd, (off_t)(data < out->room ? data : out->room)) != 0)
            errno = 0; /* a file system that is full: what there is will do */
    }
    free(text);
}

static void put_core(emu_thread *thread, const siginfo_t *info, const struct output *out)
{
    emu_umem *umem = &thread->process->umem;
    char filter_text[32], *notes = NULL;
    unsigned filter = 0x33;
    size_t noted = 0, count = 0;
    if (read_line("/proc/self/coredump_filter", filter_text, sizeof filter_text))
        filter = (unsigned)strtoul(filter_text, NULL, 16);
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    umem_hold(umem);
    struct segment *segments = calloc(umem->count + 1, sizeof *segments);
    FILE *file = open_memstream(&notes, &noted);
    if (file != NULL) {
        core_put_notes(file, thread, info);
        if (fclose(file) == 0 && segments != NULL) {
            for (size_t i = 0; i < umem->count && count < SEGMENTS; i++)
                segments[count++] = segment_of(umem, &umem->areas[i], filter, pagemap);
            put_file(out, thread->process->abi, notes, noted, segments, count);
            for (size_t i = 0; i < count; i++)
                put_memory(out, umem, &segments[i], pagemap);
        }
    }
    umem_release(umem);
    free(notes);
    free(segments);
    if (pagemap >= 0)
        close(pagemap);
}

bool emu_core_write(emu_thread *thread, const siginfo_t *info)
{
    emu_process *process = thread->process;
    char at[PATH_MAX];
    struct rlimit limit;
    sigset_t sizes;
    pthread_mutex_lock(&process->lock);
    bool first = process->dumper == NULL && !process->ended;
    if (first)
        process->dumper = thread;
    pthread_mutex_unlock(&process->lock);
    bool confined = process->root != NULL;
    core.begun |= first;
    if (!first || (confined && emu_path_position(process, AT_FDCWD, at) != 0))
        return false;
    enum fate fate = fate_of(info->si_signo, (int)thread->tid, process->exe_guest, confined);
    if (fate != FILED)
        return fate == ELSEWHERE;
    sigemptyset(&sizes); /* a limit on files cuts it off */
    sigaddset(&sizes, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &sizes, NULL);
    unlink(core.aside);
    int fd = open(core.aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    struct output out = {fd, UINT64_MAX};
    if (getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        out.room = limit.rlim_cur;
    put_core(thread, info, &out);
    close(fd);
    return true;
}

/* ---- the end ------------------------------------------------------------------------------------------------ */

/* The guest's core to its place, if the kernel has made its own. */
static void settle(void)
{
    struct stat status;
    if (lstat(core.host, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size != 0) {
        unlink(core.aside);
        return;
    }
    if (rename(core.aside, core.place) != 0 || strcmp(core.host, core.place) != 0)
        unlink(core.host);
}

/* Until the thread has dumped; it goes on as far as that. */
static void trace(pid_t tid)
{
    int status;
    for (;;) {
        pid_t got = waitpid(tid, &status, __WALL);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 || !WIFSTOPPED(status))
            return;
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8))
            return;
        int sig = status >> 16 != 0 ? 0 : WSTOPSIG(status);
        ptrace(PTRACE_CONT, tid, NULL, (void *)(uintptr_t)(sig == SIGSTOP ? 0 : sig));
    }
}

static void accompany(pid_t pid, pid_t tid, int from, int to)
{
    char byte = 0;
    struct pollfd dead = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    if (read(from, &byte, 1) != 1)
        return;
    bool traces = ptrace(PTRACE_SEIZE, tid, NULL, (void *)PTRACE_O_TRACEEXIT) == 0;
    if (write(to, &byte, 1) != 1)
        return;
    /* Nobody keeps what the dying process had open. */
    int keep = dead.fd;
    syscall(SYS_close_range, keep + 1, ~0U, 0);
    if (keep > 0)
        syscall(SYS_close_range, 0, keep - 1, 0);
    if (traces)
        trace(tid);
    else /* who hears of the death at once may find an empty file */
        while (dead.fd >= 0 && poll(&dead, 1, -1) < 0 && errno == EINTR)
            continue;
    settle();
}

static void find_company(void)
{
    int there[2], back[2];
    char byte = 0;
    pid_t pid = getpid(), tid = gettid();
    if (pipe2(there, O_CLOEXEC) != 0 || pipe2(back, O_CLOEXEC) != 0)
        return;
    long child = syscall(SYS_clone, 0, NULL, NULL, NULL, 0); /* its end is nobody's concern */
    if (child == 0) {
        close(there[1]);
        close(back[0]);
        accompany(pid, tid, there[0], back[1]);
        _exit(0);
    }
    close(there[0]);
    close(back[1]);
    if (child < 0) {
        unlink(core.aside);
        return;
    }
    prctl(PR_SET_PTRACER, child);
    if (write(there[1], &byte, 1) == 1)
        while (read(back[0], &byte, 1) < 0 && errno == EINTR)
            continue;
}

void emu_core_die(int sig)
{
    struct rlimit limit;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    bool filed = core.aside[0] != 0;
    if (!core.begun) { /* it has been written by a child, whose limits were its own */
        if (getrlimit(RLIMIT_CORE, &limit) == 0)
            setrlimit(RLIMIT_CORE, &(struct rlimit){limit.rlim_max, limit.rlim_max});
        filed = fate_of(sig, (int)gettid(), NULL, false) == FILED;
        if (filed)
            (void)rename(core.place, core.aside);
    }
    int filter = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    if (filter >= 0 && write(filter, "0", 1) == 1 && filed) {
        if (getrlimit(RLIMIT_FSIZE, &limit) == 0)
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){0, limit.rlim_max});
        find_company();
    }
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    sigaction(sig, &action, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    syscall(SYS_tgkill, getpid(), gettid(), sig);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

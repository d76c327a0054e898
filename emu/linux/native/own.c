/* Files that speak of the guest, made here (proc(5)). */
#include "own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kin.h"
#include "own_text.h"
#include "syscall.h"

/* ---- names ------------------------------------------------------------------------------------- */

/* Of /proc/<pid>; those up to the gap also where the guest is not confined. */
static const struct {
    const char *name;
    uint8_t kind, number;
} process_files[] = {
    {"maps", EMU_OWN_MAPS, 0},
    {"cmdline", EMU_OWN_CMDLINE, 0},
    {"environ", EMU_OWN_ENVIRON, 0},
    {"auxv", EMU_OWN_AUXV, 0},
    {"stat", EMU_OWN_STAT, 0},
    {"statm", EMU_OWN_STATM, 0},
    {"status", EMU_OWN_STATUS, 0},
    {"mem", EMU_OWN_MEM, 0},
    {"exe", EMU_OWN_LINK, EMU_LINK_EXE},
    {"limits", EMU_OWN_LIMITS, 0},
    {"smaps", EMU_OWN_SMAPS, 0},

    {"cwd", EMU_OWN_LINK, EMU_LINK_CWD},
    {"root", EMU_OWN_LINK, EMU_LINK_ROOT},
    {"mounts", EMU_OWN_MOUNTS, 0},
    {"mountinfo", EMU_OWN_MOUNTINFO, 0},
    {"fd", EMU_OWN_FOLDER, 0},
    {"fdinfo", EMU_OWN_FOLDER, 0},
    {"task", EMU_OWN_FOLDER, 0},
    {"comm", EMU_OWN_DEVICE, 0},
    {"oom_score_adj", EMU_OWN_DEVICE, 0},
    {"io", EMU_OWN_FACT, 0},
    {"oom_score", EMU_OWN_FACT, 0},
    {"loginuid", EMU_OWN_FACT, 0},
    {"sessionid", EMU_OWN_FACT, 0},
    {"cgroup", EMU_OWN_FACT, 0},
    {"uid_map", EMU_OWN_FACT, 0},
    {"gid_map", EMU_OWN_FACT, 0},
    {"setgroups", EMU_OWN_FACT, 0},
    {"schedstat", EMU_OWN_FACT, 0},
};
enum { ALWAYS = 11 };

/* Facts about the host of which programs are told anyway, by system calls or on any terminal. */
static const char *const facts[] = {
    "/proc/meminfo", "/proc/stat", "/proc/uptime", "/proc/loadavg", "/proc/version", "/proc/filesystems",
    "/proc/vmstat", "/proc/sys/kernel/osrelease", "/proc/sys/kernel/ostype", "/proc/sys/kernel/version",
    "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "/proc/sys/kernel/pid_max",
    "/proc/sys/kernel/threads-max", "/proc/sys/kernel/ngroups_max", "/proc/sys/kernel/cap_last_cap",
    "/proc/sys/kernel/overflowuid", "/proc/sys/kernel/overflowgid", "/proc/sys/kernel/random/uuid",
    "/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/random/entropy_avail",
    "/proc/sys/kernel/random/poolsize", "/proc/sys/kernel/shmmax", "/proc/sys/kernel/shmall",
    "/proc/sys/kernel/shmmni", "/proc/sys/kernel/sem", "/proc/sys/kernel/msgmax", "/proc/sys/kernel/msgmnb",
    "/proc/sys/kernel/msgmni", "/proc/sys/kernel/yama/ptrace_scope", "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/max_map_count", "/proc/sys/vm/mmap_min_addr", "/proc/sys/fs/file-max", "/proc/sys/fs/nr_open",
    "/proc/sys/fs/pipe-max-size", "/proc/sys/fs/inotify/max_user_instances",
    "/proc/sys/fs/inotify/max_user_watches", "/proc/sys/fs/inotify/max_queued_events",
    "/proc/sys/fs/mqueue/msg_max", "/proc/sys/fs/mqueue/msgsize_max", "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/ipv4/ip_local_port_range", "/proc/sys/crypto/fips_enabled",
};

static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty", "ptmx"};

static const struct {
    const char *name;
    uint8_t number;
} device_links[] = {
    {"fd", EMU_LINK_FDS},         {"stdin", EMU_LINK_STDIN}, {"stdout", EMU_LINK_STDOUT},
    {"stderr", EMU_LINK_STDERR}, {"shm", EMU_LINK_SHM}};

/* A decimal number without sign and leading zeros that ends the text. */
static bool number_of(const char *text, uint32_t *out)
{
    char *end;
    if (text[0] < '0' || text[0] > '9' || (text[0] == '0' && text[1] != 0))
        return false;
    unsigned long value = strtoul(text, &end, 10);
    *out = (uint32_t)value;
    return *end == 0 && value <= INT32_MAX;
}

/* What follows the name of the folder; NULL where the path does not lie in it. */
static const char *behind(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    if (strncmp(path, folder, length) != 0 || (path[length] != '/' && path[length] != 0))
        return NULL;
    return path[length] == 0 ? path + length : path + length + 1;
}

static bool is_terminal(int fd, uint32_t pts)
{
    struct stat status;
    unsigned number;
    if (fstat(fd, &status) != 0 || !S_ISCHR(status.st_mode))
        return false;
    if (major(status.st_rdev) >= 136 && major(status.st_rdev) <= 143) /* UNIX98_PTY_SLAVE_MAJOR */
        return minor(status.st_rdev) + (major(status.st_rdev) - 136) * 256u == pts;
    return ioctl(fd, TIOCGPTN, &number) == 0 && number == pts;
}

/* A terminal that the guest has open, is controlled by, or has made; others are other people's. */
static bool own_terminal(emu_process *process, uint32_t pts)
{
    enum { MOST = 1024 };
    for (int fd = 0; fd < MOST; fd++)
        if (!emu_process_owns_fd(process, fd) && is_terminal(fd, pts))
            return true;
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    unsigned device = 0;
    bool own = fd >= 0 && ioctl(fd, TIOCGDEV, &device) == 0 && major(device) >= 136 && minor(device) == pts;
    if (fd >= 0)
        close(fd);
    return own;
}

bool emu_own_made(emu_process *process, const char *path)
{
    enum { MOST = 1024 };
    const char *name = behind(path, "/dev/pts");
    uint32_t pts;
    unsigned number;
    if (name == NULL || !number_of(name, &pts))
        return false;
    for (int fd = 0; fd < MOST; fd++)
        if (!emu_process_owns_fd(process, fd) && ioctl(fd, TIOCGPTN, &number) == 0 && number == pts)
            return true;
    return false;
}

static bool by_kvm(const emu_process *process)
{
    return strcmp(process->threads->ops->name, "kvm") == 0;
}

/* A descriptor that the guest has; out->pid is set. */
static int find_descriptor(emu_process *process, const char *name, emu_path *out)
{
    if (!number_of(name, &out->number) || emu_process_owns_fd(process, (int)out->number))
        return EMU_OWN_NONE;
    if (out->pid != 0) { /* they share what the runtime has open, by descent */
        char target[8];
        if (process->root == NULL || readlink(out->host, target, sizeof target) < 0)
            return EMU_OWN_NONE;
        out->number = EMU_LINK_OPEN;
        return EMU_OWN_LINK;
    }
    if (fcntl((int)out->number, F_GETFD) < 0)
        return EMU_OWN_NONE;
    snprintf(out->host, sizeof out->host, "/proc/thread-self/fd/%u", out->number);
    return EMU_OWN_FD;
}

/* What can be had of another process. */
static int of_another(const emu_process *process, int kind)
{
    if (kind == EMU_OWN_MEM)
        return EMU_OWN_NONE;
    return kind == EMU_OWN_LIMITS && process->root == NULL ? EMU_OWN_NONE : kind;
}

static int find_process(emu_process *process, const char *rest, emu_path *out)
{
    bool confined = process->root != NULL;
    const char *part = behind(rest, "task");
    if (rest[0] == 0)
        return confined ? EMU_OWN_FOLDER : EMU_OWN_NONE;
    if (part != NULL && part[0] != 0) {
        char name[16];
        size_t length = strcspn(part, "/");
        uint32_t tid;
        if (length >= sizeof name)
            return EMU_OWN_NONE;
        memcpy(name, part, length);
        name[length] = 0;
        if (!number_of(name, &tid) || HOST3(SYS_tgkill, out->pid != 0 ? out->pid : getpid(), tid, 0) != 0)
            return EMU_OWN_NONE;
        rest = part[length] == 0 ? part + length : part + length + 1;
        if (rest[0] == 0)
            return confined ? EMU_OWN_FOLDER : EMU_OWN_NONE;
        if (behind(rest, "task") != NULL)
            return EMU_OWN_NONE;
    }
    part = behind(rest, "fd");
    if (part != NULL && part[0] != 0)
        return find_descriptor(process, part, out);
    part = behind(rest, "fdinfo");
    if (part != NULL && part[0] != 0)
        return confined && number_of(part, &out->number) && !emu_process_owns_fd(process, (int)out->number)
                   ? EMU_OWN_FACT
                   : EMU_OWN_NONE;
    for (size_t i = 0; i < (confined ? sizeof process_files / sizeof *process_files : ALWAYS); i++)
        if (strcmp(rest, process_files[i].name) == 0) {
            out->number = process_files[i].number;
            return out->pid != 0 ? of_another(process, process_files[i].kind) : process_files[i].kind;
        }
    return EMU_OWN_NONE;
}

/* What follows the number of another guest's process, which goes to out->pid; NULL where it is none. */
static const char *behind_kin(const char *rest, emu_path *out)
{
    char name[16];
    size_t length = strcspn(rest, "/");
    uint32_t pid;
    if (length >= sizeof name)
        return NULL;
    memcpy(name, rest, length);
    name[length] = 0;
    if (!number_of(name, &pid) || !emu_kin_has((pid_t)pid))
        return NULL;
    out->pid = (pid_t)pid;
    return rest[length] == 0 ? rest + length : rest + length + 1;
}

static int find_device(emu_process *process, const char *name, emu_path *out)
{
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (strcmp(name, devices[i]) == 0)
            return EMU_OWN_DEVICE;
    for (size_t i = 0; i < sizeof device_links / sizeof *device_links; i++)
        if (strcmp(name, device_links[i].name) == 0) {
            out->number = device_links[i].number;
            return EMU_OWN_LINK;
        }
    const char *pts = behind(name, "pts");
    if (pts == NULL || pts[0] == 0)
        return EMU_OWN_NONE;
    if (strcmp(pts, "ptmx") == 0)
        return EMU_OWN_DEVICE;
    return number_of(pts, &out->number) && own_terminal(process, out->number) ? EMU_OWN_DEVICE : EMU_OWN_NONE;
}

int emu_own_find(emu_process *process, const char *path, emu_path *out)
{
    bool confined = process->root != NULL;
    out->pid = 0;
    const char *rest = behind(path, "/dev");
    if (rest != NULL) {
        snprintf(out->host, sizeof out->host, "%s", path);
        return confined ? find_device(process, rest, out) : EMU_OWN_NONE;
    }
    rest = behind(path, "/proc");
    if (rest == NULL)
        return EMU_OWN_NONE;
    if (rest[0] == 0) {
        strcpy(out->host, "/proc");
        return confined ? EMU_OWN_FOLDER : EMU_OWN_NONE;
    }
    snprintf(out->host, sizeof out->host, "%s", path);
    const char *part = behind(rest, "self");
    if (part == NULL) {
        part = behind(rest, "thread-self");
        if (part != NULL && part[0] == 0 && confined) {
            out->number = EMU_LINK_THREAD;
            return EMU_OWN_LINK;
        }
    } else if (part[0] == 0 && confined) {
        out->number = EMU_LINK_SELF;
        return EMU_OWN_LINK;
    }
    if (part == NULL) {
        char own[16];
        snprintf(own, sizeof own, "%d", (int)getpid());
        part = behind(rest, own);
    }
    if (part == NULL)
        part = behind_kin(rest, out);
    if (part != NULL)
        return find_process(process, part, out);
    if (strcmp(rest, "cpuinfo") == 0)
        return process->abi == NULL || !by_kvm(process) ? EMU_OWN_CPUINFO : confined ? EMU_OWN_FACT : EMU_OWN_NONE;
    if (!confined)
        return EMU_OWN_NONE;
    if (strcmp(rest, "mounts") == 0) {
        out->number = EMU_LINK_MOUNTS;
        return EMU_OWN_LINK;
    }
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (strcmp(path, facts[i]) == 0)
            return EMU_OWN_FACT;
    return EMU_OWN_NONE;
}

/* What the host's link says, in the guest's terms where that has some. */
static int host_link(emu_process *process, const char *link, char target[PATH_MAX])
{
    char host[PATH_MAX];
    ssize_t length = readlink(link, host, sizeof host - 1);
    if (length < 0)
        return -errno;
    host[length] = 0;
    emu_path_guest(process, host, target);
    return 0;
}

int emu_own_link(emu_process *process, const emu_path *link, char target[PATH_MAX])
{
    switch (link->number) {
    case EMU_LINK_OPEN:
        return host_link(process, link->host, target);
    case EMU_LINK_EXE:
        if (link->pid != 0)
            return emu_kin_exe(link->pid, target);
        if (process->exe_guest == NULL)
            return -ENOENT;
        snprintf(target, PATH_MAX, "%s", process->exe_guest);
        return 0;
    case EMU_LINK_CWD:
        if (link->pid != 0)
            return emu_path_beside(process, link->host, target);
        return emu_path_position(process, AT_FDCWD, target);
    case EMU_LINK_ROOT:
        strcpy(target, "/");
        return 0;
    case EMU_LINK_SELF:
        snprintf(target, PATH_MAX, "%d", (int)getpid());
        return 0;
    case EMU_LINK_THREAD:
        snprintf(target, PATH_MAX, "%d/task/%d", (int)getpid(), (int)gettid());
        return 0;
    case EMU_LINK_MOUNTS:
        strcpy(target, "self/mounts");
        return 0;
    case EMU_LINK_SHM:
        strcpy(target, "/tmp"); /* what shm_open and sem_open make needs to be somewhere */
        return 0;
    case EMU_LINK_FDS:
        strcpy(target, "/proc/self/fd");
        return 0;
    default:
        snprintf(target, PATH_MAX, "/proc/self/fd/%u", link->number - EMU_LINK_STDIN);
        return 0;
    }
}

static int64_t open_text(emu_thread *thread, const emu_path *path, uint64_t flags)
{
    char *text = NULL;
    size_t length = 0, done = 0;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return -ENOMEM;
    emu_own_text(thread, path, out);
    struct rlimit guests;
    bool limited = getrlimit(RLIMIT_FSIZE, &guests) == 0 && guests.rlim_cur < guests.rlim_max;
    if (limited) /* the text is no file of the guest's */
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){guests.rlim_max, guests.rlim_max});
    int fd = fclose(out) == 0 ? memfd_create(strrchr(path->host, '/') + 1, flags & O_CLOEXEC ? MFD_CLOEXEC : 0) : -1;
    int64_t result = fd >= 0 ? fd : errno != 0 ? -errno : -ENOMEM;
    while (fd >= 0 && done < length) {
        ssize_t written = write(fd, text + done, length - done);
        if (written <= 0) {
            result = -EIO;
            break;
        }
        done += (size_t)written;
    }
    if (limited)
        setrlimit(RLIMIT_FSIZE, &guests);
    if (result >= 0 && (lseek(fd, 0, SEEK_SET) != 0 || fchmod(fd, 0444) != 0))
        result = -EIO;
    if (result < 0 && fd >= 0)
        close(fd);
    free(text);
    return result;
}

/* ---- folders ------------------------------------------------------------------------------------------- */

bool emu_own_lists(emu_process *process, const char *folder)
{
    emu_path found;
    if (behind(folder, "/proc") == NULL)
        return false;
    if (process->root != NULL)
        return true;
    const char *last = strrchr(folder, '/');
    char fd[PATH_MAX];
    if (strcmp(last, "/fd") != 0 && strcmp(last, "/fdinfo") != 0)
        return false;
    /* Of a guest's process, whose maps would be made here. */
    snprintf(fd, sizeof fd, "%.*s/maps", (int)(last - folder), folder);
    return emu_own_find(process, fd, &found) == EMU_OWN_MAPS;
}

bool emu_own_shows(emu_process *process, const char *folder, const char *name)
{
    char path[PATH_MAX];
    uint32_t number;
    emu_path found;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return true;
    if (process->root == NULL)
        return !number_of(name, &number) || !emu_process_owns_fd(process, (int)number);
    return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path &&
           emu_own_find(process, path, &found) != EMU_OWN_NONE;
}

/* ---- open -------------------------------------------------------------------------------------------- */

static const char mem_name[] = "emu-mem";

/* A descriptor opened anew.  Of a file outside the root nothing more than the descriptor has. */
static int64_t open_again(emu_thread *thread, const emu_path *path, uint64_t flags)
{
    int fd = (int)path->number;
    int have = fcntl(fd, F_GETFL);
    bool writes = (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC || (flags & O_TMPFILE) == O_TMPFILE;
    bool reads = (flags & O_ACCMODE) != O_WRONLY;
    if (have < 0)
        return -ENOENT;
    if (!(flags & O_PATH) && emu_path_outside(thread->process, fd) &&
        (have & O_PATH || (writes && (have & O_ACCMODE) == O_RDONLY) || (reads && (have & O_ACCMODE) == O_WRONLY)))
        return -EACCES;
    return WAIT4(thread, SYS_openat, AT_FDCWD, path->host, flags & ~(uint64_t)(O_CREAT | O_EXCL), 0);
}

int64_t emu_own_open(emu_thread *thread, const emu_path *path, uint64_t flags)
{
    bool writes = (flags & O_ACCMODE) != O_RDONLY;
    if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
        return -EEXIST;
    if (path->own == EMU_OWN_LINK || (path->own == EMU_OWN_FD && flags & O_NOFOLLOW))
        return -ELOOP;
    if (path->own == EMU_OWN_FD)
        return open_again(thread, path, flags);
    flags &= ~(uint64_t)(O_CREAT | O_TRUNC);
    if (path->own == EMU_OWN_FOLDER)
        return writes ? -EISDIR : HOST4(SYS_openat, AT_FDCWD, path->host, flags | O_DIRECTORY, 0);
    if (flags & O_DIRECTORY)
        return -ENOTDIR;
    if (path->own == EMU_OWN_DEVICE)
        return WAIT4(thread, SYS_openat, AT_FDCWD, path->host, flags, 0);
    if (path->own == EMU_OWN_MEM) {
        int fd = memfd_create(mem_name, flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
        if (fd < 0)
            return -errno;
        thread->process->mem_files = true;
        return fd;
    }
    if (writes)
        return -EACCES;
    if (path->own == EMU_OWN_FACT)
        return HOST4(SYS_openat, AT_FDCWD, path->host, flags & ~(uint64_t)O_PATH, 0);
    return open_text(thread, path, flags);
}

/* ---- /proc/self/mem -------------------------------------------------------------------------------------- */

static bool is_mem(int fd)
{
    char link[48], name[64];
    snprintf(link, sizeof link, "/proc/thread-self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0)
        return false;
    name[length] = 0;
    return strncmp(name, "/memfd:", 7) == 0 && strncmp(name + 7, mem_name, strlen(mem_name)) == 0 &&
           strcmp(name + 7 + strlen(mem_name), " (deleted)") == 0;
}

/* Writes where the guest itself may not, as a debugger does; within one page. */
static int force(emu_umem *umem, uint64_t addr, const void *from, size_t size)
{
    int error = -EFAULT;
    umem_lock(umem);
    int fd = umem_find(umem, addr) != NULL ? open("/proc/self/mem", O_WRONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        if (umem->before != NULL)
            umem->before(umem->opaque, addr, size);
        if (pwrite(fd, from, size, (off_t)(uintptr_t)(umem->base + addr)) == (ssize_t)size)
            error = 0;
        if (umem->after != NULL)
            umem->after(umem->opaque, addr, size);
        close(fd);
    }
    umem_unlock(umem);
    return error;
}

static int64_t transfer(emu_thread *thread, uint64_t buffer, uint64_t count, uint64_t addr, bool write)
{
    emu_umem *umem = umem_of(thread);
    uint8_t page[4096];
    uint64_t done = 0;
    if (count > INT32_MAX)
        count = INT32_MAX & ~(EMU_PAGE - 1);
    while (done < count) {
        uint64_t at = addr + done, size = EMU_PAGE - (at & (EMU_PAGE - 1));
        size = size > count - done ? count - done : size;
        if (at < addr || !umem_range(umem, at, size))
            break;
        if (write) {
            if (get(thread, page, buffer + done, size))
                return done ? (int64_t)done : -EFAULT;
            if (force(umem, at, page, size))
                break;
        } else {
            if (get(thread, page, at, size))
                break;
            if (put(thread, buffer + done, page, size))
                return done ? (int64_t)done : -EFAULT;
        }
        done += size;
    }
    return done || count == 0 ? (int64_t)done : -EIO;
}

bool emu_own_mem(emu_thread *thread, long call, const uint64_t *args, int64_t *result)
{
    bool placed = call == SYS_pread64 || call == SYS_pwrite64;
    bool write = call == SYS_write || call == SYS_pwrite64;
    if (!placed && !write && call != SYS_read)
        return false;
    int fd = (int)args[0];
    if (!is_mem(fd))
        return false;
    int64_t at = placed ? (int64_t)args[3] : lseek(fd, 0, SEEK_CUR);
    *result = at < 0 ? -EINVAL : transfer(thread, args[1], args[2], (uint64_t)at, write);
    if (!placed && *result > 0)
        lseek(fd, at + *result, SEEK_SET);
    return true;
}

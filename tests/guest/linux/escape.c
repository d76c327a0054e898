/*
 * A program that tries to get out of its root: escape PART.
 *
 * Its root holds what test_root.py lays there; outside, beside the root and in
 * "/", lie files whose content is "secret".  Whatever way it takes, none of them
 * must be read, made, changed or removed: those it reaches it prints, with "NO".
 * What Linux answers otherwise is printed too, for the comparison with chroot.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *error_name(int error)
{
    switch (error) {
#define CASE(name) case name: return #name
    CASE(ENOENT); CASE(EACCES); CASE(EPERM); CASE(ENOTDIR); CASE(EISDIR); CASE(ELOOP); CASE(EXDEV); CASE(EBADF);
    CASE(EEXIST); CASE(EINVAL); CASE(ENOTEMPTY); CASE(EBUSY); CASE(ENAMETOOLONG); CASE(EROFS); CASE(ENOSYS);
    CASE(ENXIO); CASE(ECONNREFUSED); CASE(EOPNOTSUPP); CASE(ENODATA); CASE(EADDRINUSE); CASE(ETXTBSY); CASE(ERANGE);
    CASE(ENOEXEC); CASE(ESTALE); CASE(EAGAIN);
    }
    static char text[16];
    snprintf(text, sizeof text, "%d", error);
    return text;
}

static void tell(const char *what, const char *path, long result)
{
    if (result < 0)
        printf("%s %s: %s\n", what, path, error_name(errno));
    else
        printf("%s %s: ok\n", what, path);
}

/* What a descriptor reads: "inside", or what must not be seen. */
static void content(const char *what, const char *path, int fd)
{
    char text[64] = "";
    if (fd < 0) {
        printf("%s %s: %s\n", what, path, error_name(errno));
        return;
    }
    ssize_t got = read(fd, text, sizeof text - 1);
    text[got > 0 ? strcspn(text, "\n") : 0] = 0;
    close(fd);
    if (got < 0)
        printf("%s %s: read %s\n", what, path, error_name(errno));
    else if (strstr(text, "secret"))
        printf("%s %s: NO, it is %s\n", what, path, text);
    else
        printf("%s %s: %s\n", what, path, text);
}

static const char *const paths[] = {
    "/inside", "inside", "../inside", "/../inside", "/../../../../../../../../inside", "./a/../../inside",
    "/secret", "/../secret", "../../../../../../../../secret", "a/b/c/../../../../../../secret", "//..//..//secret",
    "/a/b/../../../../secret", "/link-absolute", "/link-up", "/link-chain", "/a/link-up/secret", "/a/link-root/secret",
    "/a/link-root/inside", "/link-loop", "/link-dangling", "/link-deep/secret", "/link-deep/inside", "/link-dots",
    "/a/b/link-parent/inside", "/inside/", "/inside/.", "/inside/..", "/a/", "/a/.", "/a/..", "/a/b/c/..", "", "/",
    ".", "..", "/nothing", "/nothing/x", "/nothing/..", "/a/../nothing/../inside", "/link-empty",
    "/beside/secret", "../beside/secret", "/link-beside/secret", "/link-beside",
};
enum { PATHS = sizeof paths / sizeof *paths };

static void part_look(void)
{
    for (int i = 0; i < PATHS; i++) {
        const char *path = paths[i];
        struct stat st;
        struct statfs fs;
        char link[PATH_MAX];
        content("open", path, open(path, O_RDONLY));
        content("open nofollow", path, open(path, O_RDONLY | O_NOFOLLOW));
        int fd = open(path, O_PATH);
        tell("open path", path, fd);
        close(fd);
        long result = stat(path, &st);
        tell("stat", path, result);
        if (result == 0)
            printf("  type %o size %d\n", st.st_mode & S_IFMT, S_ISREG(st.st_mode) ? (int)st.st_size : 0);
        result = lstat(path, &st);
        tell("lstat", path, result);
        if (result == 0)
            printf("  type %o\n", st.st_mode & S_IFMT);
        tell("access", path, access(path, R_OK));
        tell("faccessat", path, faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW));
        tell("statfs", path, statfs(path, &fs));
        ssize_t length = readlink(path, link, sizeof link - 1);
        tell("readlink", path, length);
        if (length >= 0) {
            link[length] = 0;
            printf("  %s\n", link);
        }
        tell("getxattr", path, getxattr(path, "user.none", link, sizeof link));
        tell("lgetxattr", path, lgetxattr(path, "user.none", link, sizeof link));
    }
}

static void part_change(void)
{
    struct timespec now[2] = {{1000, 0}, {1000, 0}};
    for (int i = 0; i < PATHS; i++) {
        const char *path = paths[i];
        if (strstr(path, "inside") || !strstr(path, "e"))
            continue; /* what is there and shall stay */
        tell("truncate", path, truncate(path, 0));
        tell("chmod", path, chmod(path, 0600));
        tell("lchown", path, lchown(path, getuid(), getgid()));
        tell("chown", path, chown(path, getuid(), getgid()));
        tell("utimensat", path, utimensat(AT_FDCWD, path, now, 0));
        tell("utimensat nofollow", path, utimensat(AT_FDCWD, path, now, AT_SYMLINK_NOFOLLOW));
        tell("mkdir", path, mkdir(path, 0700));
        tell("rmdir", path, rmdir(path));
        tell("symlink", path, symlink("../../../secret", path));
        content("open symlink", path, open(path, O_RDONLY));
        tell("unlink", path, unlink(path));
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        tell("create", path, fd);
        if (fd >= 0)
            write(fd, "made\n", 5);
        close(fd);
        tell("link", path, link(path, "/linked"));
        tell("unlink linked", path, unlink("/linked"));
        tell("linkat follow", path, linkat(AT_FDCWD, path, AT_FDCWD, "/linked", AT_SYMLINK_FOLLOW));
        content("linked", path, open("/linked", O_RDONLY));
        tell("unlink linked", path, unlink("/linked"));
        tell("rename", path, rename(path, "/renamed"));
        tell("rename back", path, rename("/renamed", path));
        tell("unlink", path, unlink(path));
        tell("mknod", path, mknod(path, S_IFIFO | 0600, 0));
        tell("unlink", path, unlink(path));
        fd = open(path, O_TMPFILE | O_RDWR, 0600);
        tell("tmpfile", path, fd);
        close(fd);
        tell("unlink slash", path, unlink(path));
        tell("rename onto", path, rename("/nothing", path));
    }
}

static void where(void)
{
    char at[PATH_MAX];
    printf("  cwd %s\n", getcwd(at, sizeof at) ? at : error_name(errno));
}

static void part_directories(void)
{
    static const char *const folders[] = {"/", "/a", "/a/b/c", "a/../..", "/a/link-root", "/link-deep", "/link-beside",
                                          "/inside", "/nothing"};
    for (unsigned i = 0; i < sizeof folders / sizeof *folders; i++) {
        chdir("/");
        tell("chdir", folders[i], chdir(folders[i]));
        where();
        for (int k = 0; k < PATHS; k++)
            content("  from there", paths[k], open(paths[k], O_RDONLY));
        chdir("..");
        chdir("..");
        where();
        content("  above", "secret", open("secret", O_RDONLY));
        chdir("/");
        int dir = open(folders[i], O_RDONLY | O_DIRECTORY);
        int handle = open(folders[i], O_PATH);
        for (int k = 0; k < PATHS; k++) {
            content("  openat", paths[k], openat(dir, paths[k], O_RDONLY));
            content("  openat by path", paths[k], openat(handle, paths[k], O_RDONLY));
            struct stat st;
            tell("  fstatat", paths[k], fstatat(dir, paths[k], &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
        }
        tell("fchdir", folders[i], fchdir(handle));
        where();
        close(dir);
        close(handle);
    }
    chdir("/");
    content("openat number", "100", openat(100, "inside", O_RDONLY));
    content("openat file", "inside", openat(open("/inside", O_RDONLY), "inside", O_RDONLY));
    content("openat -1", "inside", openat(-1, "inside", O_RDONLY));
    content("openat -1", "/inside", openat(-1, "/inside", O_RDONLY));
    /* A directory that is removed while we are in it. */
    mkdir("/gone", 0700);
    int gone = open("/gone", O_RDONLY);
    chdir("/gone");
    rmdir("/gone");
    where();
    content("gone", "../inside", open("../inside", O_RDONLY) < 0 ? -1 : -1);
    tell("create in gone", "x", open("x", O_CREAT | O_WRONLY, 0600));
    tell("create at gone", "x", openat(gone, "x", O_CREAT | O_WRONLY, 0600));
    chdir("/");
    tell("chroot", "/a", chroot("/a"));
    content("in the new root", "/inside", open("/inside", O_RDONLY));
    content("in the new root", "/b/../../inside", open("/b/../../inside", O_RDONLY));
    chdir("/");
    where();
    content("in the new root", "../inside", open("../inside", O_RDONLY));
    content("in the new root", "../../../../secret", open("../../../../secret", O_RDONLY));
}

/* What chroot alone does not prevent, so it is not compared: every line must be a refusal. */
static void part_beyond(int inherited)
{
    char text[PATH_MAX];
    static const char *const magic[] = {
        "/proc/self/root/secret", "/proc/self/root/../secret", "/proc/self/root/../../../../secret",
        "/proc/self/cwd/../secret", "/proc/self/cwd/../../../../../secret", "/proc/thread-self/root/../secret",
        "/proc/self/task/../root/../secret", "/proc/1/root/secret", "/proc/1/cwd/secret", "/proc/self/fd/9/../secret",
        "/proc/self/fd/9/../../../../secret", "/proc/self/fd/../root/../secret", "/dev/fd/9/../../secret",
        "/dev/fd/../../secret", "/proc/self/exe/../../../secret", "/proc/self/map_files/../root/secret",
        "/proc/self/ns/mnt", 
        "/proc/self/pagemap", "/proc/kcore", "/proc/1/environ", "/proc/sysrq-trigger", "/dev/mem", "/dev/kmsg",
        "/dev/kvm", "/sys/kernel/uevent_helper", "/proc/sys/kernel/core_pattern",
    };
    /* Whatever number a descriptor of the runtime may have. */
    for (int fd = 3; fd < 5000; fd++) {
        if (fd == inherited)
            continue;
        int got = openat(fd, "..", O_RDONLY | O_DIRECTORY);
        if (got >= 0 || (errno != EBADF && errno != ENOTDIR && errno != ENOENT && errno != EACCES))
            printf("NO: openat %d gives %s\n", fd, got >= 0 ? "a directory" : error_name(errno));
        int copy = dup(fd);
        if (copy >= 0) {
            struct stat st;
            if (fstat(copy, &st) == 0 && S_ISDIR(st.st_mode))
                printf("NO: %d is a directory\n", fd);
            close(copy);
        }
        close(fd);
    }
    dup2(open("/a/b", O_RDONLY), 9);
    for (unsigned i = 0; i < sizeof magic / sizeof *magic; i++)
        content("magic", magic[i], open(magic[i], O_RDONLY));
    /* A descriptor of a directory outside the root, that is in our hands. */
    snprintf(text, sizeof text, "/proc/self/fd/%d", inherited);
    char *at = strdup(text);
    content("openat inherited", "secret", openat(inherited, "secret", O_RDONLY));
    content("openat inherited", "../secret", openat(inherited, "../secret", O_RDONLY));
    tell("mkdirat inherited", "made", mkdirat(inherited, "made", 0700));
    tell("fchmod inherited", ".", fchmod(inherited, 0777));
    tell("fchownat inherited", ".", fchownat(inherited, "", 1, 1, AT_EMPTY_PATH));
    tell("fchdir inherited", ".", fchdir(inherited));
    tell("chdir inherited", "/proc/self/fd/0", chdir(at));
    tell("linkat inherited", "", linkat(inherited, "secret", AT_FDCWD, "/stolen", 0));
    tell("renameat inherited", "", renameat(inherited, "secret", AT_FDCWD, "/stolen"));
    tell("unlinkat inherited", "", unlinkat(inherited, "secret", 0));
    tell("symlinkat inherited", "", symlinkat("/inside", inherited, "made"));
    tell("tmpfile inherited", "", open(at, O_TMPFILE | O_RDWR, 0600));
    tell("execveat inherited", "program", syscall(SYS_execveat, inherited, "program", (char *[]){"x", 0}, (char *[]){0}, 0));
    tell("chroot inherited", ".", chroot(at));
    tell("watch inherited", ".", inotify_add_watch(inotify_init1(0), at, IN_OPEN));
    struct timespec past[2] = {{1, 0}, {1, 0}};
    tell("utimensat inherited", ".", syscall(SYS_utimensat, inherited, NULL, past, 0));
    tell("futimens inherited", ".", futimens(inherited, past));
    tell("fsetxattr inherited", ".", fsetxattr(inherited, "user.mark", "x", 1, 0));
    int attributes = 0x80;
    tell("attributes inherited", ".", ioctl(inherited, _IOW('f', 2, long), &attributes));
    struct fsxattr extended = {0};
    tell("attributes inherited", ".", ioctl(inherited, FS_IOC_FSSETXATTR, &extended));
    tell("statx inherited", "secret", syscall(SYS_statx, inherited, "secret", 0, 0x7ff, malloc(256)));
    tell("faccessat inherited", "secret", faccessat(inherited, "secret", F_OK, 0));
    tell("readlinkat inherited", "secret", readlinkat(inherited, "secret", text, sizeof text));
    tell("mknodat inherited", "made", mknodat(inherited, "made", S_IFIFO | 0600, 0));
    for (uint64_t resolve = 1; resolve <= 0x20; resolve *= 2) {
        uint64_t how[3] = {O_RDONLY, 0, resolve};
        content("openat2 inherited", "secret", syscall(SYS_openat2, inherited, "secret", how, sizeof how));
    }
    struct sockaddr_un name = {AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s/made", at);
    tell("bind inherited", "made", bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, sizeof name));
    tell("execve inherited", "secret-program", -(snprintf(text, sizeof text, "%s/secret-program", at) > 0 && execl(text, "x", NULL)));
    /* Folders of /proc are the host's own: nothing of the process may be reached from their descriptors. */
    static const char *const folders[] = {"/proc/self", "/proc/thread-self", "/proc/self/task", "/proc/self/fd",
                                          "/proc/self/fdinfo", "/proc/self/ns", "/proc", "/proc/self/net", "/dev/pts"};
    for (unsigned i = 0; i < sizeof folders / sizeof *folders; i++)
        for (int path = 0; path < 2; path++) {
            int folder = open(folders[i], O_RDONLY | O_DIRECTORY | (path ? O_PATH : 0));
            if (folder < 0)
                continue;
            snprintf(text, sizeof text, "%d/mem", getpid());
            const char *const ways[] = {"mem", "root/secret", "cwd/../secret", "map_files", "exe", "ns/mnt", "../1/root/secret",
                                        "task", text, "environ", "maps", "../self/mem", "../../etc/passwd", "fd/1", "syscall"};
            for (unsigned k = 0; k < sizeof ways / sizeof *ways; k++) {
                for (uint64_t resolve = 0; resolve <= 0x3f; resolve++) {
                    uint64_t how[3] = {O_RDONLY, 0, resolve};
                    int found = syscall(SYS_openat2, folder, ways[k], how, sizeof how);
                    struct statfs fs;
                    if (found >= 0 && fstatfs(found, &fs) == 0 && fs.f_type == 0x9fa0 && strcmp(ways[k], "task") && strcmp(ways[k], "fd/1"))
                        printf("NO: %s of %s is the host's, resolved as %d\n", ways[k], folders[i], (int)resolve);
                    close(found);
                }
                int found = openat(folder, ways[k], O_RDWR);
                if (found >= 0 && (strstr(ways[k], "secret") || strstr(ways[k], "root")))
                    printf("NO: %s of %s\n", ways[k], folders[i]);
                close(found);
            }
            if (fchdir(folder) == 0)
                content("from a folder of /proc", "mem", open("root/secret", O_RDONLY));
            chdir("/");
            close(folder);
        }
    /* Standard error is a file outside, open for writing only. */
    content("reopened", "/proc/self/fd/2", open("/proc/self/fd/2", O_RDONLY));
    content("reopened", "/dev/stderr", open("/dev/stderr", O_RDWR));
    tell("linked", "/proc/self/fd/2", linkat(AT_FDCWD, "/proc/self/fd/2", AT_FDCWD, "/stolen", AT_SYMLINK_FOLLOW));
    tell("chmod", "/proc/self/fd/2", chmod("/proc/self/fd/2", 0777));
    tell("chmod", "/dev/null", chmod("/dev/null", 0));
    tell("fchmod", "/dev/null", fchmod(open("/dev/null", O_RDWR), 0));
    tell("chown", "/dev/null", chown("/dev/null", 1, 1));
    tell("truncate", "/dev/null", truncate("/dev/null", 0));
    tell("mount", "/a", syscall(SYS_mount, "/", "/a", "none", 4096 /* MS_BIND */, 0));
    tell("mount proc", "/a", syscall(SYS_mount, "proc", "/a", "proc", 0, 0));
    tell("umount", "/", syscall(SYS_umount2, "/", 2));
    tell("pivot_root", "/a", syscall(SYS_pivot_root, "/a", "/a"));
    struct {
        struct file_handle head;
        unsigned char bytes[128];
    } handle;
    int id;
    memset(&handle, 0, sizeof handle);
    handle.head.handle_bytes = 128;
    tell("name_to_handle_at", "/", name_to_handle_at(AT_FDCWD, "/", &handle.head, &id, 0));
    handle.head.handle_bytes = 8;
    handle.head.handle_type = 1;
    handle.bytes[0] = 2; /* the root's inode on ext4 */
    tell("open_by_handle_at", "", open_by_handle_at(AT_FDCWD, &handle.head, O_RDONLY));
    tell("mknod device", "/sda", mknod("/sda", S_IFBLK | 0600, 8 << 8));
    tell("mknod device", "/mem", mknod("/mem", S_IFCHR | 0600, 1 << 8 | 1));
    int parent = syscall(SYS_pidfd_open, getppid(), 0);
    tell("setns", "parent", syscall(SYS_setns, parent, 0x20000));
    tell("pidfd_getfd", "parent", syscall(SYS_pidfd_getfd, parent, 0, 0));
    tell("readlink", "/proc/self/root", readlink("/proc/self/root", text, sizeof text) == 1 && text[0] == '/' ? 0 : -1);
    ssize_t length = readlink("/proc/self/cwd", text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    printf("cwd link %s\n", text);
    length = readlink("/proc/self/exe", text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    printf("exe link %s\n", text);
    /* chroot's classic: a root below, with the working directory above it. */
    tell("chroot", "/a", chroot("/a"));
    for (int i = 0; i < 10; i++)
        chdir("..");
    content("behind chroot", "secret", open("secret", O_RDONLY));
    content("behind chroot", "inside", open("inside", O_RDONLY));
    tell("chroot", ".", chroot("."));
    content("behind chroot", "/secret", open("/secret", O_RDONLY));
    content("behind chroot", "/inside", open("/inside", O_RDONLY));
}

static int address(struct sockaddr_un *to, const char *path)
{
    memset(to, 0, sizeof *to);
    to->sun_family = AF_UNIX;
    strcpy(to->sun_path, path);
    return sizeof *to;
}

static void part_sockets(void)
{
    struct sockaddr_un at, name;
    static const char *const targets[] = {"/socket", "../../socket", "/a/../../socket", "/link-socket", "a/b/socket",
                                          "/nothing/socket", "/inside/socket", "/inside", "/a"};
    for (unsigned i = 0; i < sizeof targets / sizeof *targets; i++) {
        int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
        tell("connect", targets[i], connect(client, (void *)&at, address(&at, targets[i])));
        tell("bind", targets[i], bind(server, (void *)&at, address(&at, targets[i])));
        tell("listen", targets[i], listen(server, 1));
        socklen_t size = sizeof name;
        memset(&name, 0, sizeof name);
        getsockname(server, (void *)&name, &size);
        printf("  is %s, %d bytes\n", name.sun_path, (int)size);
        tell("connect", targets[i], connect(client, (void *)&at, address(&at, targets[i])));
        size = sizeof name;
        memset(&name, 0, sizeof name);
        if (getpeername(client, (void *)&name, &size) == 0)
            printf("  peer %s, %d bytes\n", name.sun_path, (int)size);
        close(server);
        close(client);
        int datagram = socket(AF_UNIX, SOCK_DGRAM, 0), other = socket(AF_UNIX, SOCK_DGRAM, 0);
        tell("sendto", targets[i], sendto(datagram, "x", 1, 0, (void *)&at, address(&at, targets[i])));
        tell("unlink", targets[i], strstr(targets[i], "socket") ? unlink(targets[i]) : 0);
        tell("bind datagram", targets[i], bind(datagram, (void *)&at, address(&at, targets[i])));
        tell("bind other", "/other", bind(other, (void *)&at, address(&at, "/other")));
        struct iovec iov = {"hello", 5};
        struct msghdr msg = {.msg_name = &at, .msg_namelen = address(&at, targets[i]), .msg_iov = &iov, .msg_iovlen = 1};
        tell("sendmsg", targets[i], sendmsg(other, &msg, 0));
        char text[16] = "";
        size = sizeof name;
        memset(&name, 0, sizeof name);
        long got = recvfrom(datagram, text, 15, MSG_DONTWAIT, (void *)&name, &size);
        tell("recvfrom", targets[i], got);
        if (got >= 0) {
            printf("  %s from %s, %d bytes\n", text, name.sun_path, (int)size);
            tell("reply", name.sun_path, sendto(datagram, "back", 4, 0, (void *)&name, size));
        }
        close(datagram);
        close(other);
        unlink("/other");
        tell("unlink", targets[i], strstr(targets[i], "socket") ? unlink(targets[i]) : 0);
    }
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    tell("connect outside", "/outside-socket", connect(client, (void *)&at, address(&at, "/outside-socket")));
    tell("connect outside", "../outside-socket", connect(client, (void *)&at, address(&at, "../outside-socket")));
}

static void part_programs(void)
{
    static const char *const programs[] = {"/program", "../program", "/../../program", "/link-program", "/script",
                                           "/script-outside", "/secret-program", "../../secret-program", "/inside", "/a",
                                           "/nothing"};
    fflush(stdout);
    for (unsigned i = 0; i < sizeof programs / sizeof *programs; i++) {
        if (fork() == 0) {
            execl(programs[i], "program", "inner", NULL);
            tell("execve", programs[i], -1);
            fflush(stdout);
            _exit(1);
        }
        wait(NULL);
        int dir = open("/a", O_RDONLY);
        if (fork() == 0) {
            syscall(SYS_execveat, dir, programs[i], (char *[]){"program", "inner", NULL}, (char *[]){NULL}, 0);
            tell("execveat", programs[i], -1);
            fflush(stdout);
            _exit(1);
        }
        wait(NULL);
        close(dir);
    }
    int fd = open("/program", O_RDONLY);
    if (fork() == 0) {
        syscall(SYS_execveat, fd, "", (char *[]){"program", "inner", NULL}, (char *[]){NULL}, AT_EMPTY_PATH);
        tell("execveat", "empty", -1);
        fflush(stdout);
        _exit(1);
    }
    wait(NULL);
}

static void part_watch(void)
{
    int fd = inotify_init1(IN_NONBLOCK);
    static const char *const targets[] = {"/a", "/secret", "../../secret", "/link-up", "/inside", "/link-absolute"};
    for (unsigned i = 0; i < sizeof targets / sizeof *targets; i++) {
        tell("watch", targets[i], inotify_add_watch(fd, targets[i], IN_CREATE | IN_OPEN));
        tell("watch nofollow", targets[i], inotify_add_watch(fd, targets[i], IN_OPEN | IN_DONT_FOLLOW));
    }
    close(open("/a/new", O_CREAT | O_WRONLY, 0600));
    char events[512];
    tell("events", "/a", read(fd, events, sizeof events));
    unlink("/a/new");
}

/*
 * Walks through folders that another process renames and exchanges with links
 * to the outside meanwhile.  Only a number is printed: of what was not secret.
 */
static void part_race(int seconds)
{
    static const char *const ways[] = {"/race/x/y/../../../secret", "/race/x/y/../../../../../secret", "/race/x/secret",
                                       "/race/x/y/secret", "/race/x/../x/y/../secret", "/race/x/y/../../x/y/../../secret"};
    time_t end = time(NULL) + seconds;
    unsigned long tries = 0, met = 0;
    chdir("/race/x/y");
    int dir = open("/race/x/y", O_RDONLY);
    while (time(NULL) < end)
        for (unsigned i = 0; i < 6; i++) {
            char text[64] = "";
            int fds[4] = {open(ways[i], O_RDONLY), openat(dir, "../../../secret", O_RDONLY),
                          open("../../../../secret", O_RDONLY), open("../secret", O_RDONLY)};
            for (unsigned k = 0; k < 4; k++) {
                tries++;
                if (fds[k] < 0)
                    continue;
                met++;
                ssize_t got = read(fds[k], text, sizeof text - 1);
                if (got > 0 && strstr(text, "secret"))
                    printf("NO: way %u.%u reads %s\n", i, k, text);
                close(fds[k]);
            }
            int made = open("/race/x/y/made", O_CREAT | O_WRONLY, 0600);
            close(made);
            mkdir("/race/x/made", 0700);
            rename("/race/x/y/made", "/race/x/moved");
            rmdir("/race/x/made");
            unlink("/race/x/moved");
            unlink("/race/x/secret");
            struct sockaddr_un at;
            int sock = socket(AF_UNIX, SOCK_STREAM, 0);
            bind(sock, (void *)&at, address(&at, "/race/x/socket"));
            close(sock);
            unlink("/race/x/socket");
        }
    printf("%s\n", tries > 100 ? "raced" : "too slow");
}

static void show_rights(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct caps[2] = {{0}};
    printf("user %d: capget %ld", (int)geteuid(), (long)syscall(SYS_capget, &header, caps));
    printf(", permitted %d, in use %d", (caps[0].permitted | caps[1].permitted) != 0, (caps[0].effective | caps[1].effective) != 0);
    printf(", kept %d, dumpable %d", prctl(PR_GET_KEEPCAPS), prctl(PR_GET_DUMPABLE));
    int fd = open("/private", O_RDONLY);
    printf(", private %s\n", fd >= 0 ? "opened" : error_name(errno));
    close(fd);
    fflush(stdout);
}

/* Children that give up being root, and then their program; with a capability that is passed on, too. */
static void part_rights(void)
{
    enum { NOBODY = 65534 };
    close(open("/private", O_CREAT | O_WRONLY, 0600));
    for (int way = 0; way < 4; way++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
            struct __user_cap_data_struct caps[2] = {{0}};
            uint32_t one = 1u << CAP_DAC_OVERRIDE;
            prctl(PR_SET_KEEPCAPS, way != 0);
            if (way < 3 ? setresuid(NOBODY, NOBODY, NOBODY) : setresuid(0, NOBODY, NOBODY))
                _exit(1);
            if (way == 2) {
                caps[0].permitted = caps[0].effective = caps[0].inheritable = one;
                syscall(SYS_capset, &header, caps);
                prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0);
            }
            printf("way %d\n", way);
            show_rights();
            execl("/program", "program", "rights-after", NULL);
            _exit(2);
        }
        int status;
        waitpid(child, &status, 0);
        printf("status %x\n", status);
    }
}

int main(int argc, char **argv)
{
    const char *part = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    if (!strcmp(part, "inner"))
        printf("the program runs\n");
    else if (!strcmp(part, "look"))
        part_look();
    else if (!strcmp(part, "change"))
        part_change();
    else if (!strcmp(part, "directories"))
        part_directories();
    else if (!strcmp(part, "sockets"))
        part_sockets();
    else if (!strcmp(part, "programs"))
        part_programs();
    else if (!strcmp(part, "watch"))
        part_watch();
    else if (!strcmp(part, "rights"))
        part_rights();
    else if (!strcmp(part, "rights-after"))
        show_rights();
    else if (!strcmp(part, "beyond"))
        part_beyond(argc > 2 ? atoi(argv[2]) : 100);
    else if (!strcmp(part, "race"))
        part_race(argc > 2 ? atoi(argv[2]) : 2);
    else
        return 2;
    return 0;
}

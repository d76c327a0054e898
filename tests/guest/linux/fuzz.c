/*
 * Random system calls with random arguments: fuzz SEED CALLS.  Pointers lead into
 * a buffer, to its edges, or nowhere; so nothing but the calls left out here may
 * end the program.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* They end, stop, duplicate or replace the program, or change the system around it. */
static const long left_out[] = {
    SYS_exit, SYS_exit_group, SYS_rt_sigreturn, SYS_clone, SYS_execve, SYS_execveat, SYS_kill, SYS_tkill,
    SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_send_signal, SYS_munmap,
    SYS_mprotect, SYS_mremap, SYS_brk, SYS_madvise, SYS_reboot, SYS_sethostname, SYS_setdomainname, SYS_mount,
    SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_swapon, SYS_swapoff, SYS_syslog, SYS_vhangup, SYS_acct,
    SYS_settimeofday, SYS_adjtimex, SYS_clone3, SYS_sched_setscheduler, SYS_sched_setparam,
    SYS_sched_setattr, SYS_sched_setaffinity, SYS_setrlimit, SYS_prlimit64, SYS_setpriority, SYS_ioprio_set,
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_setitimer, SYS_prctl, SYS_sync, SYS_syncfs, SYS_unshare, SYS_setns,
    SYS_mlockall, SYS_timer_create, SYS_timer_settime, SYS_process_vm_writev, SYS_capset, SYS_shmget, SYS_semget,
    SYS_msgget, SYS_mq_open, SYS_rt_sigtimedwait, SYS_sigaltstack, SYS_fcntl, SYS_set_tid_address, SYS_shmat,
    SYS_rt_sigsuspend, SYS_ppoll, SYS_pselect6, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_unlinkat, SYS_renameat2,
    SYS_delete_module, SYS_fallocate, SYS_ptrace, SYS_setsid,
#ifdef SYS_mmap
    SYS_mmap,
#endif
#ifdef SYS_mmap2
    SYS_mmap2, SYS_fcntl64, SYS_sigaction, SYS_sigprocmask, SYS_sigreturn, SYS_ppoll_time64, SYS_pselect6_time64,
    SYS_rt_sigtimedwait_time64, SYS_sigsuspend, SYS_clock_settime64, SYS_clock_adjtime64, SYS_timer_settime64,
    SYS_nice,
#endif
#ifdef SYS_clock_settime
    SYS_clock_settime, SYS_clock_adjtime,
#endif
#ifdef SYS_fork
    SYS_fork, SYS_vfork, SYS_pause, SYS_unlink, SYS_rmdir, SYS_rename,
#endif
#ifdef SYS_alarm
    SYS_alarm, SYS_arch_prctl,
#endif
#ifdef SYS_renameat
    SYS_renameat,
#endif
};

static uint64_t state;
static uint32_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

enum { ROOM = 65536 };
static char *buffer;

static long argument(void)
{
    switch (next() % 16) {
    case 0:
        return 0;
    case 1:
        return -1;
    case 2:
        return (long)next();
    case 3:
        return (long)(((uint64_t)next() << 32) | next());
    case 4:
        return -(long)(next() % 8192);
    case 5:
        return (long)1 << (next() % (8 * sizeof(long)));
    case 6:
        return (long)(buffer + ROOM - next() % 64);
    case 7:
        return (long)(buffer - 1 - next() % 64);
    case 8:
    case 9:
    case 10:
        return (long)(buffer + next() % ROOM);
    case 11:
        return 3 + next() % 8;
    case 12:
        return -100;
    default:
        return next() % 300;
    }
}

static void nothing(int sig)
{
}

static void child(unsigned calls)
{
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    struct itimerval timer = {{0, 3000}, {0, 3000}};
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = nothing;
    sigaction(SIGALRM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPOLL, SIG_IGN);
    setitimer(ITIMER_REAL, &timer, NULL);
    struct rlimit files = {64, 64}, size = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_FSIZE, &size);
    for (unsigned i = 0; i < calls;) {
        long nr = next() % 480, args[6];
        int skip = 0;
        for (unsigned k = 0; k < sizeof left_out / sizeof *left_out; k++)
            skip |= left_out[k] == nr;
        for (unsigned k = 0; k < 6; k++)
            args[k] = argument();
        if (skip)
            continue;
        i++;
        if (next() % 64 == 0)
            for (unsigned k = 0; k < 256; k++)
                buffer[next() % ROOM] = (char)next();
        if (next() % 64 == 0) {
            int p[2];
            if (pipe(p) == 0)
                fcntl(p[0], F_SETFL, O_NONBLOCK);
        }
        syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    unsigned seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 1, calls = argc > 2 ? strtoul(argv[2], NULL, 0) : 1000;
    enum { BATCH = 500 };
    char directory[] = "/tmp/emu-fuzz-XXXXXX";
    if (!mkdtemp(directory) || chdir(directory))
        return 2;
    char *area = mmap(NULL, ROOM + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    buffer = area + 4096;
    mprotect(buffer, ROOM, PROT_READ | PROT_WRITE);
    for (unsigned done = 0; done < calls; done += BATCH) {
        int status;
        fflush(stdout);
        state = 0x9e3779b97f4a7c15u * (seed + done + 1);
        pid_t pid = fork();
        if (pid == 0) {
            setsid();
            child(BATCH);
        }
        while (waitpid(pid, &status, 0) < 0)
            ;
        if (status)
            printf("batch %u of seed %u: status %#x\n", done / BATCH, seed, status);
    }
    printf("%u calls\n", calls);
    if (system("rm -rf \"$PWD\"") != 0)
        return 1;
    return 0;
}

/* System calls about the process, its limits and identity, and the system. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "syscall.h"

/* ---- identity ------------------------------------------------------------------------------------ */

int64_t emu_sys_uname(emu_thread *thread, const uint64_t *args)
{
    struct utsname name;
    long result = HOST2(SYS_uname, &name, 0);
    if (result < 0)
        return result;
    memset(name.machine, 0, sizeof name.machine);
    memcpy(name.machine, thread->process->abi->machine, strlen(thread->process->abi->machine));
    return put(thread, args[0], &name, sizeof name);
}

/* The execution domain: a number that the guest sets and gets; the host's stays as it is. */
static uint32_t persona;

int64_t emu_sys_personality(emu_thread *thread, const uint64_t *args)
{
    uint32_t old = persona;
    if ((uint32_t)args[0] != UINT32_MAX)
        persona = (uint32_t)args[0];
    return old;
}

enum { GROUPS_MAX = 65536 };

int64_t emu_sys_getgroups(emu_thread *thread, const uint64_t *args)
{
    int32_t room = (int32_t)args[0];
    gid_t *groups = calloc(GROUPS_MAX, sizeof *groups);
    if (groups == NULL)
        return -ENOMEM;
    int64_t count = HOST2(SYS_getgroups, GROUPS_MAX, groups);
    if (room < 0 || (room && count > room))
        count = -EINVAL;
    for (int64_t i = 0; room && i < count; i++) {
        uint16_t id = groups[i] > 0xffff ? 65534 : (uint16_t)groups[i];
        if (put(thread, args[1] + 2 * (uint64_t)i, &id, sizeof id)) {
            count = -EFAULT;
            break;
        }
    }
    free(groups);
    return count;
}

int64_t emu_sys_setgroups(emu_thread *thread, const uint64_t *args)
{
    uint32_t count = (uint32_t)args[0];
    if (count > GROUPS_MAX)
        return -EINVAL;
    gid_t *groups = calloc(count + 1, sizeof *groups);
    if (groups == NULL)
        return -ENOMEM;
    int64_t result = 0;
    for (uint32_t i = 0; i < count && result == 0; i++) {
        uint16_t id;
        result = get(thread, &id, args[1] + 2 * (uint64_t)i, sizeof id);
        groups[i] = id;
    }
    if (result == 0)
        result = HOST2(SYS_setgroups, count, groups);
    free(groups);
    return result;
}

/* ---- limits ------------------------------------------------------------------------------------------- */

/*
 * Limits of the address space concern the guest's, which is a small part of the
 * host process's: they are kept here, observed by umem, and not told to the
 * host's kernel.  Of the number of descriptors and the size of files the kernel is
 * told the soft limits alone: the runtime may need more for its own.
 */
enum { LIMITS = 4, OF_MEMORY = 2 };
static const int kept_limits[LIMITS] = {RLIMIT_AS, RLIMIT_DATA, RLIMIT_NOFILE, RLIMIT_FSIZE};
static struct {
    bool set;
    struct rlimit value;
} own_limits[LIMITS];

/* The limits that are kept here; -1: not one of them. */
static int own_limit(uint32_t resource)
{
    for (int i = 0; i < LIMITS; i++)
        if ((uint32_t)kept_limits[i] == resource)
            return i;
    return -1;
}

static int now_limit(int own, struct rlimit *now)
{
    if (!own_limits[own].set)
        return (int)HOST4(SYS_prlimit64, 0, kept_limits[own], NULL, now);
    *now = own_limits[own].value;
    return 0;
}

static int keep_limit(emu_thread *thread, int own, const struct rlimit *set, const struct rlimit *now)
{
    emu_umem *umem = umem_of(thread);
    if (set->rlim_cur > set->rlim_max)
        return -EINVAL;
    if (set->rlim_max > now->rlim_max && geteuid() != 0)
        return -EPERM;
    if (own >= OF_MEMORY) {
        struct rlimit host;
        long result = HOST4(SYS_prlimit64, 0, kept_limits[own], NULL, &host);
        host.rlim_cur = set->rlim_cur;
        if (host.rlim_max < set->rlim_max)
            host.rlim_max = set->rlim_max;
        if (result == 0)
            result = HOST4(SYS_prlimit64, 0, kept_limits[own], &host, NULL);
        if (result < 0)
            return (int)result;
    } else {
        umem_lock(umem);
        umem->most[own] = set->rlim_cur == RLIM_INFINITY ? UINT64_MAX : set->rlim_cur;
        umem_unlock(umem);
    }
    own_limits[own].set = true;
    own_limits[own].value = *set;
    return 0;
}

static int64_t limit(emu_thread *thread, int pid, uint32_t resource, const struct rlimit *set, struct rlimit *old)
{
    bool self = pid == 0 || pid == getpid();
    int own = self ? own_limit(resource) : -1;
    if (own >= 0) {
        struct rlimit now;
        int result = now_limit(own, &now);
        if (result == 0 && set != NULL)
            result = keep_limit(thread, own, set, &now);
        if (result == 0 && old != NULL)
            *old = now;
        return result;
    }
    int64_t result = HOST4(SYS_prlimit64, pid, resource, set, old);
    if (result == 0 && set != NULL && self && resource == RLIMIT_STACK) {
        /* The kernel's calls do not make the stack grow, so it grows at once. */
        emu_umem *umem = umem_of(thread);
        uint64_t end = thread->process->stack_start, size = emu_stack_size(thread->process->abi);
        umem_lock(umem);
        (void)umem_grow(umem, end - size, size);
        umem_unlock(umem);
    }
    return result;
}

void limits_native(void)
{
    for (int i = 0; i < LIMITS; i++)
        if (own_limits[i].set)
            HOST4(SYS_prlimit64, 0, kept_limits[i], &own_limits[i].value, NULL);
}

void limits_text(FILE *out, FILE *host)
{
    static const char *const names[LIMITS] = {"Max address space", "Max data size", "Max open files",
                                               "Max file size"};
    char line[256];
    while (fgets(line, sizeof line, host) != NULL) {
        int i = 0;
        while (i < LIMITS && (!own_limits[i].set || strncmp(line, names[i], strlen(names[i])) != 0))
            i++;
        if (i == LIMITS) {
            fputs(line, out);
            continue;
        }
        const rlim_t values[2] = {own_limits[i].value.rlim_cur, own_limits[i].value.rlim_max};
        fprintf(out, "%-26s", names[i]);
        for (int k = 0; k < 2; k++)
            if (values[k] == RLIM_INFINITY)
                fprintf(out, "%-20s ", "unlimited");
            else
                fprintf(out, "%-20llu ", (unsigned long long)values[k]);
        fprintf(out, "%-10s\n", i == 2 ? "files" : "bytes");
    }
}

static uint32_t limit_to_32(rlim_t value)
{
    return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

int64_t emu_sys_getrlimit(emu_thread *thread, const uint64_t *args)
{
    struct rlimit value;
    int64_t result = limit(thread, 0, (uint32_t)args[0], NULL, &value);
    if (result < 0)
        return result;
    if (!is_32(thread))
        return put(thread, args[1], &value, sizeof value);
    uint32_t small[2] = {limit_to_32(value.rlim_cur), limit_to_32(value.rlim_max)};
    return put(thread, args[1], small, sizeof small);
}

int64_t emu_sys_setrlimit(emu_thread *thread, const uint64_t *args)
{
    struct rlimit value;
    if (is_32(thread)) {
        uint32_t small[2];
        if (get(thread, small, args[1], sizeof small))
            return -EFAULT;
        value.rlim_cur = small[0] == UINT32_MAX ? RLIM_INFINITY : small[0];
        value.rlim_max = small[1] == UINT32_MAX ? RLIM_INFINITY : small[1];
    } else if (get(thread, &value, args[1], sizeof value)) {
        return -EFAULT;
    }
    return limit(thread, 0, (uint32_t)args[0], &value, NULL);
}

int64_t emu_sys_prlimit64(emu_thread *thread, const uint64_t *args)
{
    struct rlimit set, old;
    if (args[2] && get(thread, &set, args[2], sizeof set))
        return -EFAULT;
    int64_t result = limit(thread, (int)args[0], (uint32_t)args[1], args[2] ? &set : NULL, args[3] ? &old : NULL);
    if (result < 0)
        return result;
    return args[3] ? put(thread, args[3], &old, sizeof old) : 0;
}

int64_t emu_sys_nice(emu_thread *thread, const uint64_t *args)
{
    int increment = (int)args[0];
    /* The call's answer is 20 - nice. */
    long now = HOST2(SYS_getpriority, PRIO_PROCESS, 0);
    if (now < 0)
        return now;
    increment = increment < -40 ? -40 : increment > 40 ? 40 : increment;
    long nice = 20 - now + increment;
    nice = nice < -20 ? -20 : nice > 19 ? 19 : nice;
    long result = HOST3(SYS_setpriority, PRIO_PROCESS, 0, nice);
    return result == -EACCES ? -EPERM : result;
}

/* ---- scheduling ------------------------------------------------------------------------------------------ */

int64_t emu_sys_getcpu(emu_thread *thread, const uint64_t *args)
{
    uint32_t cpu, node;
    long result = HOST3(SYS_getcpu, &cpu, &node, NULL);
    if (result < 0)
        return result;
    if ((args[0] && put_u32(thread, args[0], cpu)) || (args[1] && put_u32(thread, args[1], node)))
        return -EFAULT;
    return 0;
}

int64_t emu_sys_sched_yield(emu_thread *thread, const uint64_t *args)
{
    return emu_turn_yield(thread) ? 0 : HOST2(SYS_sched_yield, 0, 0);
}

int64_t emu_sys_sched_setattr(emu_thread *thread, const uint64_t *args)
{
    uint32_t size;
    if (args[1] == 0)
        return -EINVAL;
    if (get(thread, &size, args[1], sizeof size))
        return -EFAULT;
    if (size <= EMU_PAGE && !inside(thread, args[1], size))
        return -EFAULT;
    return HOST3(SYS_sched_setattr, args[0], pointer(thread, args[1]), args[2]);
}

/* ---- processes ------------------------------------------------------------------------------------------- */

int64_t emu_sys_waitid(emu_thread *thread, const uint64_t *args)
{
    siginfo_t info;
    struct rusage usage;
    uint8_t raw[128];
    memset(&info, 0, sizeof info);
    long result =
        WAIT5(thread, SYS_waitid, args[0], args[1], args[2] ? &info : NULL, args[3], args[4] ? &usage : NULL);
    if (result < 0)
        return result;
    if (args[2]) {
        /* The kernel writes the members of SIGCHLD and no others. */
        size_t size = is_32(thread) ? 24 : 28;
        siginfo_to_guest(thread->process->abi, &info, raw);
        if (put(thread, args[2], raw, size))
            return -EFAULT;
    }
    if (args[4] && info.si_pid) {
        uint32_t small[18];
        if (!is_32(thread))
            return put(thread, args[4], &usage, sizeof usage);
        for (unsigned i = 0; i < 18; i++)
            memcpy(&small[i], (const uint8_t *)&usage + 8 * i, 4);
        return put(thread, args[4], small, sizeof small);
    }
    return 0;
}

int64_t emu_sys_set_robust_list(emu_thread *thread, const uint64_t *args)
{
    if (args[1] != 3u * thread->process->abi->word)
        return -EINVAL;
    thread->robust_list = args[0];
    return 0;
}

int64_t emu_sys_get_robust_list(emu_thread *thread, const uint64_t *args)
{
    emu_process *process = thread->process;
    uint64_t head = thread->robust_list;
    bool found = (int)args[0] == 0;
    pthread_mutex_lock(&process->lock);
    for (const emu_thread *other = process->threads; other != NULL && !found; other = other->next)
        if (other->tid == (int)args[0]) {
            head = other->robust_list;
            found = true;
        }
    pthread_mutex_unlock(&process->lock);
    if (!found)
        return HOST2(SYS_kill, args[0], 0) == -ESRCH ? -ESRCH : -EPERM;
    if (put_word(thread, args[2], 3u * process->abi->word))
        return -EFAULT;
    return put_word(thread, args[1], head);
}

/* Memory of this process only: another one's lies elsewhere in its host process. */
static int64_t process_memory(emu_thread *thread, long nr, const uint64_t *args)
{
    struct iovec small[2][SMALL_IOVECS], *local, *remote;
    if ((int)args[0] != getpid())
        return HOST2(SYS_kill, args[0], 0) == -ESRCH ? -ESRCH : -EPERM;
    int status = iovecs_get(thread, args[1], args[2], small[0], &local);
    if (status)
        return status;
    status = iovecs_get(thread, args[3], args[4], small[1], &remote);
    if (status) {
        iovecs_free(local, small[0]);
        return status;
    }
    long result = HOST6(nr, args[0], local, args[2], remote, args[4], args[5]);
    iovecs_free(local, small[0]);
    iovecs_free(remote, small[1]);
    return result;
}

int64_t emu_sys_process_vm_readv(emu_thread *thread, const uint64_t *args)
{
    return process_memory(thread, SYS_process_vm_readv, args);
}

int64_t emu_sys_process_vm_writev(emu_thread *thread, const uint64_t *args)
{
    return process_memory(thread, SYS_process_vm_writev, args);
}

pid_t pidfd_process(int fd)
{
    char path[48], line[64];
    int pid = 0;
    snprintf(path, sizeof path, "/proc/thread-self/fdinfo/%d", fd);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Pid: %d", &pid) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return pid;
}

int64_t emu_sys_pidfd_getfd(emu_thread *thread, const uint64_t *args)
{
    if (thread->process->root != NULL)
        return -EPERM; /* descriptors of processes that are not confined */
    if (emu_process_owns_fd(thread->process, (int)args[1]) && pidfd_process((int)args[0]) == getpid())
        return -EBADF;
    return HOST3(SYS_pidfd_getfd, args[0], args[1], args[2]);
}

/* The private number 0xf0001 of arm is a breakpoint. */
int64_t emu_sys_arm_breakpoint(emu_thread *thread, const uint64_t *args)
{
    emu_signal_fault(thread, SIGTRAP, TRAP_BRKPT, thread->stop.pc);
    return EMU_KEEP_REGISTERS;
}

/* ---- prctl ------------------------------------------------------------------------------------------------ */

int64_t emu_sys_prctl(emu_thread *thread, const uint64_t *args)
{
    enum { NAME = 16 };
    int option = (int)args[0];
    int32_t value;
    long result;
    switch (option) {
    case PR_SET_NAME: {
        char name[NAME];
        int64_t length = umem_string(umem_of(thread), args[1], name, sizeof name);
        if (length == -EFAULT)
            return length;
        name[NAME - 1] = 0;
        if (thread == thread->process->main)
            memcpy(thread->process->comm, name, sizeof name);
        return HOST2(SYS_prctl, option, name);
    }
    case PR_GET_NAME: {
        char name[NAME] = {0};
        result = HOST2(SYS_prctl, option, name);
        return result < 0 ? result : put(thread, args[1], name, sizeof name);
    }
    case PR_GET_PDEATHSIG:
    case PR_GET_CHILD_SUBREAPER:
        result = HOST2(SYS_prctl, option, &value);
        return result < 0 ? result : put(thread, args[1], &value, sizeof value);
    case PR_GET_TID_ADDRESS:
        return put_word(thread, args[1], thread->clear_child_tid);
    case PR_SET_PDEATHSIG:
    case PR_GET_DUMPABLE:
    case PR_SET_DUMPABLE:
    case PR_GET_KEEPCAPS:
    case PR_SET_KEEPCAPS:
    case PR_CAPBSET_READ:
    case PR_CAPBSET_DROP:
    case PR_GET_SECUREBITS:
    case PR_SET_SECUREBITS:
    case PR_GET_TIMERSLACK:
    case PR_SET_TIMERSLACK:
    case PR_SET_CHILD_SUBREAPER:
    case PR_SET_NO_NEW_PRIVS:
    case PR_GET_NO_NEW_PRIVS:
    case PR_GET_THP_DISABLE:
    case PR_SET_THP_DISABLE:
    case PR_CAP_AMBIENT:
    case PR_GET_IO_FLUSHER:
    case PR_SET_IO_FLUSHER:
    case PR_MCE_KILL:
    case PR_MCE_KILL_GET:
    case PR_SET_PTRACER:
        return HOST5(SYS_prctl, option, args[1], args[2], args[3], args[4]);
    case PR_GET_SECCOMP:
    case PR_GET_TIMING: /* PR_TIMING_STATISTICAL */
    case PR_TASK_PERF_EVENTS_DISABLE:
    case PR_TASK_PERF_EVENTS_ENABLE: /* there are none */
        return 0;
    case PR_SET_TIMING:
        return args[1] == PR_TIMING_STATISTICAL ? 0 : -EINVAL;
    default:
        /* The rest is about the host's CPU, memory map or filters. */
        return -EINVAL;
    }
}

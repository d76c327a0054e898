/* Files that speak of the guest, made here (proc(5)). */
#include "own.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

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

static bool by_kvm(const emu_process *process)
{
    return strcmp(process->threads->ops->name, "kvm") == 0;
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
        if (!number_of(name, &tid) || HOST3(SYS_tgkill, getpid(), tid, 0) != 0)
            return EMU_OWN_NONE;
        rest = part[length] == 0 ? part + length : part + length + 1;
        if (rest[0] == 0)
            return confined ? EMU_OWN_FOLDER : EMU_OWN_NONE;
        if (behind(rest, "task") != NULL)
            return EMU_OWN_NONE;
    }
    part = behind(rest, "fd");
    if (part != NULL && part[0] != 0) {
        if (!number_of(part, &out->number) || fcntl((int)out->number, F_GETFD) < 0 ||
            (confined && emu_process_owns_fd(process, (int)out->number)))
            return EMU_OWN_NONE;
        snprintf(out->host, sizeof out->host, "/proc/thread-self/fd/%u", out->number);
        return EMU_OWN_FD;
    }
    part = behind(rest, "fdinfo");
    if (part != NULL && part[0] != 0)
        return confined && number_of(part, &out->number) && !emu_process_owns_fd(process, (int)out->number)
                   ? EMU_OWN_FACT
                   : EMU_OWN_NONE;
    for (size_t i = 0; i < (confined ? sizeof process_files / sizeof *process_files : ALWAYS); i++)
        if (strcmp(rest, process_files[i].name) == 0) {
            out->number = process_files[i].number;
            return process_files[i].kind;
        }
    return EMU_OWN_NONE;
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
    const char *rest = behind(path, "/dev");
    if (rest != NULL) {
        snprintf(out->host, sizeof out->host, "%s", path);
        return confined ? find_device(process, rest, out) : EMU_OWN_NONE;
    }
    rest = behind(path, "/proc");
    if (rest == NULL)
        return EMU_OWN_NONE;
    if (rest[0] == 0) {
        /* Whoever lists processes finds itself: the name of its first thread is that of its process. */
        strcpy(out->host, "/proc/self/task");
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

int emu_own_link(emu_process *process, const emu_path *link, char target[PATH_MAX])
{
    switch (link->number) {
    case EMU_LINK_EXE:
        if (process->exe_guest == NULL)
            return -ENOENT;
        snprintf(target, PATH_MAX, "%s", process->exe_guest);
        return 0;
    case EMU_LINK_CWD:
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

/* ---- contents ---------------------------------------------------------------------------------- */

static void put_guest(emu_thread *thread, FILE *out, uint64_t start, uint64_t end)
{
    uint8_t buffer[4096];
    while (start < end) {
        size_t size = end - start < sizeof buffer ? end - start : sizeof buffer;
        if (get(thread, buffer, start, size))
            return; /* the guest has unmapped it: what came before is all there is */
        fwrite(buffer, 1, size, out);
        start += size;
    }
}

static void put_maps(emu_thread *thread, FILE *out)
{
    size_t length;
    umem_hold(umem_of(thread));
    char *text = umem_maps(umem_of(thread), &length);
    umem_release(umem_of(thread));
    if (text != NULL)
        fwrite(text, 1, length, out);
    free(text);
}

struct sizes {
    uint64_t total, data, stack, code, library;
    uint64_t code_start, code_end, data_start, data_end;
};

/* Bytes by kind of area, as the kernel counts them. */
static struct sizes sizes_of(emu_thread *thread)
{
    emu_umem *umem = umem_of(thread);
    const char *exe = thread->process->exe_guest;
    struct sizes sizes = {0};
    umem_hold(umem);
    for (size_t i = 0; i < umem->count; i++) {
        const emu_area *area = &umem->areas[i];
        uint64_t size = area->end - area->start;
        bool program = area->path != NULL && exe != NULL && strcmp(area->path, exe) == 0;
        sizes.total += size;
        if (area->flags & MAP_GROWSDOWN)
            sizes.stack += size;
        else if (area->prot & PROT_EXEC && program)
            sizes.code += size;
        else if (area->prot & PROT_EXEC)
            sizes.library += size;
        else if (area->prot & PROT_WRITE && !(area->flags & MAP_SHARED))
            sizes.data += size;
        if (program && area->prot & PROT_EXEC) {
            sizes.code_start = sizes.code_start ? sizes.code_start : area->start;
            sizes.code_end = area->end;
        } else if (program && area->prot & PROT_WRITE) {
            sizes.data_start = sizes.data_start ? sizes.data_start : area->start;
            sizes.data_end = area->end;
        }
    }
    umem_release(umem);
    return sizes;
}

static char *host_text(const char *path)
{
    char *text = NULL;
    size_t room = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return NULL;
    ssize_t length = getdelim(&text, &room, 0, file);
    fclose(file);
    if (length < 0) {
        free(text);
        return NULL;
    }
    return text;
}

static void put_stat(emu_thread *thread, const char *host, FILE *out)
{
    const emu_process *process = thread->process;
    struct sizes sizes = sizes_of(thread);
    const struct {
        unsigned field;
        uint64_t value;
    } own[] = {
        {23, sizes.total},
        {26, sizes.code_start},
        {27, sizes.code_end},
        {28, process->stack_start},
        {45, sizes.data_start},
        {46, sizes.data_end},
        {47, umem_of(thread)->brk_start},
        {48, process->arg_start},
        {49, process->arg_end},
        {50, process->env_start},
        {51, process->env_end},
    };
    char *text = host_text(host);
    char *rest = text != NULL ? strrchr(text, ')') : NULL;
    if (rest != NULL) {
        fwrite(text, 1, (size_t)(rest + 1 - text), out);
        char *save = NULL;
        unsigned field = 3;
        for (char *word = strtok_r(rest + 1, " \n", &save); word != NULL; word = strtok_r(NULL, " \n", &save)) {
            size_t i = 0;
            while (i < sizeof own / sizeof *own && own[i].field != field)
                i++;
            if (i < sizeof own / sizeof *own)
                fprintf(out, " %" PRIu64, own[i].value);
            else
                fprintf(out, " %s", word);
            field++;
        }
        fputc('\n', out);
    }
    free(text);
}

static void put_statm(emu_thread *thread, const char *host, FILE *out)
{
    struct sizes sizes = sizes_of(thread);
    unsigned long resident = 0, shared = 0;
    char *text = host_text(host);
    if (text != NULL)
        sscanf(text, "%*u %lu %lu", &resident, &shared);
    free(text);
    fprintf(out, "%" PRIu64 " %lu %lu %" PRIu64 " 0 %" PRIu64 " 0\n", sizes.total / EMU_PAGE, resident, shared,
            sizes.code / EMU_PAGE, (sizes.data + sizes.stack) / EMU_PAGE);
}

static void put_status(emu_thread *thread, const char *host, FILE *out)
{
    struct sizes sizes = sizes_of(thread);
    const struct {
        const char *name;
        uint64_t value;
    } own[] = {
        {"VmPeak:", sizes.total}, {"VmSize:", sizes.total}, {"VmData:", sizes.data},
        {"VmStk:", sizes.stack},  {"VmExe:", sizes.code},   {"VmLib:", sizes.library},
    };
    char *text = host_text(host), *save = NULL;
    for (char *line = text != NULL ? strtok_r(text, "\n", &save) : NULL; line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        size_t i = 0;
        while (i < sizeof own / sizeof *own && strncmp(line, own[i].name, strlen(own[i].name)) != 0)
            i++;
        if (i < sizeof own / sizeof *own)
            fprintf(out, "%s\t%8" PRIu64 " kB\n", own[i].name, own[i].value / 1024);
        else if (strncmp(line, "x86_", 4) != 0)
            fprintf(out, "%s\n", line);
    }
    free(text);
}

/* Names of bits, from the lowest; "-" for bits without one (arch/.../kernel/{cpuinfo,setup}.c). */
static const char features_aarch64[] =
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 "
    "asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg";
static const char features2_aarch64[] =
    "dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 dgh "
    "rng bti mte";
static const char features_arm[] =
    "swp half thumb 26bit fastmult fpa vfp edsp java iwmmxt crunch thumbee neon vfpv3 vfpv3d16 tls vfpv4 idiva idivt "
    "vfpd32 lpae evtstrm";
static const char features2_arm[] = "aes pmull sha1 sha2 crc32";
static const char features_x86[] =
    "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss "
    "ht tm ia64 pbe";

static void put_features(FILE *out, uint64_t bits, const char *names)
{
    for (; *names != 0; bits >>= 1) {
        int length = (int)strcspn(names, " ");
        if (bits & 1 && names[0] != '-')
            fprintf(out, " %.*s", length, names);
        names += length;
        names += *names == ' ';
    }
}

static void put_limits(const char *host, FILE *out)
{
    FILE *file = fopen(host, "re");
    if (file == NULL)
        return;
    limits_text(out, file);
    fclose(file);
}

/* The numbers of /proc/self/smaps, in kB, and the line that is not one. */
static const char *const smaps_names[] = {
    "Rss", "Pss", "Pss_Dirty", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced",
    "Anonymous", "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb",
    "Private_Hugetlb", "Swap", "SwapPss", "Locked",
};
enum { SMAPS_NAMES = sizeof smaps_names / sizeof *smaps_names };

/*
 * What the host says of its own mappings, each counted to the guest's area that
 * it begins in: the host joins what for it does not differ.
 */
static void put_smaps(emu_thread *thread, const char *host, FILE *out)
{
    emu_umem *umem = umem_of(thread);
    char *text = NULL, line[512];
    size_t length, count, at = SIZE_MAX;
    umem_hold(umem);
    char *maps = umem_maps(umem, &length);
    count = umem->count;
    uint64_t *starts = calloc(count + 1, sizeof *starts);
    uint64_t(*numbers)[SMAPS_NAMES] = calloc(count + 1, sizeof *numbers);
    for (size_t i = 0; starts != NULL && i < count; i++)
        starts[i] = umem->areas[i].start;
    umem_release(umem);
    FILE *file = starts != NULL && numbers != NULL ? fopen(host, "re") : NULL;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        uint64_t start, end, value;
        char name[32];
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2) {
            start -= (uint64_t)(uintptr_t)umem->base;
            at = SIZE_MAX;
            for (size_t low = 0, high = count; start < umem->size && low < high;) {
                size_t middle = (low + high) / 2;
                if (starts[middle] <= start) {
                    at = middle;
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
        } else if (at != SIZE_MAX && sscanf(line, "%31[^:]: %" SCNu64 " kB", name, &value) == 2) {
            for (size_t i = 0; i < SMAPS_NAMES; i++)
                if (strcmp(name, smaps_names[i]) == 0)
                    numbers[at][i] += value;
        }
    }
    if (file != NULL)
        fclose(file);
    char *save = NULL;
    size_t i = 0;
    for (text = maps != NULL ? strtok_r(maps, "\n", &save) : NULL; text != NULL && numbers != NULL && i < count;
         text = strtok_r(NULL, "\n", &save), i++) {
        uint64_t start = 0, end = 0;
        char rights[5] = "";
        sscanf(text, "%" SCNx64 "-%" SCNx64 " %4s", &start, &end, rights);
        fprintf(out, "%s\nSize:           %8" PRIu64 " kB\nKernelPageSize: %8d kB\nMMUPageSize:    %8d kB\n", text,
                (end - start) / 1024, 4, 4);
        for (size_t k = 0; k < SMAPS_NAMES; k++)
            fprintf(out, "%s:%*s%8" PRIu64 " kB\n", smaps_names[k], (int)(15 - strlen(smaps_names[k])), "", numbers[i][k]);
        fprintf(out, "THPeligible:    %8d\nVmFlags:%s%s%s%s mr mw me %s\n", 0, rights[0] == 'r' ? " rd" : "",
                rights[1] == 'w' ? " wr" : "", rights[2] == 'x' ? " ex" : "", rights[3] == 's' ? " sh" : "",
                rights[3] == 's' ? "ms" : "ac");
    }
    free(maps);
    free(starts);
    free(numbers);
}

static void put_cpuinfo(emu_thread *thread, FILE *out)
{
    const emu_process *process = thread->process;
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t hwcap = 0, hwcap2 = 0;
    for (size_t i = 0; i + 1 < process->auxv_words; i += 2) {
        hwcap = process->auxv[i] == AT_HWCAP ? process->auxv[i + 1] : hwcap;
        hwcap2 = process->auxv[i] == AT_HWCAP2 ? process->auxv[i + 1] : hwcap2;
    }
    for (long cpu = 0; cpu < count; cpu++) {
        fprintf(out, "processor\t: %ld\n", cpu);
        switch (process->abi->isa) {
        case EMU_ISA_RISCV64:
            fprintf(out, "hart\t\t: %ld\nisa\t\t: rv64", cpu);
            for (const char *letter = "imafdqcvh"; *letter != 0; letter++)
                if (hwcap >> (*letter - 'a') & 1)
                    fputc(*letter, out);
            fprintf(out, "\nmmu\t\t: sv48\n\n");
            break;
        case EMU_ISA_X86_64:
            fprintf(out, "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 26\nmodel name\t: emu\nflags\t\t:");
            put_features(out, hwcap, features_x86);
            fprintf(out, " syscall nx lm\n\n");
            break;
        default: {
            bool arm = process->abi->isa == EMU_ISA_ARM;
            if (arm)
                fprintf(out, "model name\t: ARMv7 Processor rev 0 (v7l)\n");
            fprintf(out, "BogoMIPS\t: 100.00\nFeatures\t:");
            put_features(out, hwcap, arm ? features_arm : features_aarch64);
            put_features(out, hwcap2, arm ? features2_arm : features2_aarch64);
            /* The implementer's number that is reserved for software. */
            fprintf(out, "\nCPU implementer\t: 0x00\nCPU architecture: %d\nCPU variant\t: 0x0\nCPU part\t: 0x000\n"
                         "CPU revision\t: 0\n\n",
                    arm ? 7 : 8);
            break;
        }
        }
    }
}

static const char *type_name(long type)
{
    switch (type) {
    case EXT4_SUPER_MAGIC:
        return "ext4";
    case TMPFS_MAGIC:
        return "tmpfs";
    case XFS_SUPER_MAGIC:
        return "xfs";
    case BTRFS_SUPER_MAGIC:
        return "btrfs";
    case OVERLAYFS_SUPER_MAGIC:
        return "overlay";
    case NFS_SUPER_MAGIC:
        return "nfs";
    default:
        return "rootfs";
    }
}

/* One mount: the root. */
static void put_mounts(emu_process *process, FILE *out, bool info)
{
    struct statfs fs;
    struct stat status;
    if (fstatfs(emu_root_fd(process), &fs) != 0 || fstat(emu_root_fd(process), &status) != 0)
        return;
    const char *type = type_name(fs.f_type), *rights = fs.f_flags & ST_RDONLY ? "ro" : "rw";
    if (info)
        fprintf(out, "1 1 %u:%u / / %s,relatime - %s rootfs %s\n", major(status.st_dev), minor(status.st_dev), rights,
                type, rights);
    else
        fprintf(out, "rootfs / %s %s,relatime 0 0\n", type, rights);
}

static void put_text(emu_thread *thread, const emu_path *path, FILE *out)
{
    const emu_process *process = thread->process;
    switch (path->own) {
    case EMU_OWN_MAPS:
        put_maps(thread, out);
        break;
    case EMU_OWN_CMDLINE:
        put_guest(thread, out, process->arg_start, process->arg_end);
        break;
    case EMU_OWN_ENVIRON:
        put_guest(thread, out, process->env_start, process->env_end);
        break;
    case EMU_OWN_AUXV:
        for (size_t i = 0; i < process->auxv_words; i++)
            fwrite(&process->auxv[i], process->abi->word, 1, out);
        break;
    case EMU_OWN_STAT:
        put_stat(thread, path->host, out);
        break;
    case EMU_OWN_STATM:
        put_statm(thread, path->host, out);
        break;
    case EMU_OWN_STATUS:
        put_status(thread, path->host, out);
        break;
    case EMU_OWN_LIMITS:
        put_limits(path->host, out);
        break;
    case EMU_OWN_SMAPS:
        put_smaps(thread, path->host, out);
        break;
    case EMU_OWN_CPUINFO:
        put_cpuinfo(thread, out);
        break;
    default:
        put_mounts(thread->process, out, path->own == EMU_OWN_MOUNTINFO);
        break;
    }
}

static int64_t open_text(emu_thread *thread, const emu_path *path, uint64_t flags)
{
    char *text = NULL;
    size_t length = 0, done = 0;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return -ENOMEM;
    put_text(thread, path, out);
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
    if (result >= 0 && lseek(fd, 0, SEEK_SET) != 0)
        result = -EIO;
    if (result < 0 && fd >= 0)
        close(fd);
    free(text);
    return result;
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

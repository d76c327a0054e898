/* What files of /proc say of a guest's process (proc(5)): the calling one, or another one of its kin. */
#include "own_text.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kin.h"
#include "own.h"
#include "syscall.h"

typedef struct subject {
    emu_process *process; /* of another process: what emu_kin_look gives */
    pid_t pid;            /* 0: the calling one */
} subject;

/* Of a guest's memory; 0 or -EFAULT. */
static int read_memory(const subject *who, void *to, uint64_t addr, size_t size)
{
    emu_umem *umem = &who->process->umem;
    if (who->pid == 0)
        return umem_read(umem, to, addr, size);
    return umem_range(umem, addr, size) && emu_kin_read(who->pid, to, umem->base + addr, size) == size ? 0 : -EFAULT;
}

static void put_guest(const subject *who, FILE *out, uint64_t start, uint64_t end)
{
    uint8_t buffer[4096];
    while (start < end) {
        size_t size = end - start < sizeof buffer ? end - start : sizeof buffer;
        if (read_memory(who, buffer, start, size) != 0)
            return; /* the guest has unmapped it: what came before is all there is */
        fwrite(buffer, 1, size, out);
        start += size;
    }
}

static void put_maps(const subject *who, FILE *out)
{
    size_t length;
    umem_hold(&who->process->umem);
    char *text = umem_maps(&who->process->umem, &length);
    umem_release(&who->process->umem);
    if (text != NULL)
        fwrite(text, 1, length, out);
    free(text);
}

struct sizes {
    uint64_t total, data, stack, code, library;
    uint64_t code_start, code_end, data_start, data_end;
};

/* Bytes by kind of area, as the kernel counts them. */
static struct sizes sizes_of(const subject *who)
{
    emu_umem *umem = &who->process->umem;
    const char *exe = who->process->exe_guest;
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

static void put_stat(const subject *who, const char *host, FILE *out)
{
    const emu_process *process = who->process;
    struct sizes sizes = sizes_of(who);
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
        {47, who->process->umem.brk_start},
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

static void put_statm(const subject *who, const char *host, FILE *out)
{
    struct sizes sizes = sizes_of(who);
    unsigned long resident = 0, shared = 0;
    char *text = host_text(host);
    if (text != NULL)
        sscanf(text, "%*u %lu %lu", &resident, &shared);
    free(text);
    fprintf(out, "%" PRIu64 " %lu %lu %" PRIu64 " 0 %" PRIu64 " 0\n", sizes.total / EMU_PAGE, resident, shared,
            sizes.code / EMU_PAGE, (sizes.data + sizes.stack) / EMU_PAGE);
}

static void put_status(const subject *who, const char *host, FILE *out)
{
    struct sizes sizes = sizes_of(who);
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
static void put_smaps(const subject *who, const char *host, FILE *out)
{
    emu_umem *umem = &who->process->umem;
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

static void put_cpuinfo(const subject *who, FILE *out)
{
    const emu_process *process = who->process;
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

static void put_mount(FILE *out, bool info, unsigned number, const struct stat *status, const char *place,
                      const char *source, const char *type, const char *rights)
{
    if (info)
        fprintf(out, "%u 1 %u:%u / %s %s,relatime - %s %s %s\n", number, major(status->st_dev), minor(status->st_dev),
                place, rights, type, source, rights);
    else
        fprintf(out, "%s %s %s %s,relatime 0 0\n", source, place, type, rights);
}

/* The root, and /proc, which is there whatever the root has. */
static void put_mounts(emu_process *process, FILE *out, bool info)
{
    struct statfs fs;
    struct stat status;
    if (fstatfs(emu_root_fd(process), &fs) == 0 && fstat(emu_root_fd(process), &status) == 0)
        put_mount(out, info, 1, &status, "/", "rootfs", type_name(fs.f_type), fs.f_flags & ST_RDONLY ? "ro" : "rw");
    if (stat("/proc", &status) == 0)
        put_mount(out, info, 2, &status, "/proc", "proc", "proc", "rw");
}

static void put_text(const subject *who, const emu_path *path, FILE *out)
{
    const emu_process *process = who->process;
    switch (path->own) {
    case EMU_OWN_MAPS:
        put_maps(who, out);
        break;
    case EMU_OWN_CMDLINE:
        put_guest(who, out, process->arg_start, process->arg_end);
        break;
    case EMU_OWN_ENVIRON:
        put_guest(who, out, process->env_start, process->env_end);
        break;
    case EMU_OWN_AUXV:
        for (size_t i = 0; i < process->auxv_words; i++)
            fwrite(&process->auxv[i], process->abi->word, 1, out);
        break;
    case EMU_OWN_STAT:
        put_stat(who, path->host, out);
        break;
    case EMU_OWN_STATM:
        put_statm(who, path->host, out);
        break;
    case EMU_OWN_STATUS:
        put_status(who, path->host, out);
        break;
    case EMU_OWN_LIMITS:
        put_limits(path->host, out);
        break;
    case EMU_OWN_SMAPS:
        put_smaps(who, path->host, out);
        break;
    case EMU_OWN_CPUINFO:
        put_cpuinfo(who, out);
        break;
    default:
        put_mounts(who->process, out, path->own == EMU_OWN_MOUNTINFO);
        break;
    }
}

/* As the host has it. */
static void put_host(const char *path, FILE *out)
{
    char buffer[4096];
    size_t got;
    FILE *file = fopen(path, "re");
    while (file != NULL && (got = fread(buffer, 1, sizeof buffer, file)) > 0)
        fwrite(buffer, 1, got, out);
    if (file != NULL)
        fclose(file);
}

void emu_own_text(emu_thread *thread, const emu_path *path, FILE *out)
{
    subject who = {thread->process, path->pid};
    if (path->pid == 0 || path->own >= EMU_OWN_CPUINFO) {
        who.pid = 0;
        put_text(&who, path, out);
        return;
    }
    who.process = path->own == EMU_OWN_LIMITS ? NULL : emu_kin_look(path->pid);
    if (who.process != NULL)
        put_text(&who, path, out);
    else if (path->own != EMU_OWN_MAPS && path->own != EMU_OWN_SMAPS && path->own != EMU_OWN_AUXV)
        put_host(path->host, out); /* of a zombie, or of somebody whose memory is not for us */
    emu_kin_forget(who.process);
}

/*
 * The tree of one emu: its guests' processes, for what these may see of each other
 * in /proc, and so that nobody writes to a program that another one runs.
 *
 * The list lies in memory that all of them share from the first one's start: a
 * child is entered by its parent and by itself, whoever is first.  The rest is read
 * from the other process when somebody asks, where the host's kernel allows it.
 */
#include "kin.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MEMBERS = 4096, EXE = 1024, AREAS = 1 << 20, TRIES = 10 };
enum { LIVES, ENDED, LEFT };

/* What is asked of every one of them comes first, and together. */
struct tree {
    struct entry {
        _Atomic int32_t pid; /* 0: free */
        _Atomic uint32_t ended;
        uint64_t since; /* ns after boot: a process that is younger has the number from the host anew */
        uint64_t dev, ino;
    } entries[MEMBERS];
    _Atomic uint32_t top; /* entries from here on have never been used */
    struct detail {
        const emu_process *process; /* its address there */
        _Atomic uint32_t version;   /* odd: exe is being written */
        char exe[EXE];
    } details[MEMBERS];
};

static struct tree *tree;

uint64_t emu_kin_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* State and start in ticks after boot, from the host's /proc/<pid>/stat. */
static bool host_state(pid_t pid, char *state, uint64_t *ticks)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    bool got = file != NULL && fgets(text, sizeof text, file) != NULL;
    if (file != NULL)
        fclose(file);
    char *rest = got ? strrchr(text, ')') : NULL, *save = NULL;
    if (rest == NULL || rest[1] != ' ')
        return false;
    *state = rest[2];
    unsigned field = 3;
    for (char *word = strtok_r(rest + 1, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save), field++)
        if (field == 22) {
            *ticks = strtoull(word, NULL, 10);
            return true;
        }
    return false;
}

/* The process that was entered, and not another one that has its number. */
static bool still(const struct entry *entry, char *state)
{
    uint64_t ticks, per = (uint64_t)sysconf(_SC_CLK_TCK);
    return host_state(entry->pid, state, &ticks) && ticks <= entry->since / (1000000000 / per) + 1;
}

static int index_of(pid_t pid)
{
    uint32_t top = tree != NULL ? atomic_load(&tree->top) : 0;
    for (uint32_t i = 0; i < top && i < MEMBERS; i++)
        if (atomic_load(&tree->entries[i].pid) == pid)
            return (int)i;
    return -1;
}

static bool take(uint32_t i, int32_t from, pid_t pid)
{
    return atomic_compare_exchange_strong(&tree->entries[i].pid, &from, pid);
}

/* A free entry, or one whose process is gone; -1 where all are in use. */
static int new_entry(pid_t pid)
{
    for (int all = 0; all < 2; all++) {
        uint32_t top = atomic_load(&tree->top);
        for (uint32_t i = 0; i < top; i++) {
            struct entry *entry = &tree->entries[i];
            int32_t was = atomic_load(&entry->pid);
            bool gone = was == 0 || ((all || entry->ended) && kill(was, 0) != 0 && errno == ESRCH);
            if (gone && take(i, was, pid))
                return (int)i;
        }
        while (top < MEMBERS) {
            if (atomic_compare_exchange_strong(&tree->top, &top, top + 1)) {
                if (take(top, 0, pid))
                    return (int)top;
                top = atomic_load(&tree->top);
            }
        }
    }
    return -1;
}

void emu_kin_join(const emu_process *process, pid_t pid, uint64_t born)
{
    if (tree == NULL)
        return;
    int i = index_of(pid);
    if (i >= 0 && born != 0 && tree->entries[i].since >= born)
        return; /* it was faster, and may have gone its own way since */
    if (i < 0)
        i = new_entry(pid);
    if (i < 0)
        return; /* one that the others do not see */
    tree->entries[i].since = emu_kin_now();
    tree->entries[i].ended = LIVES;
    tree->details[i].process = process;
    if (pid == getpid())
        emu_kin_program(process);
    else if (tree->details[i].exe[0] == 0 && process->exe_guest != NULL)
        snprintf(tree->details[i].exe, EXE, "%s", process->exe_guest);
}

void emu_kin_start(const emu_process *process)
{
    if (tree == NULL) {
        void *at = mmap(NULL, sizeof *tree, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        tree = at != MAP_FAILED ? at : NULL;
    }
    emu_kin_join(process, getpid(), 0);
}

void emu_kin_program(const emu_process *process)
{
    int i = index_of(getpid());
    if (i < 0)
        return;
    struct detail *detail = &tree->details[i];
    atomic_fetch_add(&detail->version, 1);
    snprintf(detail->exe, EXE, "%s", process->exe_guest != NULL ? process->exe_guest : "");
    tree->entries[i].dev = process->exe_dev;
    tree->entries[i].ino = process->exe_ino;
    atomic_fetch_add(&detail->version, 1);
}

static void end(uint32_t how)
{
    int i = index_of(getpid());
    if (i >= 0)
        tree->entries[i].ended = how;
}

void emu_kin_end(void)
{
    end(ENDED);
}

void emu_kin_leave(void)
{
    end(LEFT);
}

bool emu_kin_has(pid_t pid)
{
    char state;
    int i = pid > 0 ? index_of(pid) : -1;
    return i >= 0 && tree->entries[i].ended != LEFT && still(&tree->entries[i], &state);
}

bool emu_kin_runs(uint64_t dev, uint64_t ino)
{
    uint32_t top = tree != NULL ? atomic_load(&tree->top) : 0;
    for (uint32_t i = 0; i < top && i < MEMBERS; i++) {
        const struct entry *entry = &tree->entries[i];
        char state;
        if (entry->ino == ino && entry->dev == dev && entry->pid != 0 && !entry->ended && still(entry, &state) &&
            state != 'Z' && state != 'X')
            return true;
    }
    return false;
}

int emu_kin_exe(pid_t pid, char out[PATH_MAX])
{
    int i = index_of(pid);
    if (i < 0)
        return -ENOENT;
    const struct detail *detail = &tree->details[i];
    for (int tries = 0; tries < TRIES; tries++) {
        uint32_t version = atomic_load(&detail->version);
        memcpy(out, detail->exe, EXE);
        out[EXE - 1] = 0;
        if (!(version & 1) && atomic_load(&detail->version) == version)
            return tree->entries[i].ended != LIVES || out[0] == 0 ? -ENOENT : 0; /* a zombie has none */
    }
    return -EAGAIN;
}

/* ---- the other's memory ----------------------------------------------------------------------------- */

size_t emu_kin_read(pid_t pid, void *to, const void *from, size_t size)
{
    const struct iovec mine = {to, size}, others = {(void *)(uintptr_t)from, size};
    ssize_t got = process_vm_readv(pid, &mine, 1, &others, 1, 0);
    return got > 0 ? (size_t)got : 0;
}

/* A string there, as a copy; NULL where it is none. */
static char *read_string(pid_t pid, const char *from)
{
    char text[PATH_MAX];
    if (from == NULL)
        return NULL;
    /* Not over the end of a page at once: the next may not be there. */
    size_t length = 0, size = 4096 - ((uintptr_t)from & 4095);
    while (length < sizeof text) {
        size = size < sizeof text - length ? size : sizeof text - length;
        size_t got = emu_kin_read(pid, text + length, from + length, size);
        if (memchr(text + length, 0, got) != NULL)
            return strdup(text);
        if (got < size)
            break;
        length += got;
        size = 4096;
    }
    return NULL;
}

static bool copy_areas(pid_t pid, emu_umem *umem)
{
    size_t size = umem->count * sizeof *umem->areas;
    emu_area *areas = umem->count <= AREAS ? malloc(size + 1) : NULL;
    if (areas == NULL)
        return false;
    if (emu_kin_read(pid, areas, umem->areas, size) != size) {
        free(areas);
        return false;
    }
    for (size_t i = 0; i < umem->count; i++)
        areas[i].path = read_string(pid, areas[i].path);
    umem->areas = areas;
    return true;
}

static void free_areas(emu_umem *umem)
{
    for (size_t i = 0; i < umem->count; i++)
        free(umem->areas[i].path);
    free(umem->areas);
}

/* The ABI is the same constant here and there. */
static bool known(const emu_abi *abi)
{
    for (uint32_t isa = EMU_ISA_AARCH64; isa <= EMU_ISA_X86_64; isa++)
        if (abi == emu_abi_of_isa(isa))
            return true;
    return false;
}

emu_process *emu_kin_look(pid_t pid)
{
    int i = index_of(pid);
    emu_process *copy = i >= 0 ? malloc(sizeof *copy) : NULL;
    if (copy == NULL)
        return NULL;
    const emu_process *there = tree->details[i].process;
    for (int tries = 0; tries < TRIES; tries++) {
        emu_umem after;
        if (emu_kin_read(pid, copy, there, sizeof *copy) != sizeof *copy || !known(copy->abi))
            break;
        const emu_area *areas = copy->umem.areas;
        if (!copy_areas(pid, &copy->umem))
            continue;
        /* Nobody has moved them meanwhile. */
        if (emu_kin_read(pid, &after, &there->umem, sizeof after) == sizeof after && after.areas == areas &&
            after.count == copy->umem.count) {
            copy->umem.front = copy->umem.last = 0;
            copy->umem.shared = false;
            copy->exe_guest = read_string(pid, copy->exe_guest);
            return copy;
        }
        free_areas(&copy->umem);
    }
    free(copy);
    return NULL;
}

void emu_kin_forget(emu_process *copy)
{
    if (copy == NULL)
        return;
    free_areas(&copy->umem);
    free(copy->exe_guest);
    free(copy);
}

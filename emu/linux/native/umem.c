/* The guest's address space: what is mapped where, and copies that survive bad pointers. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <ucontext.h>
#include <unistd.h>

#include "runtime.h"

/*
 * Beyond the guest's last address: system calls hand the kernel a start and a
 * length, and what runs over the end must meet nothing.
 */
#define GUARD (UINT64_C(1) << 24)

static uint64_t page_up(uint64_t addr)
{
    return (addr + EMU_PAGE - 1) & ~(EMU_PAGE - 1);
}

/* What the host's page tables allow.  Translators read code, so X alone is R there. */
static int host_prot(uint32_t prot)
{
    if (prot & PROT_WRITE)
        return PROT_READ | PROT_WRITE;
    return prot & (PROT_READ | PROT_EXEC) ? PROT_READ : PROT_NONE;
}

/* What is reserved where base is 0: the host's kernel gives nobody less (vm.mmap_min_addr). */
#define LOWEST UINT64_C(0x10000)

/* Gives a range back to the reserve. */
static int reserve(emu_umem *umem, uint64_t addr, uint64_t size)
{
    if (umem->base == NULL && addr < LOWEST) {
        uint64_t low = size < LOWEST - addr ? size : LOWEST - addr;
        munmap(umem->base + addr, low);
        addr += low;
        size -= low;
        if (size == 0)
            return 0;
    }
    void *at = mmap(umem->base + addr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return at == MAP_FAILED ? -errno : 0;
}

int umem_init(emu_umem *umem, unsigned bits, bool low)
{
    memset(umem, 0, sizeof *umem);
    pthread_rwlock_init(&umem->lock, NULL);
    umem->low = low;
    umem->size = UINT64_C(1) << bits;
    umem->most[0] = umem->most[1] = UINT64_MAX;
    umem->reserved = umem->size + GUARD;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (low) {
        void *want = (void *)LOWEST;
        void *at = mmap(want, umem->reserved - LOWEST, PROT_NONE, flags | MAP_FIXED_NOREPLACE, -1, 0);
        if (at == want)
            return 0;
        if (at != MAP_FAILED) /* a kernel before 4.17, which took it for a hint */
            munmap(at, umem->reserved - LOWEST);
    }
    void *base = mmap(NULL, umem->reserved, PROT_NONE, flags, -1, 0);
    if (base == MAP_FAILED) {
        umem->reserved = 0;
        return -errno;
    }
    umem->base = base;
    return 0;
}

static void forget_areas(emu_umem *umem)
{
    for (size_t i = 0; i < umem->count; i++)
        free(umem->areas[i].path);
    umem->count = 0;
    umem->last = 0;
}

void umem_free(emu_umem *umem)
{
    forget_areas(umem);
    free(umem->areas - umem->front);
    if (umem->reserved != 0)
        munmap(umem->base, umem->reserved);
    memset(umem, 0, sizeof *umem);
}

/* ---- areas ------------------------------------------------------------------------ */

/* Index of the first area that ends above addr. */
static size_t area_at(const emu_umem *umem, uint64_t addr)
{
    size_t low = 0, high = umem->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (umem->areas[middle].end <= addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const emu_area *umem_find(emu_umem *umem, uint64_t addr)
{
    size_t last = __atomic_load_n(&umem->last, __ATOMIC_RELAXED); /* several readers */
    if (last < umem->count) {
        const emu_area *area = &umem->areas[last];
        if (addr >= area->start && addr < area->end)
            return area;
    }
    size_t i = area_at(umem, addr);
    if (i == umem->count || umem->areas[i].start > addr)
        return NULL;
    __atomic_store_n(&umem->last, i, __ATOMIC_RELAXED);
    return &umem->areas[i];
}

void umem_hold(void *opaque)
{
    emu_umem *umem = opaque;
    if (umem->shared)
        pthread_rwlock_rdlock(&umem->lock);
}

void umem_release(void *opaque)
{
    emu_umem *umem = opaque;
    if (umem->shared)
        pthread_rwlock_unlock(&umem->lock);
}

uint32_t umem_rights(void *opaque, uint64_t addr)
{
    const emu_area *area = umem_find(opaque, addr);
    if (area == NULL)
        return 0;
    uint32_t rights = 0;
    /* As x86, arm64 and riscv page tables do: whatever may be written or executed may be read. */
    if (area->prot & (PROT_READ | PROT_WRITE | PROT_EXEC))
        rights |= EMU_RIGHT_R;
    if (area->prot & PROT_WRITE)
        rights |= EMU_RIGHT_W;
    if (area->prot & PROT_EXEC)
        rights |= EMU_RIGHT_X;
    return rights;
}

/* How many bytes from addr on are mapped without a hole, at most size. */
static uint64_t umem_reach(emu_umem *umem, uint64_t addr, uint64_t size)
{
    uint64_t at = addr, end = addr + size;
    for (size_t i = area_at(umem, addr); at < end && i < umem->count && umem->areas[i].start <= at; i++)
        at = umem->areas[i].end;
    return at < end ? at - addr : size;
}

bool umem_mapped(emu_umem *umem, uint64_t addr, uint64_t size)
{
    return umem_reach(umem, addr, size) == size;
}

bool umem_occupied(const emu_umem *umem, uint64_t addr, uint64_t end)
{
    size_t i = area_at(umem, addr);
    return i < umem->count && umem->areas[i].start < end;
}

bool umem_executable(emu_umem *umem, uint64_t addr, uint64_t size)
{
    for (size_t i = area_at(umem, addr); i < umem->count && umem->areas[i].start < addr + size; i++)
        if (umem->areas[i].prot & PROT_EXEC)
            return true;
    return false;
}

/* Room for `more` areas, wherever they come. */
static bool room_for(emu_umem *umem, size_t more)
{
    if (umem->front + umem->count + more <= umem->room)
        return true;
    size_t room = 64 + umem->count * 2 + more, front = (room - umem->count - more) / 2;
    emu_area *areas = malloc(room * sizeof *areas);
    if (areas == NULL)
        return false;
    if (umem->count != 0)
        memcpy(areas + front, umem->areas, umem->count * sizeof *areas);
    free(umem->areas - umem->front);
    umem->areas = areas + front;
    umem->front = front;
    umem->room = room;
    return true;
}

/* A slot at index i; room_for has been asked.  Most mappings come at the low end: that side moves. */
static emu_area *open_slot(emu_umem *umem, size_t i)
{
    if (i < umem->count / 2 && umem->front > 0) {
        memmove(umem->areas - 1, umem->areas, i * sizeof *umem->areas);
        umem->areas--;
        umem->front--;
    } else {
        memmove(umem->areas + i + 1, umem->areas + i, (umem->count - i) * sizeof *umem->areas);
    }
    umem->count++;
    return &umem->areas[i];
}

static void close_slots(emu_umem *umem, size_t i, size_t n)
{
    if (i < (umem->count - n) / 2) {
        memmove(umem->areas + n, umem->areas, i * sizeof *umem->areas);
        umem->areas += n;
        umem->front += n;
    } else {
        memmove(umem->areas + i, umem->areas + i + n, (umem->count - i - n) * sizeof *umem->areas);
    }
    umem->count -= n;
}

/*
 * Whether the host's kernel has so many mappings that a guest must not have
 * another: the runtime needs a few itself.  A guest's area is one for the host,
 * the gap before it another.
 */
static bool crowded(emu_umem *umem)
{
    enum { RUNTIMES = 2048, FEW = 1024 };
    static long most;
    if (umem->count < FEW || --umem->spare > 0)
        return false;
    if (most == 0) {
        FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
        if (file == NULL || fscanf(file, "%ld", &most) != 1)
            most = 65530;
        if (file != NULL)
            fclose(file);
    }
    size_t mappings = umem->count + 1;
    for (size_t i = 1; i < umem->count; i++)
        mappings += umem->areas[i - 1].end != umem->areas[i].start;
    umem->spare = (most - RUNTIMES - (int64_t)mappings) / 2;
    return umem->spare <= 0;
}

/* Makes addr a border between areas where it lies inside one. */
static int split(emu_umem *umem, uint64_t addr)
{
    size_t i = area_at(umem, addr);
    if (i == umem->count || umem->areas[i].start >= addr)
        return 0;
    if (!room_for(umem, 1))
        return -ENOMEM;
    emu_area *area = &umem->areas[i];
    char *path = NULL;
    if (area->path != NULL) {
        path = strdup(area->path);
        if (path == NULL)
            return -ENOMEM;
    }
    const emu_area whole = *area;
    area = open_slot(umem, i);
    area[0] = area[1] = whole;
    area[0].end = addr;
    area[1].start = addr;
    area[1].path = path;
    if ((area->flags & MAP_ANONYMOUS) == 0)
        area[1].offset += addr - area[0].start;
    return 0;
}

static bool alike(const emu_area *a, const emu_area *b)
{
    if (a->end != b->start || a->prot != b->prot || a->flags != b->flags || a->dev != b->dev || a->ino != b->ino)
        return false;
    if ((a->flags & MAP_ANONYMOUS) == 0 && a->offset + (a->end - a->start) != b->offset)
        return false;
    if (a->path == NULL || b->path == NULL)
        return a->path == b->path;
    return strcmp(a->path, b->path) == 0;
}

static void merge_at(emu_umem *umem, size_t i)
{
    if (i + 1 >= umem->count || !alike(&umem->areas[i], &umem->areas[i + 1]))
        return;
    emu_area *area = &umem->areas[i];
    area->end = area[1].end;
    free(area[1].path);
    area[1] = area[0];
    close_slots(umem, i, 1);
}

/* Forgets what is recorded in [start, end).  0 or -ENOMEM, and then nothing is forgotten. */
static int remove_areas(emu_umem *umem, uint64_t start, uint64_t end)
{
    int error = split(umem, start);
    if (error == 0)
        error = split(umem, end);
    if (error != 0)
        return error;
    size_t first = area_at(umem, start), past = first;
    while (past < umem->count && umem->areas[past].start < end)
        free(umem->areas[past++].path);
    if (past != first)
        umem->search_top = 0;
    close_slots(umem, first, past - first);
    umem->last = 0;
    return 0;
}

/* The range is free.  Takes area->path over. */
static void insert_area(emu_umem *umem, const emu_area *area)
{
    size_t i = area_at(umem, area->start);
    *open_slot(umem, i) = *area;
    merge_at(umem, i);
    if (i > 0)
        merge_at(umem, i - 1);
    umem->last = 0;
}

static void tell_before(emu_umem *umem, uint64_t addr, uint64_t size)
{
    if (umem->before != NULL)
        umem->before(umem->opaque, addr, size);
}

static void tell_after(emu_umem *umem, uint64_t addr, uint64_t size)
{
    if (umem->after != NULL)
        umem->after(umem->opaque, addr, size);
    if (umem->mapped != NULL)
        umem->mapped(umem->opaque, addr, size);
}

void umem_clear(emu_umem *umem)
{
    tell_before(umem, 0, umem->size);
    for (size_t i = 0; i < umem->count; i++)
        (void)reserve(umem, umem->areas[i].start, umem->areas[i].end - umem->areas[i].start);
    forget_areas(umem);
    umem->brk_start = umem->brk_end = umem->brk_limit = 0;
    umem->search_top = 0;
    tell_after(umem, 0, umem->size);
}

/* ---- mapping ------------------------------------------------------------------------- */

uint64_t umem_place(emu_umem *umem, uint64_t size, uint64_t align)
{
    const uint64_t lowest = 0x10000; /* vm.mmap_min_addr of most systems */
    uint64_t end = umem->mmap_top;
    size_t i = umem->count;
    if (align < EMU_PAGE)
        align = EMU_PAGE;
    if (size > end)
        return 0;
    if (umem->search_top != 0 && size >= umem->search_size) { /* what is above has been looked at */
        end = umem->search_top;
        i = area_at(umem, end);
        if (i < umem->count && umem->areas[i].start < end)
            end = umem->areas[i].start;
    }
    for (; end >= lowest + size; i--) {
        uint64_t low = i == 0 || umem->areas[i - 1].end < lowest ? lowest : umem->areas[i - 1].end;
        if (low < end && end - low >= size) {
            uint64_t addr = (end - size) & ~(align - 1);
            if (addr >= low && align == EMU_PAGE) {
                umem->search_top = addr + size;
                umem->search_size = size;
            }
            if (addr >= low)
                return addr;
        }
        if (i == 0)
            break;
        if (umem->areas[i - 1].start < end)
            end = umem->areas[i - 1].start;
    }
    return 0;
}

/* Fills in what /proc/self/maps shows of a file; its own name where there is no other. */
static void describe_file(emu_area *area, int fd)
{
    struct stat status;
    if (fstat(fd, &status) == 0) {
        area->dev = status.st_dev;
        area->ino = status.st_ino;
    }
    if (area->path != NULL)
        return;
    char link[40], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        area->path = strdup(path);
    }
}

enum { STACK_SEEN = 0x21000 }; /* of a stack, which is there as a whole, what Linux would have at the start */

static bool is_data(uint32_t prot, uint32_t flags)
{
    return prot & PROT_WRITE && !(flags & (MAP_SHARED | MAP_GROWSDOWN));
}

/* Whether the limits allow so much more, with [addr, end) mapped anew (Linux: may_expand_vm). */
static bool may_expand(const emu_umem *umem, uint64_t addr, uint64_t end, uint32_t prot, uint32_t flags)
{
    if (umem->most[0] == UINT64_MAX && umem->most[1] == UINT64_MAX)
        return true;
    uint64_t total = flags & MAP_GROWSDOWN ? STACK_SEEN : end - addr, data = is_data(prot, flags) ? total : 0;
    for (size_t i = 0; i < umem->count; i++) {
        const emu_area *area = &umem->areas[i];
        uint64_t size = area->end - area->start, from = area->start > addr ? area->start : addr;
        uint64_t to = area->end < end ? area->end : end;
        size -= from < to ? to - from : 0;
        if (area->flags & MAP_GROWSDOWN && size > STACK_SEEN)
            size = STACK_SEEN;
        total += size;
        data += is_data(area->prot, area->flags) ? size : 0;
    }
    return total <= umem->most[0] && (!is_data(prot, flags) || data <= umem->most[1]);
}

int64_t umem_map(emu_umem *umem, uint64_t addr, uint64_t size, int prot, int flags, int fd, uint64_t offset,
                 const char *name)
{
    if (size == 0 || (offset & (EMU_PAGE - 1)) != 0)
        return -EINVAL;
    if (size > umem->size)
        return -ENOMEM;
    size = page_up(size);
    bool fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;
    if (offset + size < offset || offset > INT64_MAX)
        return -EOVERFLOW;
    if (flags & MAP_HUGETLB)
        return -ENOMEM; /* a pool of huge pages that is empty */
    if (fixed) {
        if ((addr & (EMU_PAGE - 1)) != 0)
            return -EINVAL;
        if (addr > umem->top || size > umem->top - addr)
            return -ENOMEM;
        if (addr < EMU_PAGE)
            return -EPERM; /* vm.mmap_min_addr */
        if ((flags & MAP_FIXED_NOREPLACE) && umem_occupied(umem, addr, addr + size))
            return -EEXIST;
    } else {
        addr = page_up(addr);
        if (addr < EMU_PAGE * 16 || addr > umem->top || size > umem->top - addr || umem_occupied(umem, addr, addr + size))
            addr = umem_place(umem, size, EMU_PAGE);
        if (addr == 0)
            return -ENOMEM;
    }
    if (!room_for(umem, 3) || crowded(umem) || !may_expand(umem, addr, addr + size, (uint32_t)prot, (uint32_t)flags))
        return -ENOMEM;
    emu_area area = {.start = addr,
                     .end = addr + size,
                     .prot = (uint32_t)prot & (PROT_READ | PROT_WRITE | PROT_EXEC),
                     .flags = (uint32_t)flags & (MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN),
                     .offset = offset};
    bool replaces = fixed && umem_occupied(umem, addr, addr + size);
    if (replaces)
        tell_before(umem, addr, size);
    int keep = MAP_ANONYMOUS | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_LOCKED | MAP_SYNC | MAP_TYPE;
    void *host = mmap(umem->base + addr, size, host_prot(area.prot), (flags & keep) | MAP_FIXED,
                      flags & MAP_ANONYMOUS ? -1 : fd, flags & MAP_ANONYMOUS ? 0 : (off_t)offset);
    int64_t result = (int64_t)addr;
    if (host == MAP_FAILED) {
        result = -errno;
    } else {
        if (name != NULL)
            area.path = strdup(name);
        if ((flags & MAP_ANONYMOUS) == 0)
            describe_file(&area, fd);
        if (flags & MAP_ANONYMOUS)
            area.offset = 0;
        (void)remove_areas(umem, addr, addr + size); /* room_for has been asked */
        insert_area(umem, &area);
    }
    if (replaces)
        tell_after(umem, addr, size);
    else if (umem->mapped != NULL)
        umem->mapped(umem->opaque, addr, size);
    return result;
}

int umem_enter(emu_umem *umem, uint64_t addr, uint64_t size, uint32_t prot, uint32_t flags, const char *name)
{
    if (!room_for(umem, 3))
        return -ENOMEM;
    bool replaces = umem_occupied(umem, addr, addr + size);
    if (replaces)
        tell_before(umem, addr, size);
    emu_area area = {.start = addr, .end = addr + size, .prot = prot, .flags = flags};
    area.path = name != NULL ? strdup(name) : NULL;
    (void)remove_areas(umem, addr, addr + size);
    insert_area(umem, &area);
    if (replaces)
        tell_after(umem, addr, size);
    return 0;
}

int64_t umem_unmap(emu_umem *umem, uint64_t addr, uint64_t size)
{
    if ((addr & (EMU_PAGE - 1)) != 0 || size == 0 || addr > umem->top || size > umem->top - addr)
        return -EINVAL;
    size = page_up(size);
    if (!umem_occupied(umem, addr, addr + size))
        return 0;
    if (!room_for(umem, 2))
        return -ENOMEM;
    tell_before(umem, addr, size);
    int error = reserve(umem, addr, size);
    if (error == 0)
        error = remove_areas(umem, addr, addr + size);
    tell_after(umem, addr, size);
    return error;
}

int64_t umem_protect(emu_umem *umem, uint64_t addr, uint64_t size, int prot)
{
    if ((addr & (EMU_PAGE - 1)) != 0 ||
        (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN | PROT_GROWSUP)) != 0)
        return -EINVAL;
    if (size == 0)
        return 0;
    if (addr > umem->top || size > umem->top - addr)
        return -ENOMEM;
    /* Up to the first hole it takes effect, as in the kernel. */
    uint64_t whole = page_up(size);
    size = umem_reach(umem, addr, whole);
    int error = size < whole ? -ENOMEM : 0;
    if (size == 0)
        return error;
    uint32_t rights = (uint32_t)prot & (PROT_READ | PROT_WRITE | PROT_EXEC);
    int failed = crowded(umem) ? -ENOMEM : split(umem, addr);
    if (failed == 0)
        failed = split(umem, addr + size);
    if (failed != 0)
        return failed;
    tell_before(umem, addr, size);
    if (mprotect(umem->base + addr, size, host_prot(rights)) != 0)
        failed = -errno;
    size_t first = area_at(umem, addr), i = first;
    if (failed == 0)
        for (; i < umem->count && umem->areas[i].start < addr + size; i++)
            umem->areas[i].prot = rights;
    else
        /* It may have changed a part: put the host's back. */
        for (; i < umem->count && umem->areas[i].start < addr + size; i++)
            (void)mprotect(umem->base + umem->areas[i].start, umem->areas[i].end - umem->areas[i].start,
                           host_prot(umem->areas[i].prot));
    /* From the top: a merge moves what is above. */
    for (size_t j = i + 1; j-- > (first == 0 ? 0 : first - 1);)
        merge_at(umem, j);
    umem->last = 0;
    tell_after(umem, addr, size);
    return failed != 0 ? failed : error;
}

/*
 * Moves pages of one area, which are several mappings of the host's where it grew: the host keeps what was
 * advised apart from what came later.
 */
static int move_pages(emu_umem *umem, uint64_t from, uint64_t size, uint64_t to, int flags)
{
    flags |= MREMAP_MAYMOVE | MREMAP_FIXED;
    if (mremap(umem->base + from, size, size, flags, umem->base + to) != MAP_FAILED)
        return 0;
    int error = -errno;
    uint64_t half = size / 2 & ~(EMU_PAGE - 1);
    if (error != -EFAULT || half == 0)
        return error;
    error = move_pages(umem, from, half, to, flags);
    if (error == 0 && (error = move_pages(umem, from + half, size - half, to + half, flags)) != 0)
        (void)mremap(umem->base + to, half, half, MREMAP_MAYMOVE | MREMAP_FIXED, umem->base + from);
    return error;
}

/* The same, with memory behind it that is new. */
static int move_and_grow(emu_umem *umem, const emu_area *area, uint64_t addr, uint64_t old_size, uint64_t new_size,
                         uint64_t new_addr)
{
    const uint32_t own = MAP_PRIVATE | MAP_ANONYMOUS;
    if (mremap(umem->base + addr, old_size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, umem->base + new_addr) !=
        MAP_FAILED)
        return 0;
    if (errno != EFAULT || (area->flags & own) != own)
        return -errno;
    uint8_t *more = umem->base + new_addr + old_size;
    if (mmap(more, new_size - old_size, host_prot(area->prot), (int)own | MAP_FIXED, -1, 0) == MAP_FAILED)
        return -errno;
    return move_pages(umem, addr, old_size, new_addr, 0);
}

/* Moves the mapping of [addr, addr + old_size), one area, to new_addr, which is free. */
static int64_t move(emu_umem *umem, uint64_t addr, uint64_t old_size, uint64_t new_size, int flags,
                    uint64_t new_addr)
{
    bool stays = (flags & MREMAP_DONTUNMAP) != 0; /* empty */
    emu_area area = *umem_find(umem, addr);
    uint64_t added = stays ? new_size : new_size - old_size;
    if (added != 0 && !may_expand(umem, new_addr, new_addr + added, area.prot, area.flags))
        return -ENOMEM;
    if ((area.flags & MAP_ANONYMOUS) == 0)
        area.offset += addr - area.start;
    if (area.path != NULL)
        area.path = strdup(area.path);
    tell_before(umem, addr, old_size);
    int error = new_size > old_size ? move_and_grow(umem, &area, addr, old_size, new_size, new_addr)
                                    : move_pages(umem, addr, old_size, new_addr, flags & MREMAP_DONTUNMAP);
    if (error != 0) {
        free(area.path);
        (void)reserve(umem, new_addr, new_size);
        tell_after(umem, addr, old_size);
        return error;
    }
    if (!stays) {
        (void)reserve(umem, addr, old_size);
        (void)remove_areas(umem, addr, addr + old_size);
    }
    area.start = new_addr;
    area.end = new_addr + new_size;
    insert_area(umem, &area);
    tell_after(umem, addr, old_size);
    return (int64_t)new_addr;
}

int64_t umem_remap(emu_umem *umem, uint64_t addr, uint64_t old_size, uint64_t new_size, int flags,
                   uint64_t new_addr)
{
    bool elsewhere = (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0;
    if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0 ||
        (elsewhere && !(flags & MREMAP_MAYMOVE)) || ((flags & MREMAP_DONTUNMAP) && old_size != new_size) ||
        (addr & (EMU_PAGE - 1)) != 0 || new_size == 0 || old_size == 0)
        return -EINVAL;
    if (addr > umem->top || old_size > umem->top - addr)
        return -EFAULT;
    if (new_size > umem->top)
        return -ENOMEM;
    old_size = page_up(old_size);
    new_size = page_up(new_size);
    const emu_area *area = umem_find(umem, addr);
    if (area == NULL || area->end - addr < old_size)
        return -EFAULT;
    if (!room_for(umem, 4))
        return -ENOMEM;
    if (flags & MREMAP_FIXED) {
        if ((new_addr & (EMU_PAGE - 1)) != 0 || new_addr > umem->top || new_size > umem->top - new_addr ||
            (new_addr < addr + old_size && addr < new_addr + new_size))
            return -EINVAL;
        if (new_addr < EMU_PAGE)
            return -EPERM;
        int64_t error = umem_unmap(umem, new_addr, new_size);
        if (error == 0 && new_size < old_size) {
            error = umem_unmap(umem, addr + new_size, old_size - new_size);
            old_size = new_size;
        }
        return error != 0 ? error : move(umem, addr, old_size, new_size, flags, new_addr);
    }
    if (new_size == old_size && !elsewhere)
        return (int64_t)addr;
    if (new_size < old_size) {
        int64_t error = umem_unmap(umem, addr + new_size, old_size - new_size);
        return error != 0 ? error : (int64_t)addr;
    }
    uint64_t more = new_size - old_size, end = addr + old_size;
    if (!elsewhere && area->end == end && more <= umem->top - end && !umem_occupied(umem, end, end + more)) {
        if (!may_expand(umem, end, end + more, area->prot, area->flags))
            return -ENOMEM;
        if ((area->flags & (MAP_ANONYMOUS | MAP_PRIVATE)) == (MAP_ANONYMOUS | MAP_PRIVATE)) {
            int64_t at = umem_map(umem, end, more, (int)area->prot, (int)area->flags | MAP_FIXED, -1, 0, area->path);
            return at < 0 ? at : (int64_t)addr;
        }
        /* The host's mapping can only grow into a hole. */
        munmap(umem->base + end, more);
        if (mremap(umem->base + addr, old_size, new_size, 0) != MAP_FAILED) {
            size_t i = area_at(umem, addr);
            umem->areas[i].end += more;
            merge_at(umem, i);
            return (int64_t)addr;
        }
        (void)reserve(umem, end, more);
    }
    if (!(flags & MREMAP_MAYMOVE))
        return -ENOMEM;
    new_addr = umem_place(umem, new_size, EMU_PAGE);
    return new_addr == 0 ? -ENOMEM : move(umem, addr, old_size, new_size, flags, new_addr);
}

bool umem_grow(emu_umem *umem, uint64_t addr, uint64_t limit)
{
    const uint64_t gap = UINT64_C(1) << 20; /* stack_guard_gap */
    addr &= ~(EMU_PAGE - 1);
    size_t i = area_at(umem, addr);
    if (i == umem->count || umem->areas[i].start <= addr || !(umem->areas[i].flags & MAP_GROWSDOWN))
        return false;
    const emu_area area = umem->areas[i];
    if (addr < 0x10000 || area.end - addr > limit)
        return false;
    if (i > 0 && umem->areas[i - 1].prot != 0 && !(umem->areas[i - 1].flags & MAP_GROWSDOWN) &&
        addr - umem->areas[i - 1].end < gap)
        return false;
    return umem_map(umem, addr, area.start - addr, (int)area.prot, (int)area.flags | MAP_FIXED | MAP_NORESERVE, -1, 0,
                    area.path) == (int64_t)addr;
}

int64_t umem_brk(emu_umem *umem, uint64_t addr)
{
    if (addr < umem->brk_start || addr > umem->brk_limit)
        return (int64_t)umem->brk_end;
    uint64_t old = page_up(umem->brk_end), end = page_up(addr);
    if (end > old) {
        if (umem_occupied(umem, old, end) || umem_map(umem, old, end - old, PROT_READ | PROT_WRITE,
                                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0, "[heap]") < 0)
            return (int64_t)umem->brk_end;
    } else if (end < old && umem_unmap(umem, end, old - end) != 0) {
        return (int64_t)umem->brk_end;
    }
    umem->brk_end = addr;
    return (int64_t)addr;
}

char *umem_maps(emu_umem *umem, size_t *length)
{
    char *text = NULL;
    FILE *file = open_memstream(&text, length);
    if (file == NULL)
        return NULL;
    for (size_t i = 0; i < umem->count; i++) {
        const emu_area *area = &umem->areas[i];
        int width = fprintf(file, "%08" PRIx64 "-%08" PRIx64 " %c%c%c%c %08" PRIx64 " %02x:%02x %" PRIu64 " ", area->start,
                            area->end, area->prot & PROT_READ ? 'r' : '-', area->prot & PROT_WRITE ? 'w' : '-',
                            area->prot & PROT_EXEC ? 'x' : '-', area->flags & MAP_SHARED ? 's' : 'p', area->offset,
                            major(area->dev), minor(area->dev), area->ino);
        if (area->path != NULL)
            fprintf(file, "%*s%s", width < 73 ? 73 - width : 0, "", area->path);
        fputc('\n', file);
    }
    if (fclose(file) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- copies ---------------------------------------------------------------------------- */

/*
 * The kernel's exception table in small: each of these may fault at exactly one
 * instruction, and umem_fixup then continues behind it with RCX = bytes left.
 */
size_t umem_copy_raw(void *to, const void *from, size_t size);
size_t umem_zero_raw(void *to, size_t size);
int umem_exchange_raw(void *at, uint32_t *old, uint32_t value);
extern const char umem_copy_fault[], umem_copy_resume[], umem_zero_fault[], umem_zero_resume[];
extern const char umem_exchange_fault[], umem_exchange_resume[];

__asm__(".pushsection .text\n"
        ".hidden umem_copy_raw, umem_zero_raw, umem_copy_fault, umem_copy_resume, umem_zero_fault, umem_zero_resume\n"
        ".globl umem_copy_raw, umem_zero_raw, umem_copy_fault, umem_copy_resume, umem_zero_fault, umem_zero_resume\n"
        ".type umem_copy_raw, @function\n"
        "umem_copy_raw:\n"
        "    mov %rdx, %rcx\n"
        "umem_copy_fault:\n"
        "    rep movsb\n"
        "umem_copy_resume:\n"
        "    mov %rcx, %rax\n"
        "    ret\n"
        ".size umem_copy_raw, .-umem_copy_raw\n"
        ".type umem_zero_raw, @function\n"
        "umem_zero_raw:\n"
        "    mov %rsi, %rcx\n"
        "    xor %eax, %eax\n"
        "umem_zero_fault:\n"
        "    rep stosb\n"
        "umem_zero_resume:\n"
        "    mov %rcx, %rax\n"
        "    ret\n"
        ".size umem_zero_raw, .-umem_zero_raw\n"
        ".hidden umem_exchange_raw, umem_exchange_fault, umem_exchange_resume\n"
        ".globl umem_exchange_raw, umem_exchange_fault, umem_exchange_resume\n"
        ".type umem_exchange_raw, @function\n"
        "umem_exchange_raw:\n"
        "    mov (%rsi), %eax\n"
        "umem_exchange_fault:\n"
        "    lock cmpxchg %edx, (%rdi)\n"
        "    mov %eax, (%rsi)\n"
        "    setne %al\n"
        "    movzbl %al, %eax\n"
        "    ret\n"
        "umem_exchange_resume:\n"
        "    mov $-14, %eax\n"
        "    ret\n"
        ".size umem_exchange_raw, .-umem_exchange_raw\n"
        ".popsection\n");

bool umem_fixup(int sig, siginfo_t *info, void *context)
{
    greg_t *rip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    if ((sig != SIGSEGV && sig != SIGBUS) || info->si_code <= 0)
        return false;
    if (*rip == (greg_t)(uintptr_t)umem_copy_fault)
        *rip = (greg_t)(uintptr_t)umem_copy_resume;
    else if (*rip == (greg_t)(uintptr_t)umem_zero_fault)
        *rip = (greg_t)(uintptr_t)umem_zero_resume;
    else if (*rip == (greg_t)(uintptr_t)umem_exchange_fault)
        *rip = (greg_t)(uintptr_t)umem_exchange_resume;
    else
        return false;
    return true;
}

int umem_read(emu_umem *umem, void *to, uint64_t addr, size_t size)
{
    if (!umem_range(umem, addr, size))
        return -EFAULT;
    return umem_copy_raw(to, umem->base + addr, size) == 0 ? 0 : -EFAULT;
}

int umem_write(emu_umem *umem, uint64_t addr, const void *from, size_t size)
{
    if (!umem_range(umem, addr, size))
        return -EFAULT;
    return umem_copy_raw(umem->base + addr, from, size) == 0 ? 0 : -EFAULT;
}

int umem_zero(emu_umem *umem, uint64_t addr, size_t size)
{
    if (!umem_range(umem, addr, size))
        return -EFAULT;
    return umem_zero_raw(umem->base + addr, size) == 0 ? 0 : -EFAULT;
}

int umem_exchange(emu_umem *umem, uint64_t addr, uint32_t *old, uint32_t value)
{
    return umem_range(umem, addr, sizeof value) ? umem_exchange_raw(umem->base + addr, old, value) : -EFAULT;
}

int64_t umem_string(emu_umem *umem, uint64_t addr, char *out, size_t room)
{
    size_t length = 0;
    while (length < room) {
        /* Not over a page's end: the next page may be missing and the string may not need it. */
        size_t part = (size_t)(EMU_PAGE - (addr & (EMU_PAGE - 1)));
        if (part > room - length)
            part = room - length;
        if (umem_read(umem, out + length, addr, part) != 0)
            return -EFAULT;
        const char *end = memchr(out + length, 0, part);
        if (end != NULL)
            return end - out;
        length += part;
        addr += part;
    }
    return -ENAMETOOLONG;
}

int umem_word(emu_umem *umem, uint64_t addr, unsigned width, uint64_t *value)
{
    *value = 0;
    return umem_read(umem, value, addr, width == 4 ? 4 : 8);
}

/*
 * The library is built with its symbols exported and calls them through its
 * procedure linkage table, one writable slot for each function.  Writing the
 * slot replaces the function for the library alone, whoever loaded it first.
 * (System V gABI, "Dynamic Linking"; psABI x86-64, section 5.2.)
 */
#include "uc_patch.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_mutex_t patching = PTHREAD_MUTEX_INITIALIZER;

#if defined(__x86_64__)
#define SLOT_TYPE R_X86_64_JUMP_SLOT
#define DATA_TYPE R_X86_64_GLOB_DAT
#elif defined(__aarch64__)
#define SLOT_TYPE R_AARCH64_JUMP_SLOT
#define DATA_TYPE R_AARCH64_GLOB_DAT
#endif

#ifdef SLOT_TYPE
/* glibc relocates the addresses in place where the section is writable. */
static const void *address(const struct link_map *map, const ElfW(Dyn) *entry)
{
    uintptr_t value = entry->d_un.d_ptr;
    return (const void *)(value < map->l_addr ? value + map->l_addr : value);
}

static void **slot_in(const struct link_map *map, const ElfW(Rela) *relocations, size_t size, uint32_t type,
                      const ElfW(Sym) *symbols, const char *strings, const char *name)
{
    if (relocations == NULL)
        return NULL;
    for (size_t i = 0; i < size / sizeof *relocations; i++) {
        const ElfW(Rela) *relocation = &relocations[i];
        if (ELF64_R_TYPE(relocation->r_info) == type &&
            strcmp(strings + symbols[ELF64_R_SYM(relocation->r_info)].st_name, name) == 0)
            return (void **)(map->l_addr + relocation->r_offset);
    }
    return NULL;
}

/* Where the library calls the function, or else where it takes its address. */
static void **slot_of(void *handle, const char *name)
{
    struct link_map *map;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0)
        return NULL;
    const ElfW(Rela) *calls = NULL, *data = NULL;
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    size_t calls_size = 0, data_size = 0;
    for (const ElfW(Dyn) *entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_JMPREL)
            calls = address(map, entry);
        else if (entry->d_tag == DT_PLTRELSZ)
            calls_size = entry->d_un.d_val;
        else if (entry->d_tag == DT_RELA)
            data = address(map, entry);
        else if (entry->d_tag == DT_RELASZ)
            data_size = entry->d_un.d_val;
        else if (entry->d_tag == DT_SYMTAB)
            symbols = address(map, entry);
        else if (entry->d_tag == DT_STRTAB)
            strings = address(map, entry);
        else if (entry->d_tag == DT_PLTREL && entry->d_un.d_val != DT_RELA)
            return NULL;
    }
    if (symbols == NULL || strings == NULL)
        return NULL;
    void **slot = slot_in(map, calls, calls_size, SLOT_TYPE, symbols, strings, name);
    return slot != NULL ? slot : slot_in(map, data, data_size, DATA_TYPE, symbols, strings, name);
}

/* The latest replacement at a slot, so that a second one passes on to it and not over its head. */
static struct {
    void **slot;
    void *with;
} replaced[128];
static size_t replacements;

/* What is called now, with patching held; NULL when there is no room to remember more. */
static void **latest(void **slot, void *original)
{
    for (size_t i = 0; i < replacements; i++)
        if (replaced[i].slot == slot)
            return &replaced[i].with;
    if (replacements == sizeof replaced / sizeof *replaced)
        return NULL;
    replaced[replacements].slot = slot;
    replaced[replacements].with = original;
    return &replaced[replacements++].with;
}

void *emu_uc_replace(void *handle, const char *name, void *with)
{
    void *before = dlsym(handle, name);
    if (before == NULL)
        return NULL;
    pthread_mutex_lock(&patching);
    void **slot = slot_of(handle, name), **now = slot != NULL ? latest(slot, before) : NULL;
    if (now == NULL) {
        slot = NULL;
    } else {
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)slot & ~(page - 1);
        /* writable already unless the library was linked with -z now */
        if (mprotect((void *)start, page, PROT_READ | PROT_WRITE) == 0) {
            before = *now;
            *now = with;
            __atomic_store_n(slot, with, __ATOMIC_RELEASE);
        } else {
            slot = NULL;
        }
    }
    pthread_mutex_unlock(&patching);
    return slot != NULL ? before : NULL;
}
#else
void *emu_uc_replace(void *handle, const char *name, void *with)
{
    return NULL;
}
#endif

#if defined(__x86_64__)
int emu_uc_redirect(void *code, void *with)
{
    /* jmp *0(%rip), and the address behind it; functions begin at multiples of 16, so no other one is hit. */
    uint8_t jump[14] = {0xff, 0x25};
    if ((uintptr_t)code % 16 != 0)
        return -1;
    memcpy(jump + 6, &with, sizeof with);
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)code & ~(page - 1);
    size_t size = ((uintptr_t)code + sizeof jump - start + page - 1) & ~(page - 1);
    /* Executable all the time: other engines may be on these pages. */
    if (mprotect((void *)start, size, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
        return -1;
    memcpy(code, jump, sizeof jump);
    return mprotect((void *)start, size, PROT_READ | PROT_EXEC);
}
#else
int emu_uc_redirect(void *code, void *with)
{
    return -1;
}
#endif

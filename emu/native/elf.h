/*
 * ELF images: what a loader needs of them, checked.
 *
 * Sources: System V gABI chapters 4 and 5; Linux fs/binfmt_elf.c for what a
 * kernel accepts.  A file is hostile: every offset, size and count is checked
 * before it is used, and nothing is read outside the file.
 */
#ifndef EMU_ELF_H
#define EMU_ELF_H

#include <stddef.h>
#include <stdint.h>

#define EMU_ELF_MAX_LOADS 256
#define EMU_ELF_MAX_INTERP 4096
#define EMU_ELF_MAX_NOTES 16

enum emu_elf_type { EMU_ELF_EXEC = 2, EMU_ELF_DYN = 3 };
enum emu_elf_class { EMU_ELF_32 = 1, EMU_ELF_64 = 2 };
enum emu_elf_data { EMU_ELF_LITTLE = 1, EMU_ELF_BIG = 2 };
enum emu_elf_flag { EMU_ELF_X = 1, EMU_ELF_W = 2, EMU_ELF_R = 4 };

/* A PT_LOAD segment with a size in memory. */
typedef struct emu_elf_load {
    uint64_t offset; /* in the file */
    uint64_t vaddr;
    uint64_t paddr;
    uint64_t filesz; /* at most memsz; the rest is zero */
    uint64_t memsz;
    uint64_t align; /* a power of two, at least 1 */
    uint32_t flags; /* enum emu_elf_flag */
    uint32_t reserved;
} emu_elf_load;

/* A PT_NOTE segment within the file. */
typedef struct emu_elf_notes {
    uint64_t offset;
    uint64_t size;
    uint64_t align; /* as it is in the file */
} emu_elf_notes;

typedef struct emu_elf {
    uint8_t elf_class; /* enum emu_elf_class */
    uint8_t data;      /* enum emu_elf_data */
    uint16_t type;     /* enum emu_elf_type */
    uint16_t machine;  /* EM_* */
    uint16_t phnum;
    uint32_t phentsize;
    uint32_t flags; /* e_flags */
    uint64_t entry;
    uint64_t phoff;
    uint64_t phdr_vaddr;  /* where the program headers are in memory; 0: nowhere */
    uint64_t low;         /* the loads span vaddrs low .. high-1 */
    uint64_t high;
    uint32_t loads;       /* at least 1; sorted by vaddr, without overlaps */
    uint32_t exec_stack;  /* PT_GNU_STACK asks for one; 2: there is no PT_GNU_STACK */
    uint32_t entry_inside; /* the entry lies in an executable load */
    uint32_t interp_size; /* of interp with its NUL; 0: no PT_INTERP */
    char interp[4096];
    emu_elf_load load[256];
    uint32_t notes; /* segments of notes, the first 16 of them that lie within the file */
    uint32_t reserved;
    emu_elf_notes note[16];
} emu_elf;

/* Reads size bytes at offset into out; 0, or -errno (then the parse fails with it). */
typedef int (*emu_elf_read_fn)(void *opaque, uint64_t offset, void *out, size_t size);

/*
 * 0; -ENOEXEC when the file is not a valid image (one line in text); or what
 * read gave.  file_size bounds everything that is read.
 */
int emu_elf_parse(emu_elf_read_fn read, void *opaque, uint64_t file_size, emu_elf *out, char *text,
                  size_t text_size);
/* The same for a file in memory. */
int emu_elf_parse_bytes(const void *bytes, size_t size, emu_elf *out, char *text, size_t text_size);

#endif

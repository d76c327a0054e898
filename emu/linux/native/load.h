/* Program images and the first stack. */
#ifndef EMU_LOAD_H
#define EMU_LOAD_H

#include "elf.h"
#include "runtime.h"

/* An open file whose first page has been read. */
typedef struct emu_image {
    int fd;
    uint64_t size;
    emu_elf elf;
} emu_image;

/* Where an image came to lie. */
typedef struct emu_placed {
    uint64_t bias; /* added to its addresses */
    uint64_t entry;
    uint64_t phdr; /* 0: not in memory */
    uint64_t end;  /* behind its last page */
} emu_placed;

/* Parses and checks for this process's kind of loading.  0 or -errno with text. */
int emu_image_parse(emu_image *image, char *text, size_t size);
/* Maps the segments.  at: of the lowest page for ET_DYN, 0: anywhere.  0 or -errno. */
int emu_image_map(emu_umem *umem, const emu_image *image, uint64_t at, const char *name, emu_placed *placed);

/* Layout of the empty address space for that ABI: limits, stack area, trampolines.  0 or -errno. */
int emu_layout(emu_process *process, bool exec_stack);

typedef struct emu_start {
    char *const *argv;
    char *const *envp;
    const char *execfn;
    const emu_elf *elf; /* of the program */
    emu_placed program;
    emu_placed interp; /* entry 0: none */
    uint64_t hwcap[2];
    uint64_t signal_stack; /* AT_MINSIGSTKSZ; 0: none */
} emu_start;

/* Writes the first stack; *sp is where it begins.  0, -E2BIG, -EFAULT. */
int emu_stack_write(emu_process *process, const emu_start *start, uint64_t *sp);
/* True when the strings fit what the kernel allows. */
bool emu_stack_fits(char *const *argv, char *const *envp);

#endif

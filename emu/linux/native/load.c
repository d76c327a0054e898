/* Images into memory, and the stack as Linux lays it out (fs/binfmt_elf.c, create_elf_tables). */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

enum { STRING_MAX = 131072 }; /* MAX_ARG_STRLEN: of one argument, with its NUL */

static uint64_t page_down(uint64_t addr)
{
    return addr & ~(EMU_PAGE - 1);
}

static uint64_t page_up(uint64_t addr)
{
    return (addr + EMU_PAGE - 1) & ~(EMU_PAGE - 1);
}

static int read_file(void *opaque, uint64_t offset, void *out, size_t size)
{
    const emu_image *image = opaque;
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(image->fd, (char *)out + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        done += (size_t)got;
    }
    return 0;
}

int emu_image_parse(emu_image *image, char *text, size_t size)
{
    const emu_elf *elf = &image->elf;
    int error = emu_elf_parse(read_file, image, image->size, &image->elf, text, size);
    if (error != 0)
        return error;
    const char *wrong = NULL;
    if (elf->data != EMU_ELF_LITTLE)
        wrong = "it is big-endian";
    else if (!elf->entry_inside)
        wrong = "its entry point lies outside its code";
    else if (elf->high == 0)
        wrong = "it wants the last byte of the address space";
    for (uint32_t i = 0; i < elf->loads && wrong == NULL; i++)
        if (((elf->load[i].vaddr - elf->load[i].offset) & (EMU_PAGE - 1)) != 0)
            wrong = "a segment's address and file offset differ within the page";
    if (wrong == NULL)
        return 0;
    snprintf(text, size, "%s", wrong);
    return -ENOEXEC;
}

static int prot_of(uint32_t flags)
{
    return (flags & EMU_ELF_R ? PROT_READ : 0) | (flags & EMU_ELF_W ? PROT_WRITE : 0) |
           (flags & EMU_ELF_X ? PROT_EXEC : 0);
}

static int map_load(emu_umem *umem, const emu_image *image, const emu_elf_load *load, uint64_t bias, const char *name)
{
    uint64_t start = page_down(load->vaddr + bias);
    uint64_t file_end = load->vaddr + bias + load->filesz;
    uint64_t end = page_up(load->vaddr + bias + load->memsz);
    uint64_t zero_from = start;
    int prot = prot_of(load->flags);
    if (load->filesz != 0) {
        uint64_t within = load->vaddr & (EMU_PAGE - 1);
        int64_t at = umem_map(umem, start, load->filesz + within, prot, MAP_PRIVATE | MAP_FIXED, image->fd,
                              load->offset - within, name);
        if (at < 0)
            return (int)at;
        zero_from = page_up(file_end);
    }
    if (end > zero_from) {
        int64_t at = umem_map(umem, zero_from, end - zero_from, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0, NULL);
        if (at < 0)
            return (int)at;
    }
    /* What follows the file's bytes in their last page is bss, where it may be written. */
    if (load->memsz > load->filesz && load->filesz != 0 && (prot & PROT_WRITE))
        return umem_zero(umem, file_end, (size_t)(zero_from - file_end));
    return 0;
}

int emu_image_map(emu_umem *umem, const emu_image *image, uint64_t at, const char *name, emu_placed *placed)
{
    const emu_elf *elf = &image->elf;
    uint64_t low = page_down(elf->low), bias = 0;
    if (elf->high > umem->top || page_up(elf->high) > umem->top)
        return -ENOMEM;
    uint64_t span = page_up(elf->high) - low;
    if (elf->type == EMU_ELF_DYN) {
        uint64_t align = EMU_PAGE;
        for (uint32_t i = 0; i < elf->loads; i++)
            if (elf->load[i].align > align && elf->load[i].align <= umem->top)
                align = elf->load[i].align;
        if (at == 0)
            at = umem_place(umem, span, align);
        else
            at = (at + align - 1) & ~(align - 1);
        if (at == 0 || at > umem->top || span > umem->top - at)
            return -ENOMEM;
        bias = at - low;
    }
    for (uint32_t i = 0; i < elf->loads; i++) {
        int error = map_load(umem, image, &elf->load[i], bias, name);
        if (error != 0)
            return error;
    }
    placed->bias = bias;
    placed->entry = elf->entry + bias;
    placed->phdr = elf->phdr_vaddr == 0 ? 0 : elf->phdr_vaddr + bias;
    placed->end = page_up(elf->high + bias);
    return 0;
}

/* ---- the address space --------------------------------------------------------------- */

static const uint32_t sigreturn_aarch64[] = {
    0xd2801168, 0xd4000001, /* mov x8, #139; svc #0 */
};
static const uint32_t sigreturn_riscv64[] = {
    0x08b00893, 0x00000073, /* li a7, 139; ecall */
};
static const uint32_t sigreturn_arm[] = {
    0xe3a070ad, 0xef000000, /* mov r7, #173 (rt_sigreturn); svc 0 */
    0xe3a07077, 0xef000000, /* mov r7, #119 (sigreturn); svc 0 */
    0xdf0027ad,             /* the same two in Thumb */
    0xdf002777,
};

/*
 * The helpers that Linux has at fixed addresses for 32-bit Arm
 * (Documentation/arch/arm/kernel_user_helpers.rst), with the exclusives that
 * every CPU here has.
 */
static const struct {
    uint32_t offset;
    uint32_t words[16];
} kuser[] = {
    /* __kuser_cmpxchg64: r0 = &old, r1 = &new, r2 = pointer */
    {0xf60,
     {0xe92d00f0 /* push {r4-r7} */, 0xe1c040d0 /* ldrd r4, [r0] */, 0xe1c160d0 /* ldrd r6, [r1] */,
      0xe1b20f9f /* 1: ldrexd r0, [r2] */, 0xe0303004 /* eors r3, r0, r4 */, 0x00313005 /* eorseq r3, r1, r5 */,
      0x01a23f96 /* strexdeq r3, r6, [r2] */, 0x03330001 /* teqeq r3, #1 */, 0x0afffff9 /* beq 1b */,
      0xe2730000 /* rsbs r0, r3, #0 */, 0xe8bd00f0 /* pop {r4-r7} */, 0xe12fff1e /* bx lr */}},
    /* __kuser_memory_barrier */
    {0xfa0, {0xf57ff05b /* dmb ish */, 0xe12fff1e}},
    /* __kuser_cmpxchg: r0 = old, r1 = new, r2 = pointer; r0 = 0 and C set when it was exchanged */
    {0xfc0,
     {0xe1923f9f /* 1: ldrex r3, [r2] */, 0xe0533000 /* subs r3, r3, r0 */, 0x01823f91 /* strexeq r3, r1, [r2] */,
      0x03330001 /* teqeq r3, #1 */, 0x0afffffa /* beq 1b */, 0xe2730000 /* rsbs r0, r3, #0 */, 0xe12fff1e}},
    /* __kuser_get_tls */
    {0xfe0, {0xee1d0f70 /* mrc p15, 0, r0, c13, c0, 3 */, 0xe12fff1e}},
    /* __kuser_helper_version */
    {0xffc, {5}},
};

#define KUSER UINT64_C(0xffff0000)

static int map_kuser(emu_umem *umem)
{
    uint64_t top = umem->top;
    umem->top = umem->size;
    int64_t at = umem_map(umem, KUSER, EMU_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0,
                          "[vectors]");
    umem->top = top;
    if (at < 0)
        return (int)at;
    for (size_t i = 0; i < sizeof kuser / sizeof *kuser; i++) {
        size_t size = kuser[i].offset == 0xffc ? 4 : sizeof kuser[i].words;
        if (size > 4096 - kuser[i].offset)
            size = 4096 - kuser[i].offset;
        /* The helpers are 32 or 64 bytes apart; zeroes behind a short one are its padding. */
        size_t words = size / 4;
        while (words > 1 && kuser[i].words[words - 1] == 0)
            words--;
        if (umem_write(umem, KUSER + kuser[i].offset, kuser[i].words, words * 4) != 0)
            return -EFAULT;
    }
    umem->top = umem->size;
    int error = (int)umem_protect(umem, KUSER, EMU_PAGE, PROT_READ | PROT_EXEC);
    umem->top = top;
    return error;
}

static int map_trampolines(emu_process *process)
{
    const uint32_t *words;
    size_t size;
    process->sigreturn = 0;
    switch (process->abi->isa) {
    case EMU_ISA_AARCH64:
        words = sigreturn_aarch64;
        size = sizeof sigreturn_aarch64;
        break;
    case EMU_ISA_ARM:
        words = sigreturn_arm;
        size = sizeof sigreturn_arm;
        break;
    case EMU_ISA_RISCV64:
        words = sigreturn_riscv64;
        size = sizeof sigreturn_riscv64;
        break;
    default:
        return 0;
    }
    int64_t at = umem_map(&process->umem, 0, EMU_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0,
                          process->abi->isa == EMU_ISA_ARM ? "[sigpage]" : "[vdso]");
    if (at < 0)
        return (int)at;
    process->sigreturn = (uint64_t)at;
    int error = umem_write(&process->umem, (uint64_t)at, words, size);
    return error != 0 ? error : (int)umem_protect(&process->umem, (uint64_t)at, EMU_PAGE, PROT_READ | PROT_EXEC);
}

uint64_t emu_stack_size(const emu_abi *abi)
{
    uint64_t most = abi->word == 4 ? UINT64_C(64) << 20 : UINT64_C(1) << 30, size = 8 << 20;
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) == 0)
        size = limit.rlim_cur > most ? most : page_up(limit.rlim_cur);
    return size < 0x20000 ? 0x20000 : size;
}

int emu_layout(emu_process *process, bool exec_stack)
{
    emu_umem *umem = &process->umem;
    bool narrow = process->abi->word == 4;
    umem->top = narrow ? KUSER : umem->size - 0x10000;
    /* All of the stack that the limit allows is there from the start: untouched pages cost nothing. */
    uint64_t stack = emu_stack_size(process->abi);
    uint64_t top = umem->top - EMU_PAGE;
    int prot = PROT_READ | PROT_WRITE | (exec_stack ? PROT_EXEC : 0);
    int64_t at = umem_map(umem, top - stack, stack, prot,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE | MAP_GROWSDOWN, -1, 0, "[stack]");
    if (at < 0)
        return (int)at;
    process->stack_start = top;
    /* The kernel's gap, so that a stack that runs over meets nothing. */
    uint64_t gap = UINT64_C(128) << 20, guard = UINT64_C(1) << 20;
    umem->mmap_top = top - (stack + guard > gap ? stack + guard : gap);
    if (narrow) {
        int error = map_kuser(umem);
        if (error != 0)
            return error;
    }
    return map_trampolines(process);
}

/* ---- the stack ------------------------------------------------------------------------- */

bool emu_stack_fits(char *const *argv, char *const *envp)
{
    struct rlimit limit;
    uint64_t room = 8 << 20, used = 0;
    if (getrlimit(RLIMIT_STACK, &limit) == 0)
        room = limit.rlim_cur;
    /* A quarter of the stack, at most 6 MiB, at least 128 KiB (fs/exec.c, bprm_stack_limits). */
    room /= 4;
    if (room > UINT64_C(6) << 20)
        room = UINT64_C(6) << 20;
    if (room < 131072)
        room = 131072;
    for (int set = 0; set < 2; set++)
        for (char *const *p = set == 0 ? argv : envp; *p != NULL; p++) {
            size_t length = strlen(*p) + 1;
            if (length > STRING_MAX)
                return false;
            used += length + 8;
            if (used > room)
                return false;
        }
    return true;
}

struct stack {
    emu_umem *umem;
    uint64_t sp;
    unsigned word;
    int error;
};

static uint64_t push_bytes(struct stack *stack, const void *bytes, size_t size)
{
    stack->sp -= size;
    if (stack->error == 0)
        stack->error = umem_write(stack->umem, stack->sp, bytes, size);
    return stack->sp;
}

static uint64_t push_string(struct stack *stack, const char *string)
{
    return push_bytes(stack, string, strlen(string) + 1);
}

static void put_word(struct stack *stack, uint64_t *at, uint64_t value)
{
    if (stack->error == 0)
        stack->error = umem_write(stack->umem, *at, &value, stack->word);
    *at += stack->word;
}

static size_t count_strings(char *const *strings)
{
    size_t count = 0;
    while (strings[count] != NULL)
        count++;
    return count;
}

/* Pushes the strings so that the first lies lowest. */
static void push_strings(struct stack *stack, char *const *strings, size_t count)
{
    while (count > 0)
        push_string(stack, strings[--count]);
}

/* The pointers to strings that lie one behind the other. */
static void put_pointers(struct stack *stack, uint64_t *at, char *const *strings, uint64_t first)
{
    for (; *strings != NULL; strings++) {
        put_word(stack, at, first);
        first += strlen(*strings) + 1;
    }
    put_word(stack, at, 0);
}

int emu_stack_write(emu_process *process, const emu_start *start, uint64_t *sp)
{
    struct stack stack = {&process->umem, process->stack_start, process->abi->word, 0};
    size_t argc = count_strings(start->argv), envc = count_strings(start->envp);
    static const char end[8];

    push_bytes(&stack, end, process->abi->word);
    uint64_t execfn = push_string(&stack, start->execfn);
    process->env_end = stack.sp;
    push_strings(&stack, start->envp, envc);
    process->env_start = process->arg_end = stack.sp;
    push_strings(&stack, start->argv, argc);
    process->arg_start = stack.sp;
    stack.sp &= ~UINT64_C(15);
    uint64_t platform = process->abi->platform == NULL ? 0 : push_string(&stack, process->abi->platform);
    uint8_t random[16];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return -EIO;
    uint64_t random_at = push_bytes(&stack, random, sizeof random);

    const struct {
        uint64_t type, value;
        bool there;
    } entries[] = {
        {AT_MINSIGSTKSZ, start->signal_stack, start->signal_stack != 0},
        {AT_HWCAP, start->hwcap[0], true},
        {AT_PAGESZ, EMU_PAGE, true},
        {AT_CLKTCK, (uint64_t)sysconf(_SC_CLK_TCK), true},
        {AT_PHDR, start->program.phdr, true},
        {AT_PHENT, start->elf->phentsize, true},
        {AT_PHNUM, start->elf->phnum, true},
        {AT_BASE, start->interp.entry != 0 ? start->interp.bias : 0, true},
        {AT_FLAGS, 0, true},
        {AT_ENTRY, start->program.entry, true},
        {AT_UID, getuid(), true},
        {AT_EUID, geteuid(), true},
        {AT_GID, getgid(), true},
        {AT_EGID, getegid(), true},
        {AT_SECURE, getauxval(AT_SECURE), true},
        {AT_RANDOM, random_at, true},
        {AT_HWCAP2, start->hwcap[1], process->abi->isa != EMU_ISA_RISCV64},
        {AT_EXECFN, execfn, true},
        {AT_PLATFORM, platform, platform != 0},
        {AT_NULL, 0, true},
    };
    process->auxv_words = 0;
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        if (entries[i].there) {
            process->auxv[process->auxv_words++] = entries[i].type;
            process->auxv[process->auxv_words++] = entries[i].value;
        }

    uint64_t words = 1 + argc + 1 + envc + 1 + process->auxv_words;
    stack.sp = (stack.sp - words * stack.word) & ~UINT64_C(15);
    uint64_t at = stack.sp;
    put_word(&stack, &at, argc);
    put_pointers(&stack, &at, start->argv, process->arg_start);
    put_pointers(&stack, &at, start->envp, process->env_start);
    for (size_t i = 0; i < process->auxv_words; i++)
        put_word(&stack, &at, process->auxv[i]);
    *sp = stack.sp;
    return stack.error;
}

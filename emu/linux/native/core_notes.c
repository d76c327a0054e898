/*
 * What a core file says besides memory: ELF's headers and the notes, of which
 * debuggers read registers, signal, auxiliary vector and files.  Sources:
 * include/uapi/linux/elfcore.h, fs/binfmt_elf.c and each ISA's asm/elf.h of Linux 6.1.
 */
#include "core_notes.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "syscall.h"

enum { /* types of notes (elf.h) */
    PRSTATUS = 1,
    FPREGSET = 2,
    PRPSINFO = 3,
    AUXV = 6,
    ARM_VFP = 0x400,
    ARM_TLS = 0x401,
    SIGINFO = 0x53494749,
    FILES = 0x46494c45,
};

static void put_number(FILE *out, uint64_t value, unsigned size)
{
    fwrite(&value, 1, size, out);
}

static void pad(FILE *out, size_t written, size_t unit)
{
    for (; written % unit != 0; written++)
        fputc(0, out);
}

void core_put_header(FILE *out, const emu_abi *abi, size_t segments)
{
    const uint8_t ident[16] = {0x7f, 'E', 'L', 'F', abi->elf_class, 1 /* little-endian */, 1};
    bool wide = abi->word == 8;
    fwrite(ident, 1, sizeof ident, out);
    put_number(out, 4 /* ET_CORE */, 2);
    put_number(out, abi->elf_machine, 2);
    put_number(out, 1, 4);
    put_number(out, 0, abi->word);               /* entry */
    put_number(out, wide ? 64 : 52, abi->word);  /* program headers */
    put_number(out, 0, abi->word);               /* sections */
    put_number(out, abi->isa == EMU_ISA_ARM ? 0x05000000 : 0, 4);
    put_number(out, wide ? 64 : 52, 2);
    put_number(out, wide ? 56 : 32, 2);
    put_number(out, segments, 2);
    put_number(out, 0, 2);
    put_number(out, 0, 2);
    put_number(out, 0, 2);
}

void core_put_segment(FILE *out, const emu_abi *abi, uint32_t type, uint32_t flags, const uint64_t place[5])
{
    bool wide = abi->word == 8;
    put_number(out, type, 4);
    if (wide)
        put_number(out, flags, 4);
    put_number(out, place[0], abi->word);
    put_number(out, place[1], abi->word);
    put_number(out, 0, abi->word); /* physical */
    put_number(out, place[2], abi->word);
    put_number(out, place[3], abi->word);
    if (!wide)
        put_number(out, flags, 4);
    put_number(out, place[4], abi->word);
}

static void put_note(FILE *out, const char *owner, uint32_t type, const void *content, size_t size)
{
    size_t length = strlen(owner) + 1;
    put_number(out, length, 4);
    put_number(out, size, 4);
    put_number(out, type, 4);
    fwrite(owner, 1, length, out);
    pad(out, length, 4);
    fwrite(content, 1, size, out);
    pad(out, size, 4);
}

/* A note that is written piece by piece: its length is known when it ends. */
typedef struct note {
    char *text;
    size_t size;
    FILE *to;
} note;

static bool begin(note *n)
{
    n->text = NULL;
    n->size = 0;
    n->to = open_memstream(&n->text, &n->size);
    return n->to != NULL;
}

static void end(FILE *out, note *n, const char *owner, uint32_t type)
{
    if (fclose(n->to) == 0)
        put_note(out, owner, type, n->text, n->size);
    free(n->text);
}

/* The general registers in the order of struct user_regs_struct or its kin. */
static void put_registers(FILE *out, const emu_abi *abi, const emu_cpu_state *state)
{
    static const uint8_t x86[] = {15, 14, 13, 12, 5, 3, 11, 10, 9, 8, 0, 1, 2, 6, 7};
    switch (abi->isa) {
    case EMU_ISA_AARCH64:
        for (unsigned i = 0; i < 32; i++)
            put_number(out, state->r[i], 8);
        put_number(out, state->pc, 8);
        put_number(out, state->flags, 8);
        break;
    case EMU_ISA_ARM:
        for (unsigned i = 0; i < 15; i++)
            put_number(out, state->r[i], 4);
        put_number(out, state->pc, 4);
        put_number(out, state->flags, 4);
        put_number(out, state->r[0], 4); /* before the system call */
        break;
    case EMU_ISA_RISCV64:
        put_number(out, state->pc, 8);
        for (unsigned i = 1; i < 32; i++)
            put_number(out, state->r[i], 8);
        break;
    default:
        for (unsigned i = 0; i < sizeof x86; i++)
            put_number(out, state->r[x86[i]], 8);
        put_number(out, UINT64_MAX, 8); /* orig_rax: not in a system call */
        put_number(out, state->pc, 8);
        put_number(out, 0x33, 8);
        put_number(out, state->flags, 8);
        put_number(out, state->r[4], 8);
        put_number(out, 0x2b, 8);
        put_number(out, state->tls[0], 8);
        put_number(out, state->tls[1], 8);
        for (unsigned i = 0; i < 4; i++) /* ds, es, fs, gs */
            put_number(out, 0, 8);
        break;
    }
}

static void put_status(FILE *out, emu_thread *thread, const emu_cpu_state *state, const siginfo_t *info)
{
    const emu_abi *abi = thread->process->abi;
    note n;
    if (!begin(&n))
        return;
    put_number(n.to, (uint32_t)info->si_signo, 4);
    put_number(n.to, (uint32_t)info->si_code, 4);
    put_number(n.to, (uint32_t)info->si_errno, 4);
    put_number(n.to, (uint16_t)info->si_signo, 4);
    put_number(n.to, 0, abi->word); /* pending, held */
    put_number(n.to, 0, abi->word);
    put_number(n.to, (uint32_t)thread->tid, 4);
    put_number(n.to, (uint32_t)getppid(), 4);
    put_number(n.to, (uint32_t)getpgrp(), 4);
    put_number(n.to, (uint32_t)getsid(0), 4);
    for (unsigned i = 0; i < 8; i++) /* times */
        put_number(n.to, 0, abi->word);
    put_registers(n.to, abi, state);
    put_number(n.to, 1, abi->word); /* floating point is valid */
    end(out, &n, "CORE", PRSTATUS);
}

static void put_program(FILE *out, const emu_process *process, emu_umem *umem)
{
    bool wide = process->abi->word == 8;
    char name[16] = "", words[80] = "";
    uint64_t size = process->arg_end - process->arg_start;
    note n;
    if (!begin(&n))
        return;
    memcpy(name, process->comm, strnlen(process->comm, sizeof name - 1));
    size = size < sizeof words ? size : sizeof words - 1;
    if (umem_read(umem, words, process->arg_start, size) != 0)
        size = 0;
    for (uint64_t i = 0; i + 1 < size; i++)
        words[i] = words[i] != 0 ? words[i] : ' ';
    put_number(n.to, 'R' << 8, wide ? 8 : 4); /* state, its letter, zombie, nice */
    put_number(n.to, 0, process->abi->word);
    put_number(n.to, getuid(), wide ? 4 : 2);
    put_number(n.to, getgid(), wide ? 4 : 2);
    put_number(n.to, (uint32_t)getpid(), 4);
    put_number(n.to, (uint32_t)getppid(), 4);
    put_number(n.to, (uint32_t)getpgrp(), 4);
    put_number(n.to, (uint32_t)getsid(0), 4);
    fwrite(name, 1, sizeof name, n.to);
    fwrite(words, 1, sizeof words, n.to);
    end(out, &n, "CORE", PRPSINFO);
}

static void put_auxv(FILE *out, const emu_process *process)
{
    note n;
    if (!begin(&n))
        return;
    for (size_t i = 0; i < process->auxv_words; i++)
        put_number(n.to, process->auxv[i], process->abi->word);
    end(out, &n, "CORE", AUXV);
}

static bool of_file(const emu_area *area)
{
    return area->ino != 0 && area->path != NULL;
}

static void put_files(FILE *out, const emu_umem *umem, unsigned word)
{
    uint64_t count = 0;
    note n;
    if (!begin(&n))
        return;
    for (size_t i = 0; i < umem->count; i++)
        count += of_file(&umem->areas[i]);
    put_number(n.to, count, word);
    put_number(n.to, EMU_PAGE, word);
    for (size_t i = 0; i < umem->count; i++)
        if (of_file(&umem->areas[i])) {
            put_number(n.to, umem->areas[i].start, word);
            put_number(n.to, umem->areas[i].end, word);
            put_number(n.to, umem->areas[i].offset / EMU_PAGE, word);
        }
    for (size_t i = 0; i < umem->count; i++)
        if (of_file(&umem->areas[i]))
            fwrite(umem->areas[i].path, 1, strlen(umem->areas[i].path) + 1, n.to);
    end(out, &n, "CORE", FILES);
}

/* Floating point, vectors and thread pointer. */
static void put_extended(FILE *out, const emu_abi *abi, const emu_cpu_state *state)
{
    note n;
    if (!begin(&n))
        return;
    switch (abi->isa) {
    case EMU_ISA_AARCH64:
        fwrite(state->v, 1, sizeof state->v, n.to);
        put_number(n.to, state->fpsr, 4);
        put_number(n.to, state->fpcr, 4);
        put_number(n.to, 0, 8);
        end(out, &n, "CORE", FPREGSET);
        put_note(out, "LINUX", ARM_TLS, state->tls, 8);
        break;
    case EMU_ISA_ARM:
        fwrite(state->v, 1, 256, n.to);
        put_number(n.to, state->fpcr, 4);
        end(out, &n, "LINUX", ARM_VFP);
        break;
    case EMU_ISA_RISCV64:
        for (unsigned i = 0; i < 32; i++)
            put_number(n.to, state->v[i][0], 8);
        put_number(n.to, state->fpcr, 8);
        end(out, &n, "CORE", FPREGSET);
        break;
    default: {
        uint8_t image[512] = {0};
        memcpy(image, state->x87, sizeof state->x87);
        memcpy(image + 24, &state->fpcr, 4); /* MXCSR */
        memcpy(image + 160, state->v, 256);
        fwrite(image, 1, sizeof image, n.to);
        end(out, &n, "CORE", FPREGSET);
        break;
    }
    }
}

void core_put_notes(FILE *out, emu_thread *thread, const siginfo_t *info)
{
    emu_process *process = thread->process;
    emu_cpu_state state;
    uint8_t told[128];
    thread->ops->save(thread->engine, &state);
    put_status(out, thread, &state, info);
    put_program(out, process, &process->umem);
    memset(told, 0, sizeof told);
    siginfo_to_guest(process->abi, info, told);
    put_note(out, "CORE", SIGINFO, told, sizeof told);
    put_auxv(out, process);
    put_files(out, &process->umem, process->abi->word);
    put_extended(out, process->abi, &state);
}

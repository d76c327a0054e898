#include "elf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { PT_LOAD = 1, PT_INTERP = 3, PT_NOTE = 4, PT_PHDR = 6 };
#define PT_GNU_STACK UINT32_C(0x6474e551)

/* A header table may not be larger: Linux's own limit. */
#define MAX_TABLE 65536

struct parse {
    emu_elf_read_fn read;
    void *opaque;
    uint64_t size;
    emu_elf *out;
    char *text;
    size_t text_size;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct parse *parse, const char *format, ...)
{
    if (parse->text_size > 0) {
        va_list args;
        va_start(args, format);
        vsnprintf(parse->text, parse->text_size, format, args);
        va_end(args);
    }
    return -ENOEXEC;
}

static int fetch(struct parse *parse, uint64_t offset, void *out, size_t size)
{
    if (offset > parse->size || size > parse->size - offset)
        return refuse(parse, "truncated: %zu bytes are wanted at %#" PRIx64 ", the file has %" PRIu64, size,
                      offset, parse->size);
    return parse->read(parse->opaque, offset, out, size);
}

/* A number of `width` bytes in the file's byte order. */
static uint64_t number(const emu_elf *elf, const uint8_t *at, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value |= (uint64_t)at[elf->data == EMU_ELF_BIG ? width - 1 - i : i] << (8 * i);
    return value;
}

struct program_header {
    uint32_t type;
    uint32_t flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

static struct program_header program_header(const emu_elf *elf, const uint8_t *at)
{
    struct program_header ph = {.type = (uint32_t)number(elf, at, 4)};
    if (elf->elf_class == EMU_ELF_64) {
        ph.flags = (uint32_t)number(elf, at + 4, 4);
        ph.offset = number(elf, at + 8, 8);
        ph.vaddr = number(elf, at + 16, 8);
        ph.paddr = number(elf, at + 24, 8);
        ph.filesz = number(elf, at + 32, 8);
        ph.memsz = number(elf, at + 40, 8);
        ph.align = number(elf, at + 48, 8);
    } else {
        ph.offset = number(elf, at + 4, 4);
        ph.vaddr = number(elf, at + 8, 4);
        ph.paddr = number(elf, at + 12, 4);
        ph.filesz = number(elf, at + 16, 4);
        ph.memsz = number(elf, at + 20, 4);
        ph.flags = (uint32_t)number(elf, at + 24, 4);
        ph.align = number(elf, at + 28, 4);
    }
    return ph;
}

static int take_load(struct parse *parse, unsigned index, const struct program_header *ph)
{
    emu_elf *elf = parse->out;
    if (ph->memsz < ph->filesz)
        return refuse(parse, "segment %u is smaller in memory (%#" PRIx64 ") than in the file (%#" PRIx64 ")", index,
                      ph->memsz, ph->filesz);
    if (ph->memsz == 0)
        return 0;
    if (ph->offset > parse->size || ph->filesz > parse->size - ph->offset)
        return refuse(parse, "segment %u lies outside the file: %#" PRIx64 " bytes at %#" PRIx64, index, ph->filesz,
                      ph->offset);
    uint64_t last = elf->elf_class == EMU_ELF_64 ? UINT64_MAX : UINT32_MAX;
    if (ph->memsz - 1 > last - ph->vaddr || ph->memsz - 1 > last - ph->paddr)
        return refuse(parse, "segment %u does not fit the address space: %#" PRIx64 " bytes at %#" PRIx64, index,
                      ph->memsz, ph->vaddr);
    if ((ph->align & (ph->align - 1)) != 0)
        return refuse(parse, "segment %u has the alignment %#" PRIx64 ", which is no power of two", index, ph->align);
    if (elf->loads == EMU_ELF_MAX_LOADS)
        return refuse(parse, "more than %u segments to load", EMU_ELF_MAX_LOADS);
    uint32_t at = elf->loads;
    while (at > 0 && elf->load[at - 1].vaddr > ph->vaddr) {
        elf->load[at] = elf->load[at - 1];
        at--;
    }
    elf->load[at] = (emu_elf_load){.offset = ph->offset,
                                   .vaddr = ph->vaddr,
                                   .paddr = ph->paddr,
                                   .filesz = ph->filesz,
                                   .memsz = ph->memsz,
                                   .align = ph->align == 0 ? 1 : ph->align,
                                   .flags = ph->flags & 7};
    elf->loads++;
    return 0;
}

static int take_interp(struct parse *parse, const struct program_header *ph)
{
    emu_elf *elf = parse->out;
    if (elf->interp_size != 0)
        return refuse(parse, "two program interpreters");
    if (ph->filesz < 2 || ph->filesz > EMU_ELF_MAX_INTERP)
        return refuse(parse, "the program interpreter's name has %" PRIu64 " bytes", ph->filesz);
    int error = fetch(parse, ph->offset, elf->interp, (size_t)ph->filesz);
    if (error != 0)
        return error;
    if (elf->interp[ph->filesz - 1] != 0)
        return refuse(parse, "the program interpreter's name does not end");
    elf->interp_size = (uint32_t)ph->filesz;
    return 0;
}

/* Whoever runs the program may do without its notes: those that lie outside the file are passed over. */
static void take_notes(struct parse *parse, const struct program_header *ph)
{
    emu_elf *elf = parse->out;
    if (elf->notes == EMU_ELF_MAX_NOTES || ph->offset > parse->size || ph->filesz > parse->size - ph->offset)
        return;
    elf->note[elf->notes++] = (emu_elf_notes){.offset = ph->offset, .size = ph->filesz, .align = ph->align};
}

static int take_headers(struct parse *parse)
{
    emu_elf *elf = parse->out;
    uint64_t phdr = 0;
    bool has_phdr = false;
    for (unsigned i = 0; i < elf->phnum; i++) {
        uint8_t raw[56];
        int error = fetch(parse, elf->phoff + (uint64_t)i * elf->phentsize, raw, elf->phentsize);
        if (error != 0)
            return error;
        struct program_header ph = program_header(elf, raw);
        switch (ph.type) {
        case PT_LOAD:
            error = take_load(parse, i, &ph);
            break;
        case PT_INTERP:
            error = take_interp(parse, &ph);
            break;
        case PT_NOTE:
            take_notes(parse, &ph);
            break;
        case PT_PHDR:
            phdr = ph.vaddr;
            has_phdr = true;
            break;
        case PT_GNU_STACK:
            elf->exec_stack = ph.flags & EMU_ELF_X ? 1 : 0;
            break;
        default:
            break;
        }
        if (error != 0)
            return error;
    }
    if (elf->loads == 0)
        return refuse(parse, "nothing to load");
    for (uint32_t i = 0; i < elf->loads; i++) {
        const emu_elf_load *load = &elf->load[i];
        if (i > 0 && load->vaddr - elf->load[i - 1].vaddr < elf->load[i - 1].memsz)
            return refuse(parse, "segments overlap at %#" PRIx64, load->vaddr);
        if ((load->flags & EMU_ELF_X) && elf->entry - load->vaddr < load->memsz)
            elf->entry_inside = 1;
        if (elf->phoff >= load->offset && elf->phoff - load->offset < load->filesz)
            elf->phdr_vaddr = load->vaddr + (elf->phoff - load->offset);
    }
    if (elf->phdr_vaddr == 0 && has_phdr)
        elf->phdr_vaddr = phdr;
    elf->low = elf->load[0].vaddr;
    /* 0 where the last byte is the address space's last. */
    elf->high = elf->load[elf->loads - 1].vaddr + elf->load[elf->loads - 1].memsz;
    return 0;
}

int emu_elf_parse(emu_elf_read_fn read, void *opaque, uint64_t file_size, emu_elf *out, char *text,
                  size_t text_size)
{
    struct parse parse = {read, opaque, file_size, out, text, text_size};
    memset(out, 0, sizeof *out);
    out->exec_stack = 2;
    uint8_t head[64];
    if (file_size < 52)
        return refuse(&parse, "not an ELF file: %" PRIu64 " bytes are too few for its header", file_size);
    int error = fetch(&parse, 0, head, 52);
    if (error != 0)
        return error;
    if (memcmp(head, "\177ELF", 4) != 0)
        return refuse(&parse, "not an ELF file");
    out->elf_class = head[4];
    out->data = head[5];
    if (out->elf_class != EMU_ELF_32 && out->elf_class != EMU_ELF_64)
        return refuse(&parse, "the ELF class is %u, not 1 (32-bit) or 2 (64-bit)", head[4]);
    if (out->data != EMU_ELF_LITTLE && out->data != EMU_ELF_BIG)
        return refuse(&parse, "the byte order is %u, not 1 (little) or 2 (big)", head[5]);
    if (head[6] != 1)
        return refuse(&parse, "the ELF version is %u, not 1", head[6]);
    bool wide = out->elf_class == EMU_ELF_64;
    if (wide) {
        error = fetch(&parse, 0, head, 64);
        if (error != 0)
            return error;
    }
    out->type = (uint16_t)number(out, head + 16, 2);
    out->machine = (uint16_t)number(out, head + 18, 2);
    out->entry = number(out, head + 24, wide ? 8 : 4);
    out->phoff = number(out, head + (wide ? 32 : 28), wide ? 8 : 4);
    out->flags = (uint32_t)number(out, head + (wide ? 48 : 36), 4);
    out->phentsize = (uint32_t)number(out, head + (wide ? 54 : 42), 2);
    out->phnum = (uint16_t)number(out, head + (wide ? 56 : 44), 2);
    if (out->type != EMU_ELF_EXEC && out->type != EMU_ELF_DYN)
        return refuse(&parse, "the ELF type is %u: not a program", out->type);
    if (out->phnum == 0)
        return refuse(&parse, "no program headers");
    if (out->phentsize != (wide ? 56u : 32u))
        return refuse(&parse, "program headers of %u bytes, not %u", out->phentsize, wide ? 56u : 32u);
    uint64_t table = (uint64_t)out->phnum * out->phentsize;
    if (table > MAX_TABLE)
        return refuse(&parse, "%u program headers are too many", out->phnum);
    if (out->phoff > file_size || table > file_size - out->phoff)
        return refuse(&parse, "the program headers lie outside the file: %" PRIu64 " bytes at %#" PRIx64, table,
                      out->phoff);
    return take_headers(&parse);
}

struct memory {
    const uint8_t *bytes;
};

static int read_memory(void *opaque, uint64_t offset, void *out, size_t size)
{
    const struct memory *memory = opaque;
    memcpy(out, memory->bytes + offset, size);
    return 0;
}

int emu_elf_parse_bytes(const void *bytes, size_t size, emu_elf *out, char *text, size_t text_size)
{
    struct memory memory = {bytes};
    return emu_elf_parse(read_memory, &memory, size, out, text, text_size);
}

/*
 * Where the ABIs differ in the kernel's structures and flags (abi_*.c).
 * Sources: arch/<isa>/include/uapi/asm/{stat,fcntl}.h of Linux 6.1.
 */
#ifndef EMU_ABI_H
#define EMU_ABI_H

#include <sys/stat.h>
#include <sys/statfs.h>

#include "runtime.h"

enum { STAT_ROOM = 144, STATFS_ROOM = 120 }; /* the largest of each */

typedef struct abi_layout {
    /* struct stat at `to`: its size, or -EOVERFLOW. */
    int (*stat)(uint8_t *to, const struct stat *st);
    /* struct stat64, on 32-bit ABIs. */
    int (*stat64)(uint8_t *to, const struct stat *st);
    /* open(2)'s flags that are not the same bits everywhere. */
    uint32_t o_directory, o_nofollow, o_direct, o_largefile;
    /* struct epoll_event: bytes, and where its data is. */
    uint8_t epoll_size, epoll_data;
} abi_layout;

extern const abi_layout layout_aarch64, layout_arm, layout_riscv64, layout_x86_64;

static inline const abi_layout *layout_of(const emu_abi *abi)
{
    return abi->isa == EMU_ISA_AARCH64 ? &layout_aarch64
           : abi->isa == EMU_ISA_ARM   ? &layout_arm
           : abi->isa == EMU_ISA_RISCV64 ? &layout_riscv64
                                         : &layout_x86_64;
}

/* asm-generic's struct stat for 64-bit ABIs: 128 bytes. */
int abi_stat_generic(uint8_t *to, const struct stat *st);

uint32_t abi_open_flags_to_host(const emu_abi *abi, uint32_t guest);
uint32_t abi_open_flags_to_guest(const emu_abi *abi, uint32_t host);

#endif

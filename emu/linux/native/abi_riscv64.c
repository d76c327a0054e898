/* RISC-V: asm-generic throughout. */
#include "abi.h"

const abi_layout layout_riscv64 = {
    .stat = abi_stat_generic,
    .stat64 = abi_stat_generic,
    .o_directory = 0200000,
    .o_nofollow = 0400000,
    .o_direct = 040000,
    .o_largefile = 0100000,
    .epoll_size = 16,
    .epoll_data = 8,
};

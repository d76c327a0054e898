/* AArch64: asm-generic's structures, arm's open flags. */
#include "abi.h"

const abi_layout layout_aarch64 = {
    .stat = abi_stat_generic,
    .stat64 = abi_stat_generic,
    .o_directory = 040000,
    .o_nofollow = 0100000,
    .o_direct = 0200000,
    .o_largefile = 0400000,
    .epoll_size = 16,
    .epoll_data = 8,
};

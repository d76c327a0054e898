/* Unicorn's functions, bound at run time; internal to the uc_*.c files. */
#ifndef EMU_UC_LIBRARY_H
#define EMU_UC_LIBRARY_H

#include <unicorn/unicorn.h>

#define UC_FUNCTIONS(X)                                                                                       \
    X(uc_version) X(uc_open) X(uc_close) X(uc_query) X(uc_errno) X(uc_strerror) X(uc_ctl)                      \
    X(uc_reg_read) X(uc_reg_write) X(uc_reg_read_batch) X(uc_reg_write_batch)                                  \
    X(uc_mem_map) X(uc_mem_map_ptr) X(uc_mem_unmap) X(uc_mem_protect) X(uc_mem_read) X(uc_mem_write)           \
    X(uc_vmem_read) X(uc_vmem_translate)                                                                                           \
    X(uc_mmio_map) X(uc_hook_add) X(uc_hook_del) X(uc_emu_start) X(uc_emu_stop)                                \
    X(uc_context_alloc) X(uc_context_save) X(uc_context_restore) X(uc_context_free)

struct uc_functions {
#define X(name) __typeof__(&name) name;
    UC_FUNCTIONS(X)
#undef X
    void *handle; /* of dlopen: for exported symbols that the headers do not declare */
};

extern struct uc_functions uc_lib;

#ifndef UC_LIBRARY_NAMES_ONLY
/*
 * The headers' uc_ctl_* macros call uc_ctl; these make them, and everything
 * else, go through the table: include this header and write uc_open(...) as usual.
 */
#define uc_version uc_lib.uc_version
#define uc_open uc_lib.uc_open
#define uc_close uc_lib.uc_close
#define uc_query uc_lib.uc_query
#define uc_errno uc_lib.uc_errno
#define uc_strerror uc_lib.uc_strerror
#define uc_ctl uc_lib.uc_ctl
#define uc_reg_read uc_lib.uc_reg_read
#define uc_reg_write uc_lib.uc_reg_write
#define uc_reg_read_batch uc_lib.uc_reg_read_batch
#define uc_reg_write_batch uc_lib.uc_reg_write_batch
#define uc_mem_map uc_lib.uc_mem_map
#define uc_mem_map_ptr uc_lib.uc_mem_map_ptr
#define uc_mem_unmap uc_lib.uc_mem_unmap
#define uc_mem_protect uc_lib.uc_mem_protect
#define uc_mem_read uc_lib.uc_mem_read
#define uc_mem_write uc_lib.uc_mem_write
#define uc_vmem_read uc_lib.uc_vmem_read
#define uc_vmem_translate uc_lib.uc_vmem_translate
#define uc_mmio_map uc_lib.uc_mmio_map
#define uc_hook_add uc_lib.uc_hook_add
#define uc_hook_del uc_lib.uc_hook_del
#define uc_emu_start uc_lib.uc_emu_start
#define uc_emu_stop uc_lib.uc_emu_stop
#define uc_context_alloc uc_lib.uc_context_alloc
#define uc_context_save uc_lib.uc_context_save
#define uc_context_restore uc_lib.uc_context_restore
#define uc_context_free uc_lib.uc_context_free
#endif

#endif

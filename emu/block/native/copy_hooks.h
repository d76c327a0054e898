/* What block.c tells a copy that is attached to an image (copy.h). */
#ifndef EMU_BLOCK_COPY_HOOKS_H
#define EMU_BLOCK_COPY_HOOKS_H

#include "copy.h"

/* The block is about to be written to, or was: it may be the source or the target. */
void emu_copy_before_write(emu_copy *copy, const emu_block *block, uint64_t offset, uint64_t length);
void emu_copy_after_write(emu_copy *copy, const emu_block *block, uint64_t offset, uint64_t length);
/* One of its images is about to be closed. */
void emu_copy_closes(emu_copy *copy);

#endif

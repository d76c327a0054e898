/*
 * An image is copied into another while its guest goes on: QMP's backup and mirror.
 *
 * POINT copies what the image was when it began: before a part that is not copied yet is written to, it is.
 * MIRROR copies what the image is: parts that are written to are copied again, until somebody ends it.
 *
 * A copy is attached to both images, and a thread of its own copies; closing either image ends it.  Attaching, ending
 * and closing are for who holds the device that writes to the source: no request is under way then.
 */
#ifndef EMU_BLOCK_COPY_H
#define EMU_BLOCK_COPY_H

#include "block.h"

enum { EMU_COPY_POINT, EMU_COPY_MIRROR };

typedef struct emu_copy emu_copy;

/* In bytes.  ended: the thread copies no more, all done or failed. */
typedef struct emu_copy_state {
    uint64_t total, left;
    int32_t error; /* a negative errno, or 0 */
    uint32_t ended, ready;
} emu_copy_state;

/* Attaches and begins.  NULL: no memory; or one of the images has a copy already, or they differ in size. */
emu_copy *emu_copy_start(emu_block *source, emu_block *target, uint32_t how);
void emu_copy_look(emu_copy *copy, emu_copy_state *out);
/* Bytes a second, 0: as fast as it goes.  paused: nothing but what a guest's write wants is copied. */
void emu_copy_pace(emu_copy *copy, uint64_t speed, uint32_t paused);
/* Ends it.  complete: what is left is copied first, and flushed.  0 or a negative errno. */
int emu_copy_end(emu_copy *copy, uint32_t complete);
/* After its end, or as that. */
void emu_copy_free(emu_copy *copy);

#endif

/*
 * A file server that speaks 9P2000.L, for one folder of the host's.
 *
 * The client is hostile.  Names are single components; every look-up is one
 * step from a descriptor that was found before, and follows no link, so nothing
 * outside the folder is reached, whatever is renamed meanwhile.  Only regular
 * files and folders are opened; set-user-ID bits are dropped.
 */
#ifndef EMU_P9_H
#define EMU_P9_H

#include <stdint.h>
#include <sys/uio.h>

typedef struct emu_p9 emu_p9;

/* Serves the folder that `root` is open on; the descriptor becomes the server's.  NULL: no memory. */
emu_p9 *emu_p9_new(int root, int read_only);
void emu_p9_free(emu_p9 *server);
/* Forgets all that the client holds. */
void emu_p9_reset(emu_p9 *server);

/*
 * Answers the request in `out` into `in`; both are consumed.  The answer is how
 * many bytes were written, 0 where the request is too broken for an answer.
 */
uint64_t emu_p9_serve(emu_p9 *server, struct iovec *out, int out_count, struct iovec *in, int in_count);

#endif

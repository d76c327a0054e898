/* Replacing functions of libunicorn for itself. */
#ifndef EMU_UC_PATCH_H
#define EMU_UC_PATCH_H

#include <stdint.h>

/*
 * Directs the library's calls of `name` to `with`.  Returns the function that
 * was called before, or NULL when the library does not call it that way.
 * It holds for the whole process, so `with` must do what the original does
 * for engines that are not its own.
 */
void *emu_uc_replace(void *handle, const char *name, void *with);

/*
 * Makes the function at `code` itself a jump to `with`: for those that the library
 * knows by their address too.  0, or -1 where the host does not let code be
 * written.  Nothing may be executing it.
 */
int emu_uc_redirect(void *code, void *with);

#endif

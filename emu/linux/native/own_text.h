/* The text of a file of /proc that is made here (own_text.c). */
#ifndef EMU_OWN_TEXT_H
#define EMU_OWN_TEXT_H

#include <stdio.h>

#include "path.h"

/* path: what emu_own_find has made of it. */
void emu_own_text(emu_thread *thread, const emu_path *path, FILE *out);

#endif

/* How this module finds the core. */
#ifndef EMU_CORE_LINK_H
#define EMU_CORE_LINK_H

/* Once, before any device is made: what emu_core_table() of the core gave. */
void emu_core_link(const void *table);

#endif

/* Addresses of sockets: those of unix sockets are paths (unix(7)). */
#ifndef EMU_ADDRESS_H
#define EMU_ADDRESS_H

#include <sys/socket.h>

#include "path.h"
#include "syscall.h"

enum { ADDRESS_MAX = 128 }; /* sizeof(struct sockaddr_storage), the most that the kernel takes */

/* An address for the host's call; `path` is held until address_done. */
typedef struct address {
    _Alignas(8) uint8_t bytes[ADDRESS_MAX];
    socklen_t size;
    uint32_t id; /* address.c's own */
    emu_path path;
    char name[112]; /* what the guest gave */
} address;

/*
 * The guest's address at addr.  binds: a socket gets it, so the last component
 * need not exist.  0, -EFAULT, -EINVAL, or what the lookup of the path says.
 */
int address_get(emu_thread *thread, uint64_t addr, uint32_t size, bool binds, address *out);
/* After the call; bound: it gave the socket this address. */
void address_done(address *address, bool bound);
/*
 * An address that the host has given, `size` bytes long, to the guest: what fits
 * in `room` bytes at addr; the size it has there at size_at.  0 or -EFAULT.
 */
int address_put(emu_thread *thread, uint64_t addr, uint64_t size_at, int32_t room, void *bytes, socklen_t size);
/* The guest's form of it, in place (ADDRESS_MAX bytes); its size. */
socklen_t address_guest(const emu_thread *thread, void *bytes, socklen_t size);
/* The calls of a confined guest that take or give one: true, with the result. */
bool address_call(emu_thread *thread, long call, const uint64_t *args, int64_t *result);
/* At the start of a confined process. */
void address_start(void);

#endif

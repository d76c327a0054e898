/* The host's ends of network cards as Python holds them: cffi reads this file as it is. */
#ifndef EMU_NET_PYTHON_H
#define EMU_NET_PYTHON_H

#include <stddef.h>
#include <stdint.h>

typedef struct emu_net emu_net;

/* Its descriptors are closed; no card may have it any more. */
void emu_net_free(emu_net *net);

/* ---- frames.c, stream.c: descriptors, theirs from now on -------------------------------- */

/* A frame a read and a write: TAP devices, datagram and packet sockets. */
emu_net *emu_net_frames_new(int fd);
/*
 * Frames with their lengths before them in a stream: QEMU's -netdev socket.  fd: a connection, or -1; listener:
 * where connections come from, one at a time, or -1.
 */
emu_net *emu_net_stream_new(int fd, int listener);

/* ---- slirp.c: user networking by libslirp -------------------------------------------------- */

/* Addresses are in the host's byte order; 0 for those that follow from the network. */
typedef struct emu_net_user_options {
    uint32_t network, mask, host, dhcp_start, dns;
    uint32_t restricted; /* the guest reaches nothing but what is forwarded to it */
    uint32_t no_ipv6;
    const char *hostname; /* or NULL */
} emu_net_user_options;

/* libslirp's version; NULL: it is not there. */
const char *emu_net_user_version(void);
/* NULL: `error` has one line, cause and remedy. */
emu_net *emu_net_user_new(const emu_net_user_options *options, char *error, size_t error_size);
/* Forwards a port of the host's; before a card has it.  0, or -errno. */
int emu_net_user_forward(emu_net *net, int udp, uint32_t host, int host_port, uint32_t guest, int guest_port);

#endif

/* Descriptors that carry a frame at each read and write: TAP devices, datagram and packet sockets. */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Frames taken in one go: others of the device's affairs come between. */
#define BURST 64

struct frames {
    int fd;
    bool gone; /* the other side hung up */
    uint8_t frame[EMU_NET_FRAME];
};

static bool send_frame(emu_net *net, const struct iovec *iov, int count)
{
    struct frames *frames = net->own;
    ssize_t sent;
    do
        sent = writev(frames->fd, iov, count);
    while (sent < 0 && errno == EINTR);
    /* ENOBUFS: the other side of a datagram socket is full.  Anything else is a frame lost, as on a cable. */
    return sent >= 0 || (errno != EAGAIN && errno != ENOBUFS);
}

static int wait_for(emu_net *net, struct pollfd *polls, int room, int *timeout, bool blocked)
{
    struct frames *frames = net->own;
    short events = (short)((net->has_room(net->card) ? POLLIN : 0) | (blocked ? POLLOUT : 0));
    if (frames->gone || room < 1)
        return 0;
    polls[0] = (struct pollfd){.fd = events != 0 ? frames->fd : -1, .events = events};
    return 1;
}

static void ready(emu_net *net, struct pollfd *polls, int count)
{
    struct frames *frames = net->own;
    if (count == 0 || (polls[0].revents & (POLLIN | POLLHUP | POLLERR)) == 0)
        return;
    for (int i = 0; i < BURST && net->has_room(net->card); i++) {
        ssize_t got = read(frames->fd, frames->frame, sizeof frames->frame);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            break;
        if (got <= 0) {
            frames->gone = got == 0 || (polls[0].revents & (POLLHUP | POLLERR)) != 0;
            break;
        }
        net->deliver(net->card, frames->frame, (size_t)got);
    }
}

static void free_own(emu_net *net)
{
    struct frames *frames = net->own;
    close(frames->fd);
    free(frames);
}

static const emu_net_type type = {.send = send_frame, .wait = wait_for, .ready = ready, .free = free_own};

emu_net *emu_net_frames_new(int fd)
{
    struct frames *frames = calloc(1, sizeof *frames);
    emu_net *net = frames != NULL ? emu_net_new(&type, frames) : NULL;
    if (net == NULL) {
        free(frames);
        return NULL;
    }
    frames->fd = fd;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return net;
}

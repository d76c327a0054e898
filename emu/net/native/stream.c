/*
 * Frames in a stream, each with its length before it in 32 bits, high byte
 * first: what QEMU's -netdev socket speaks.
 */
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LENGTH_BYTES 4u

struct stream {
    int fd, listener;
    /* what came and is not a whole frame yet, from `start` on */
    size_t start, have;
    uint8_t in[LENGTH_BYTES + 2 * EMU_NET_FRAME];
    /* what of a frame the socket did not take */
    size_t sent, left;
    uint8_t out[LENGTH_BYTES + EMU_NET_FRAME];
};

static void hang_up(struct stream *stream)
{
    close(stream->fd);
    stream->fd = -1;
    stream->start = stream->have = stream->sent = stream->left = 0;
}

/* Sends what is left of the frame before; false: not all of it yet. */
static bool flush(struct stream *stream)
{
    while (stream->left != 0) {
        ssize_t n = send(stream->fd, stream->out + stream->sent, stream->left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == ENOBUFS))
            return false;
        if (n < 0) {
            hang_up(stream);
            return true;
        }
        stream->sent += (size_t)n;
        stream->left -= (size_t)n;
    }
    return true;
}

static bool send_frame(emu_net *net, const struct iovec *iov, int count)
{
    struct stream *stream = net->own;
    if (stream->fd < 0)
        return true; /* a cable that nobody holds the other end of */
    if (!flush(stream))
        return false;
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > EMU_NET_FRAME - size)
            return true;
        memcpy(stream->out + LENGTH_BYTES + size, iov[i].iov_base, iov[i].iov_len);
        size += iov[i].iov_len;
    }
    uint32_t length = htonl((uint32_t)size);
    memcpy(stream->out, &length, sizeof length);
    stream->sent = 0;
    stream->left = LENGTH_BYTES + size;
    flush(stream); /* what is left goes before the next one */
    return true;
}

static int wait_for(emu_net *net, struct pollfd *polls, int room, int *timeout, bool blocked)
{
    struct stream *stream = net->own;
    if (room < 1)
        return 0;
    if (stream->fd < 0) {
        polls[0] = (struct pollfd){.fd = stream->listener, .events = POLLIN};
        return 1;
    }
    short events = (short)((net->has_room(net->card) ? POLLIN : 0) | (stream->left != 0 ? POLLOUT : 0));
    polls[0] = (struct pollfd){.fd = events != 0 ? stream->fd : -1, .events = events};
    return 1;
}

/* Gives the card whole frames; false: the other side sends nonsense. */
static bool unpack(emu_net *net, struct stream *stream)
{
    while (stream->have >= LENGTH_BYTES && net->has_room(net->card)) {
        uint32_t length;
        memcpy(&length, stream->in + stream->start, sizeof length);
        length = ntohl(length);
        if (length > EMU_NET_FRAME)
            return false;
        if (stream->have < LENGTH_BYTES + length)
            break;
        net->deliver(net->card, stream->in + stream->start + LENGTH_BYTES, length);
        stream->start += LENGTH_BYTES + length;
        stream->have -= LENGTH_BYTES + length;
    }
    memmove(stream->in, stream->in + stream->start, stream->have);
    stream->start = 0;
    return true;
}

static void resume(emu_net *net)
{
    struct stream *stream = net->own;
    if (stream->fd >= 0 && !unpack(net, stream))
        hang_up(stream);
}

static void ready(emu_net *net, struct pollfd *polls, int count)
{
    struct stream *stream = net->own;
    if (count == 0 || polls[0].revents == 0)
        return;
    if (stream->fd < 0) {
        stream->fd = accept4(stream->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        return;
    }
    if (!flush(stream) || stream->fd < 0 || !(polls[0].revents & (POLLIN | POLLHUP | POLLERR)))
        return;
    size_t room = sizeof stream->in - stream->have;
    ssize_t got = room == 0 ? -1 : recv(stream->fd, stream->in + stream->have, room, MSG_DONTWAIT);
    if (got < 0 && (room == 0 || errno == EAGAIN || errno == EINTR))
        got = 0;
    else if (got <= 0) {
        hang_up(stream);
        return;
    }
    stream->have += (size_t)got;
    if (!unpack(net, stream))
        hang_up(stream);
}

static void free_own(emu_net *net)
{
    struct stream *stream = net->own;
    if (stream->fd >= 0)
        close(stream->fd);
    if (stream->listener >= 0)
        close(stream->listener);
    free(stream);
}

static const emu_net_type type = {
    .send = send_frame,
    .resume = resume,
    .wait = wait_for,
    .ready = ready,
    .free = free_own,
};

emu_net *emu_net_stream_new(int fd, int listener)
{
    struct stream *stream = calloc(1, sizeof *stream);
    emu_net *net = stream != NULL ? emu_net_new(&type, stream) : NULL;
    if (net == NULL) {
        free(stream);
        return NULL;
    }
    stream->fd = fd;
    stream->listener = listener;
    if (listener >= 0)
        fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
    return net;
}

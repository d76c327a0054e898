/*
 * User networking: libslirp, a TCP/IP stack that lives in this process and ends
 * the guest's connections in sockets of the host's.  It needs no rights.
 *
 * The library is opened when somebody asks for it.  What is declared here of its
 * interface is what its version 4.0 has (configuration version 1), and every later
 * one takes.  It is not for several threads, and we call it from one at a time:
 * the card's.
 */
#include "net.h"

#include "core.h"
#include "flows.h"
#include "fragments.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libslirp.so.0"
/* Frames that wait for room in the guest, before libslirp's sockets are left alone, and before frames are lost. */
#define WAITING_MANY 256u
#define WAITING_MAX 4096u
#define POLLS 1024

/* ---- libslirp's interface -------------------------------------------------------- */

typedef struct Slirp Slirp;
enum { SLIRP_POLL_IN = 1, SLIRP_POLL_OUT = 2, SLIRP_POLL_PRI = 4, SLIRP_POLL_ERR = 8, SLIRP_POLL_HUP = 16 };

struct slirp_callbacks {
    ssize_t (*send_packet)(const void *data, size_t size, void *opaque);
    void (*guest_error)(const char *message, void *opaque);
    int64_t (*clock_get_ns)(void *opaque);
    void *(*timer_new)(void (*fire)(void *), void *argument, void *opaque);
    void (*timer_free)(void *timer, void *opaque);
    void (*timer_mod)(void *timer, int64_t ms, void *opaque);
    void (*register_poll_fd)(int fd, void *opaque);
    void (*unregister_poll_fd)(int fd, void *opaque);
    void (*notify)(void *opaque);
    void *later[4]; /* of configuration version 4 and up: not ours */
};

struct slirp_config {
    uint32_t version;
    int restricted;
    bool in_enabled;
    struct in_addr vnetwork, vnetmask, vhost;
    bool in6_enabled;
    struct in6_addr vprefix_addr6;
    uint8_t vprefix_len;
    struct in6_addr vhost6;
    const char *vhostname, *tftp_server_name, *tftp_path, *bootfile;
    struct in_addr vdhcp_start, vnameserver;
    struct in6_addr vnameserver6;
    const char **vdnssearch;
    const char *vdomainname;
    size_t if_mtu, if_mru;
    bool disable_host_loopback, enable_emu;
    void *later[8];
};

struct library {
    Slirp *(*create)(const struct slirp_config *config, const struct slirp_callbacks *callbacks, void *opaque);
    void (*cleanup)(Slirp *slirp);
    void (*pollfds_fill)(Slirp *slirp, uint32_t *timeout, int (*add)(int fd, int events, void *opaque), void *opaque);
    void (*pollfds_poll)(Slirp *slirp, int failed, int (*events)(int index, void *opaque), void *opaque);
    void (*input)(Slirp *slirp, const uint8_t *packet, int size);
    int (*add_hostfwd)(Slirp *slirp, int udp, struct in_addr host, int host_port, struct in_addr guest, int guest_port);
};

static bool load(struct library *library, char *error, size_t size)
{
    static const char *const names[] = {"slirp_new",          "slirp_cleanup", "slirp_pollfds_fill",
                                        "slirp_pollfds_poll", "slirp_input",   "slirp_add_hostfwd"};
    void **places[] = {(void **)&library->create,       (void **)&library->cleanup, (void **)&library->pollfds_fill,
                       (void **)&library->pollfds_poll, (void **)&library->input,   (void **)&library->add_hostfwd};
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL); /* stays: it is the process's from now on */
    if (handle == NULL) {
        snprintf(error, size, "user networking needs %s, and it is not there; apt-get install libslirp0", LIBRARY);
        return false;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *found = dlsym(handle, names[i]);
        if (found == NULL) {
            snprintf(error, size, "%s of this host has no %s; install libslirp 4.1 or newer", LIBRARY, names[i]);
            return false;
        }
        memcpy(places[i], &found, sizeof found);
    }
    return true;
}

const char *emu_net_user_version(void)
{
    const char *(*version)(void) = NULL;
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    void *found = handle == NULL ? NULL : dlsym(handle, "slirp_version_string");
    memcpy(&version, &found, sizeof found);
    return version == NULL ? NULL : version();
}

/* ---- the end ------------------------------------------------------------------------ */

struct timer {
    struct timer *next;
    void (*fire)(void *);
    void *argument;
    int64_t due; /* ms; -1: off */
};

struct waiting {
    struct waiting *next;
    size_t size;
    uint8_t frame[];
};

struct user {
    struct library library;
    struct slirp_callbacks callbacks;
    emu_net *net;
    Slirp *slirp;
    struct timer *timers;
    struct waiting *first, **last;
    uint32_t waiting;
    /* while libslirp fills or reads them */
    struct pollfd *polls;
    int count, room;
    uint8_t flat[EMU_NET_FRAME];
    emu_fragments fragments;
    emu_flows flows;
};

static int64_t now_ms(void) { return (int64_t)(emu_now() / 1000000); }

static void to_guest(struct user *user, const uint8_t *frame, size_t size)
{
    emu_flows_note(&user->flows, EMU_FLOW_HOST, frame, size);
    user->net->deliver(user->net->card, frame, size);
}

static void keep(struct user *user, const void *data, size_t size)
{
    struct waiting *one = user->waiting < WAITING_MAX ? malloc(sizeof *one + size) : NULL;
    if (one == NULL)
        return; /* lost; TCP sends it again */
    one->next = NULL;
    one->size = size;
    memcpy(one->frame, data, size);
    *user->last = one;
    user->last = &one->next;
    user->waiting++;
}

static ssize_t from_slirp(const void *data, size_t size, void *opaque)
{
    struct user *user = opaque;
    emu_net *net = user->net;
    if (net->card != NULL && user->first == NULL && net->has_room(net->card))
        to_guest(user, data, size);
    else
        keep(user, data, size);
    return (ssize_t)size;
}

static void drop_first(struct user *user)
{
    struct waiting *one = user->first;
    user->first = one->next;
    if (user->first == NULL)
        user->last = &user->first;
    user->waiting--;
    free(one);
}

static void resume(emu_net *net)
{
    struct user *user = net->own;
    while (user->first != NULL && net->has_room(net->card)) {
        to_guest(user, user->first->frame, user->first->size);
        drop_first(user);
    }
}

static void guest_error(const char *message, void *opaque) {}
static int64_t clock_get_ns(void *opaque) { return (int64_t)emu_now(); }
static void register_poll_fd(int fd, void *opaque) {}
static void unregister_poll_fd(int fd, void *opaque) {}
static void notify(void *opaque) {} /* it is called by the card's thread, which looks again anyway */

static void *timer_new(void (*fire)(void *), void *argument, void *opaque)
{
    struct user *user = opaque;
    struct timer *timer = calloc(1, sizeof *timer);
    if (timer == NULL)
        abort(); /* libslirp takes no NULL */
    *timer = (struct timer){.next = user->timers, .fire = fire, .argument = argument, .due = -1};
    user->timers = timer;
    return timer;
}

static void timer_free(void *which, void *opaque)
{
    struct user *user = opaque;
    for (struct timer **at = &user->timers; *at != NULL; at = &(*at)->next) {
        if (*at == which) {
            *at = (*at)->next;
            break;
        }
    }
    free(which);
}

static void timer_mod(void *which, int64_t ms, void *opaque) { ((struct timer *)which)->due = ms; }

static bool send_frame(emu_net *net, const struct iovec *iov, int count)
{
    struct user *user = net->own;
    const uint8_t *frame = count == 1 ? iov[0].iov_base : user->flat;
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > sizeof user->flat - size)
            return true;
        if (count > 1)
            memcpy(user->flat + size, iov[i].iov_base, iov[i].iov_len);
        size += iov[i].iov_len;
    }
    frame = emu_fragments_join(&user->fragments, frame, &size, emu_now());
    if (frame != NULL) {
        emu_flows_note(&user->flows, EMU_FLOW_GUEST, frame, size);
        user->library.input(user->slirp, frame, (int)size);
    }
    return true;
}

static int add_poll(int fd, int events, void *opaque)
{
    struct user *user = opaque;
    if (user->count == user->room)
        return -1;
    short wanted = 0;
    wanted |= events & SLIRP_POLL_IN ? POLLIN : 0;
    wanted |= events & SLIRP_POLL_OUT ? POLLOUT : 0;
    wanted |= events & SLIRP_POLL_PRI ? POLLPRI : 0;
    user->polls[user->count] = (struct pollfd){.fd = fd, .events = wanted};
    return user->count++;
}

static int wait_for(emu_net *net, struct pollfd *polls, int room, int *timeout, bool blocked)
{
    struct user *user = net->own;
    resume(net); /* what a snapshot's load has left, which no room of the guest's has called for */
    if (user->waiting >= WAITING_MANY) /* until the guest has taken some, nothing is read for it */
        return 0;
    user->polls = polls;
    user->count = 0;
    user->room = room < POLLS ? room : POLLS;
    uint32_t ms = UINT32_MAX;
    user->library.pollfds_fill(user->slirp, &ms, add_poll, user);
    int64_t now = now_ms();
    for (const struct timer *timer = user->timers; timer != NULL; timer = timer->next) {
        if (timer->due >= 0) {
            int64_t left = timer->due > now ? timer->due - now : 0;
            ms = left < ms ? (uint32_t)left : ms;
        }
    }
    if (ms < INT32_MAX && (*timeout < 0 || (int)ms < *timeout))
        *timeout = (int)ms;
    return user->count;
}

static int events_of(int index, void *opaque)
{
    struct user *user = opaque;
    if (index < 0 || index >= user->count)
        return 0;
    short found = user->polls[index].revents;
    return (found & POLLIN ? SLIRP_POLL_IN : 0) | (found & POLLOUT ? SLIRP_POLL_OUT : 0) |
           (found & POLLPRI ? SLIRP_POLL_PRI : 0) | (found & POLLERR ? SLIRP_POLL_ERR : 0) |
           (found & POLLHUP ? SLIRP_POLL_HUP : 0);
}

static void ready(emu_net *net, struct pollfd *polls, int count)
{
    struct user *user = net->own;
    if (user->waiting >= WAITING_MANY)
        return;
    user->polls = polls;
    user->count = count;
    user->library.pollfds_poll(user->slirp, 0, events_of, user);
    int64_t now = now_ms();
    for (struct timer *timer = user->timers, *next; timer != NULL; timer = next) {
        next = timer->next;
        if (timer->due >= 0 && timer->due <= now) {
            timer->due = -1;
            timer->fire(timer->argument);
        }
    }
}

/* ---- snapshots: libslirp's connections stay; the guest is told of those that do not fit it ---- */

static size_t save(emu_net *net, uint8_t *out, size_t room)
{
    struct user *user = net->own;
    emu_flow *all = calloc(EMU_FLOW_SETS * EMU_FLOW_WAYS, sizeof *all);
    if (all == NULL)
        return 0; /* as without any: all will be reset */
    size_t size = emu_flows_save(&user->flows, all) * sizeof *all;
    size = size < room ? size : room / sizeof *all * sizeof *all;
    memcpy(out, all, size);
    free(all);
    return size;
}

static void reset_flow(void *opaque, int to, const uint8_t *frame, size_t size)
{
    struct user *user = opaque;
    if (to == EMU_FLOW_GUEST)
        keep(user, frame, size);
    else
        user->library.input(user->slirp, frame, (int)size);
}

static void load_saved(emu_net *net, const uint8_t *saved, size_t size)
{
    struct user *user = net->own;
    size_t count = size / sizeof(emu_flow);
    emu_flow *all = calloc(count + 1, sizeof *all);
    /* Of what waits for the guest TCP sends again what is still right. */
    while (user->first != NULL)
        drop_first(user);
    memset(&user->fragments, 0, sizeof user->fragments);
    if (all == NULL)
        count = 0;
    else
        memcpy(all, saved, count * sizeof *all);
    emu_flows_load(&user->flows, all, count, reset_flow, user);
    free(all);
}

static void free_own(emu_net *net)
{
    struct user *user = net->own;
    if (user->slirp != NULL)
        user->library.cleanup(user->slirp);
    while (user->first != NULL)
        drop_first(user);
    while (user->timers != NULL)
        timer_free(user->timers, user);
    free(user);
}

static const emu_net_type type = {
    .send = send_frame,
    .resume = resume,
    .wait = wait_for,
    .ready = ready,
    .save = save,
    .load = load_saved,
    .free = free_own,
};

emu_net *emu_net_user_new(const emu_net_user_options *options, char *error, size_t error_size)
{
    struct library library;
    if (!load(&library, error, error_size))
        return NULL;
    struct user *user = calloc(1, sizeof *user);
    emu_net *net = user != NULL ? emu_net_new(&type, user) : NULL;
    if (net == NULL) {
        free(user);
        snprintf(error, error_size, "no memory for user networking; close other programs");
        return NULL;
    }
    user->library = library;
    user->net = net;
    user->last = &user->first;
    user->callbacks = (struct slirp_callbacks){
        .send_packet = from_slirp,
        .guest_error = guest_error,
        .clock_get_ns = clock_get_ns,
        .timer_new = timer_new,
        .timer_free = timer_free,
        .timer_mod = timer_mod,
        .register_poll_fd = register_poll_fd,
        .unregister_poll_fd = unregister_poll_fd,
        .notify = notify,
    };
    net->takes_large = net->trusted = true;
    uint32_t network = options->network;
    struct slirp_config config = {
        .version = 1,
        .restricted = options->restricted != 0,
        .in_enabled = true,
        .vnetwork = {htonl(network)},
        .vnetmask = {htonl(options->mask)},
        .vhost = {htonl(options->host != 0 ? options->host : network | 2)},
        .vdhcp_start = {htonl(options->dhcp_start != 0 ? options->dhcp_start : network | 15)},
        .vnameserver = {htonl(options->dns != 0 ? options->dns : network | 3)},
        .in6_enabled = !options->no_ipv6,
        .vprefix_len = 64,
        .vhostname = options->hostname,
    };
    /* The site-local network that QEMU's guests find as well: fec0::/64, host 2, name server 3. */
    config.vprefix_addr6.s6_addr[0] = 0xfe;
    config.vprefix_addr6.s6_addr[1] = 0xc0;
    config.vhost6 = config.vnameserver6 = config.vprefix_addr6;
    config.vhost6.s6_addr[15] = 2;
    config.vnameserver6.s6_addr[15] = 3;
    user->slirp = library.create(&config, &user->callbacks, user);
    if (user->slirp == NULL) {
        emu_net_free(net);
        snprintf(error, error_size, "libslirp does not take these addresses; leave net= and host= out");
        return NULL;
    }
    return net;
}

int emu_net_user_forward(emu_net *net, int udp, uint32_t host, int host_port, uint32_t guest, int guest_port)
{
    struct user *user = net->own;
    struct in_addr from = {htonl(host)}, to = {htonl(guest)};
    errno = 0;
    if (user->library.add_hostfwd(user->slirp, udp, from, host_port, to, guest_port) == 0)
        return 0;
    return errno != 0 ? -errno : -EADDRINUSE;
}

/* What the host's ends of network cards share. */
#include "net.h"

#include <stdlib.h>

emu_net *emu_net_new(const emu_net_type *type, void *own)
{
    emu_net *net = calloc(1, sizeof *net);
    if (net == NULL)
        return NULL;
    net->type = type;
    net->own = own;
    return net;
}

void emu_net_free(emu_net *net)
{
    if (net == NULL)
        return;
    net->type->free(net);
    free(net);
}

/* irq.c: levels, edges, restore, a controller that answers at once. */
#include "check.h"
#include "core.h"

static int edges, last_level;
static uint32_t last_number;

static void hear(void *opaque, uint32_t number, int level)
{
    (void)opaque;
    edges++;
    last_number = number;
    last_level = level;
}

static void acknowledge(void *opaque, uint32_t number, int level)
{
    hear(NULL, number, level);
    if (level)
        emu_irq_set(opaque, 0);
}

int main(void)
{
    emu_irq *irq = emu_irq_new();
    CHECK(irq != NULL);
    emu_irq_set(irq, 1); /* ends nowhere */
    CHECK_EQUAL(emu_irq_level(irq), 1);
    emu_irq_connect(irq, hear, NULL, 33);
    CHECK_EQUAL(edges, 0);
    emu_irq_set(irq, 0x100); /* any non-zero is one */
    CHECK_EQUAL(edges, 0);
    emu_irq_set(irq, 0);
    CHECK_EQUAL(edges, 1);
    CHECK_EQUAL(last_number, 33);
    CHECK_EQUAL(last_level, 0);
    emu_irq_restore(irq, 4);
    CHECK_EQUAL(edges, 1);
    CHECK_EQUAL(emu_irq_level(irq), 1);
    emu_irq_restore(irq, 0);
    emu_irq_connect(irq, acknowledge, irq, 5);
    emu_irq_set(irq, 1);
    CHECK_EQUAL(edges, 3);
    CHECK_EQUAL(emu_irq_level(irq), 0);
    emu_irq_free(irq);
    emu_irq_free(NULL);
    return 0;
}

/*
 * A bare-metal x86-64 guest for bench_kvm.py: COUNT bytes to the 16550 (KIND 1), or COUNT reads of a sector by
 * virtio-blk over MMIO, one at a time and polled (KIND 2); then it ends the machine by the port F4h.
 * Entered in 64-bit mode with memory mapped one to one; no data of its own but at RINGS.
 */
#include <stdint.h>

#define SLOTS UINT64_C(0xfeb00000)
#define RINGS UINT64_C(0x20000)

static void out(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static volatile uint32_t *word(uint64_t at) { return (volatile uint32_t *)at; }

static void read_sectors(void)
{
    uint64_t device = SLOTS;
    while (*word(device) != 0x74726976 || *word(device + 8) != 2)
        device += 0x200;
    struct {
        uint64_t address;
        uint32_t length;
        uint16_t flags, next;
    } volatile *descriptors = (void *)RINGS;
    volatile uint16_t *available = (void *)(RINGS + 0x1000), *used = (void *)(RINGS + 0x2000);
    volatile uint32_t *request = word(RINGS + 0x3000);
    *word(device + 0x70) = 0;
    *word(device + 0x70) = 3; /* acknowledged, driver */
    *word(device + 0x24) = 1;
    *word(device + 0x20) = 1; /* VERSION_1 */
    *word(device + 0x70) = 11;
    *word(device + 0x30) = 0;
    *word(device + 0x38) = 8;
    for (uint64_t n = 0; n < 3; n++) {
        *word(device + 0x80 + 0x10 * n) = (uint32_t)(RINGS + 0x1000 * n);
        *word(device + 0x84 + 0x10 * n) = 0;
        descriptors[n].address = RINGS + 0x3000 + 0x1000 * n;
        descriptors[n].length = n == 0 ? 16 : n == 1 ? 512 : 1;
        descriptors[n].flags = n == 0 ? 1 : n == 1 ? 3 : 2;
        descriptors[n].next = (uint16_t)(n + 1);
    }
    *word(device + 0x44) = 1;
    *word(device + 0x70) = 15;
    for (uint32_t n = 0; n < 4; n++)
        request[n] = 0; /* read, from sector 0 */
    available[0] = 1; /* no interrupts */
    for (uint32_t n = 0; n < COUNT; n++) {
        available[2 + n % 8] = 0;
        available[1] = (uint16_t)(n + 1);
        *word(device + 0x50) = 0;
        while (used[1] != (uint16_t)(n + 1))
            __asm__ volatile("pause");
    }
}

__attribute__((section(".text.start"))) void _start(void)
{
    if (KIND == 2)
        read_sectors();
    for (uint32_t n = 0; KIND == 1 && n < COUNT; n++)
        out(0x3f8, 'x');
    for (;;)
        out(0xf4, 0);
}

/*
 * A bare-metal guest that checks itself, the same on every board: integers, floating point while a timer
 * interrupts, sleeping until it does.  It prints what it found and switches the machine off.
 *
 * What is below the line is of one ISA and board: the serial line, the timer, its interrupt, the end.
 */
#include <stdint.h>

enum { TICKS = 20, ROUNDS = 20000 };

static volatile unsigned ticks;

static void put(char c);
static void start_timer(void);
static void sleep(void);
static void end(void);

static void text(const char *words)
{
    while (*words)
        put(*words++);
}

static void line(const char *name, uint64_t value)
{
    text(name);
    for (int shift = 60; shift >= 0; shift -= 4)
        put("0123456789abcdef"[value >> shift & 15]);
    put('\n');
}

/* In places that the compiler cannot foresee, so that it computes nothing by itself. */
static volatile uint64_t seed = 20;
static volatile double step = 1.0 / 3;

static uint64_t integers(unsigned rounds)
{
    uint64_t state = seed, sum = 0;
    for (unsigned i = 0; i < rounds; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        sum += (state >> (i & 63)) ^ (state << (i & 7));
    }
    return sum;
}

static uint64_t doubles(unsigned rounds)
{
    double x = 1, y = step, z = 0;
    for (unsigned i = 1; i <= rounds; i++) {
        x = x * 0.999 + y / (double)i;
        y = y + x * 0.001;
        z = z - x * y;
    }
    union {
        double value;
        uint64_t bits;
    } all = {.value = x + y + z};
    return all.bits;
}

void body(void)
{
    line("integers ", integers(ROUNDS));
    line("doubles ", doubles(ROUNDS));
    start_timer();
    /* The interrupts come in between; what they must leave alone is in registers. */
    uint64_t integer = integers(ROUNDS), bits = doubles(ROUNDS);
    unsigned wrong = 0, rounds = 0;
    while (ticks < TICKS / 2) {
        wrong += integers(ROUNDS / 100) == integer || doubles(ROUNDS) != bits;
        rounds++;
    }
    line("wrong ", wrong);
    while (ticks < TICKS)
        sleep();
    line("ticks ", TICKS);
    end();
}

/* ------------------------------------------------------------------------------------------------------------ */

static char stack[16384] __attribute__((aligned(16), used));

#if defined __x86_64__

__asm__(".section .text.start\n"
        ".globl _start\n"
        "_start: lea stack+16384(%rip), %rsp\n"
        "call body\n");

static void out(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }

static void put(char c) { out(0x3f8, (uint8_t)c); }

__attribute__((interrupt, target("general-regs-only"))) static void tick(void *frame)
{
    (void)frame;
    ticks++;
    out(0x20, 0x20);
}

static struct {
    uint16_t low, selector;
    uint8_t stack, type;
    uint16_t middle;
    uint32_t high, zero;
} gates[0x21];

static void start_timer(void)
{
    uint64_t at = (uintptr_t)tick;
    gates[0x20].low = (uint16_t)at;
    gates[0x20].selector = 8;
    gates[0x20].type = 0x8e;
    gates[0x20].middle = (uint16_t)(at >> 16);
    gates[0x20].high = (uint32_t)(at >> 32);
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } idt = {sizeof gates - 1, (uintptr_t)gates};
    __asm__ volatile("lidt %0" ::"m"(idt));
    static const uint8_t pic[][2] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1}, {0x21, 0xfe}};
    for (unsigned i = 0; i < 5; i++)
        out(pic[i][0], pic[i][1]);
    out(0x43, 0x34); /* 10 ms */
    out(0x40, 11932 & 0xff);
    out(0x40, 11932 >> 8);
    __asm__ volatile("sti");
}

static void sleep(void) { __asm__ volatile("hlt"); }

/* ACPI's S5, at the board's PM1 control register. */
static void end(void)
{
    __asm__ volatile("outw %0, %1" ::"a"((uint16_t)(5 << 10 | 1 << 13)), "Nd"((uint16_t)0x604));
    for (;;)
        __asm__ volatile("cli; hlt");
}

#else

static void store(uintptr_t at, uint32_t value) { *(volatile uint32_t *)at = value; }

#if defined __riscv

__asm__(".section .text.start\n"
        ".globl _start\n"
        "_start: la sp, stack+16384\n"
        "li t0, 0x2000\n"
        "csrs mstatus, t0\n"
        "call body\n");

static void put(char c) { *(volatile uint8_t *)0x10000000 = (uint8_t)c; }

static void again(void)
{
    *(volatile uint64_t *)0x02004000 = *(volatile uint64_t *)0x0200bff8 + 100000; /* 10 ms */
}

__attribute__((interrupt, aligned(4))) static void tick(void)
{
    ticks++;
    again();
}

static void start_timer(void)
{
    again();
    __asm__ volatile("csrw mtvec, %0; csrs mie, %1; csrs mstatus, %2" ::"r"(tick), "r"(0x80), "r"(8));
}

static void sleep(void) { __asm__ volatile("wfi"); }

static void end(void)
{
    store(0x100000, 0x5555);
    for (;;)
        sleep();
}

#else

enum { GICD = 0x08000000, GICC = 0x08010000, VIRTUAL_TIMER = 27 };

static void put(char c) { store(0x09000000, (uint8_t)c); }

#if defined __aarch64__

__asm__(".section .text.start\n"
        ".globl _start\n"
        "_start: ldr x0, =stack+16384\n"
        "mov sp, x0\n"
        "mov x0, #3 << 20\n"
        "msr cpacr_el1, x0\n"
        "isb\n"
        "b body\n"
        ".balign 2048\n"
        "vectors: .skip 0x280\n"
        "stp x0, x1, [sp, #-160]!\n"
        "stp x2, x3, [sp, #16]\n"
        "stp x4, x5, [sp, #32]\n"
        "stp x6, x7, [sp, #48]\n"
        "stp x8, x9, [sp, #64]\n"
        "stp x10, x11, [sp, #80]\n"
        "stp x12, x13, [sp, #96]\n"
        "stp x14, x15, [sp, #112]\n"
        "stp x16, x17, [sp, #128]\n"
        "stp x18, x30, [sp, #144]\n"
        "bl tick\n"
        "ldp x18, x30, [sp, #144]\n"
        "ldp x16, x17, [sp, #128]\n"
        "ldp x14, x15, [sp, #112]\n"
        "ldp x12, x13, [sp, #96]\n"
        "ldp x10, x11, [sp, #80]\n"
        "ldp x8, x9, [sp, #64]\n"
        "ldp x6, x7, [sp, #48]\n"
        "ldp x4, x5, [sp, #32]\n"
        "ldp x2, x3, [sp, #16]\n"
        "ldp x0, x1, [sp], #160\n"
        "eret\n");

static void again(void)
{
    uint64_t hz;
    __asm__ volatile("mrs %0, cntfrq_el0" : "=r"(hz));
    __asm__ volatile("msr cntv_tval_el0, %0; msr cntv_ctl_el0, %1; isb" ::"r"(hz / 100), "r"(1ul));
}

static void allow(void)
{
    __asm__ volatile("ldr x0, =vectors; msr vbar_el1, x0; isb; msr daifclr, #2" ::: "x0");
}

#define CALL "hvc #0"
#define FUNCTION "x0"

#else /* arm */

__asm__(".section .text.start\n"
        ".arm\n"
        ".globl _start\n"
        "_start: ldr sp, =stack+16384\n"
        "mrc p15, 0, r0, c1, c0, 2\n"
        "orr r0, r0, #0xf00000\n"
        "mcr p15, 0, r0, c1, c0, 2\n"
        "isb\n"
        "mov r0, #0x40000000\n"
        "vmsr fpexc, r0\n"
        "bl body\n"
        ".balign 32\n"
        "vectors: .skip 0x18\n"
        "sub lr, lr, #4\n"
        "srsdb sp!, #0x13\n"
        "cps #0x13\n"
        "push {r0-r4, r12, lr}\n"
        "mov r4, sp\n"
        "bic sp, sp, #7\n"
        "bl tick\n"
        "mov sp, r4\n"
        "pop {r0-r4, r12, lr}\n"
        "rfeia sp!\n");

static void again(void)
{
    uint32_t hz;
    __asm__ volatile("mrc p15, 0, %0, c14, c0, 0" : "=r"(hz));
    hz = (uint32_t)(((uint64_t)hz * 42949673u) >> 32); /* a hundredth */
    __asm__ volatile("mcr p15, 0, %0, c14, c3, 0; mcr p15, 0, %1, c14, c3, 1; isb" ::"r"(hz), "r"(1));
}

static void allow(void)
{
    __asm__ volatile("ldr r0, =vectors; mcr p15, 0, r0, c12, c0, 0; isb; cpsie i" ::: "r0");
}

#define CALL ".arch_extension sec; smc #0"
#define FUNCTION "r0"

#endif

__attribute__((used)) void tick(void)
{
    uint32_t number = *(volatile uint32_t *)(GICC + 12);
    if (number == VIRTUAL_TIMER) {
        ticks++;
        again();
    }
    store(GICC + 16, number);
}

static void start_timer(void)
{
    store(GICD, 1);
    store(GICD + 0x100, 1u << VIRTUAL_TIMER);
    store(GICC + 4, 0xff);
    store(GICC, 1);
    again();
    allow();
}

static void sleep(void) { __asm__ volatile("wfi"); }

/* PSCI's SYSTEM_OFF. */
static void end(void)
{
    register unsigned long function __asm__(FUNCTION) = 0x84000008;
    __asm__ volatile(CALL ::"r"(function) : "memory");
    for (;;)
        sleep();
}

#endif
#endif

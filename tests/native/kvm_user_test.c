/*
 * The user-mode engine on KVM with hand-written guest code and an address space
 * of its own: no runtime, no program loader.
 *
 * Exit status 77: this host's KVM cannot be used, and stdout says why.  With an
 * argument: measures, and asserts nothing.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "kvm_user.h"

#define PAGE UINT64_C(4096)
#define SIZE (UINT64_C(1) << 40)
#define CODE UINT64_C(0x400000)
#define STACK_TOP UINT64_C(0x7000010000)
#define DATA UINT64_C(0x10000000)

static const emu_engine_ops *ops;
static uint8_t *base;
static emu_engine *engine;
static emu_stop stop;

/* ---- the guest's address space: a list of areas ------------------------------------ */

static struct area {
    uint64_t start, end;
    uint32_t rights;
} areas[64];
static size_t count;

static uint32_t rights(void *opaque, uint64_t addr)
{
    for (size_t i = count; i-- > 0;) /* the latest wins */
        if (addr >= areas[i].start && addr < areas[i].end)
            return areas[i].rights;
    return 0;
}

static int host_prot(uint32_t want)
{
    return want & EMU_RIGHT_W ? PROT_READ | PROT_WRITE : want != 0 ? PROT_READ : PROT_NONE;
}

static void allow(uint64_t addr, uint64_t size, uint32_t want)
{
    if (engine != NULL)
        ops->before_change(engine, addr, size);
    CHECK(count < sizeof areas / sizeof areas[0]);
    areas[count++] = (struct area){addr, addr + size, want};
    CHECK(mprotect(base + addr, size, host_prot(want)) == 0);
    if (engine != NULL)
        ops->after_change(engine, addr, size);
}

static void begin(const uint8_t *code, size_t size)
{
    char text[200] = "";
    count = 0;
    void *at = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED);
    base = at;
    (void)madvise(base, SIZE, MADV_NOHUGEPAGE); /* one test touches memory far and wide */
    allow(CODE, 16 * PAGE, EMU_RIGHT_R | EMU_RIGHT_W | EMU_RIGHT_X);
    allow(STACK_TOP - 16 * PAGE, 16 * PAGE, EMU_RIGHT_R | EMU_RIGHT_W);
    memcpy(base + CODE, code, size);
    emu_user_memory memory = {.base = base, .size = SIZE, .rights = rights};
    engine = ops->open(EMU_ISA_X86_64, &memory, text, sizeof text);
    if (engine == NULL) {
        printf("%s\n", text);
        exit(77);
    }
    emu_cpu_state state = {.pc = CODE, .fpcr = 0x1f80, .x87 = {0x7f, 0x03}};
    state.r[4] = STACK_TOP;
    ops->load(engine, &state);
}

static void end(void)
{
    ops->close(engine);
    engine = NULL;
    munmap(base, SIZE);
}

static void expect(int kind)
{
    int got = ops->run(engine, &stop);
    if (got == EMU_STOP_ERROR)
        fprintf(stderr, "%s\n", stop.text);
    CHECK_EQUAL(got, stop.kind);
    CHECK_EQUAL(got, kind);
}

static void expect_fault(uint64_t pc, uint64_t addr, uint32_t access)
{
    expect(EMU_STOP_FAULT);
    CHECK_EQUAL(stop.pc, pc);
    CHECK_EQUAL(stop.addr, addr);
    CHECK_EQUAL(stop.access, access);
}

#define BEGIN(name) begin(name, sizeof name - 1)
static const emu_cpu_state *saved(void)
{
    static emu_cpu_state state;
    ops->save(engine, &state);
    return &state;
}

static void go_to(uint64_t pc)
{
    emu_cpu_state state;
    ops->save(engine, &state);
    state.pc = pc;
    ops->load(engine, &state);
}

/* Guest code, assembled with this file: what NAME(text) gives is bytes and nbytes. */
#define GUEST(name, text)                                                                              \
    extern const uint8_t name[], name##_end[];                                                         \
    __asm__(".pushsection .rodata\n.globl " #name "\n.globl " #name "_end\n" #name ":\n.intel_syntax noprefix\n" text \
            "\n.att_syntax prefix\n" #name "_end:\n.popsection\n")
#define START(name) begin(name, (size_t)(name##_end - name))

/* ---- system calls --------------------------------------------------------------------- */

GUEST(g_calls, "mov edi, 1\n mov esi, 2\n mov edx, 3\n mov r10d, 4\n mov r8d, 5\n mov r9d, 6\n"
               "mov rbx, 0x1122334455667788\n"
               "again: mov eax, 39\n syscall\n mov r12, rax\n inc edi\n jmp again");

static void a_system_call_carries_its_arguments_and_brings_the_result_back(void)
{
    START(g_calls);
    for (uint64_t i = 0; i < 5; i++) {
        expect(EMU_STOP_SYSCALL);
        CHECK_EQUAL(stop.nr, 39);
        CHECK_EQUAL(stop.args[0], 1 + i);
        for (uint64_t n = 1; n < 6; n++)
            CHECK_EQUAL(stop.args[n], n + 1);
        CHECK_EQUAL(memcmp(base + stop.pc - 2, "\x0f\x05", 2), 0);
        const emu_cpu_state *state = saved();
        CHECK_EQUAL(state->pc, stop.pc);
        CHECK_EQUAL(state->r[0], 39);
        CHECK_EQUAL(state->r[1], stop.pc); /* RCX, by the manual */
        CHECK_EQUAL(state->r[3], UINT64_C(0x1122334455667788));
        CHECK_EQUAL(state->r[4], STACK_TOP);
        if (i > 0)
            CHECK_EQUAL(state->r[12], 1000 + i - 1);
        ops->result(engine, 1000 + i);
    }
    end();
}

GUEST(g_flags, "stc\n std\n mov eax, 1\n syscall\n pushfq\n pop rbx\n mov rdx, r11\n cld\n mov eax, 2\n syscall");

static void flags_survive_a_system_call(void)
{
    START(g_flags);
    expect(EMU_STOP_SYSCALL);
    CHECK_EQUAL(saved()->flags & 0x401, 0x401);
    ops->result(engine, 0);
    expect(EMU_STOP_SYSCALL);
    CHECK_EQUAL(stop.nr, 2);
    CHECK_EQUAL(saved()->r[3] & 0x401, 0x401); /* CF, DF */
    CHECK_EQUAL(saved()->r[3] & 0x200, 0x200); /* IF, as programs see it under Linux */
    CHECK_EQUAL(saved()->r[2] & 0x401, 0x401); /* R11 */
    end();
}

static void a_system_call_can_be_made_again_by_moving_pc_back(void)
{
    START(g_calls);
    expect(EMU_STOP_SYSCALL);
    uint64_t pc = stop.pc;
    go_to(pc - 2);
    expect(EMU_STOP_SYSCALL);
    CHECK_EQUAL(stop.pc, pc);
    CHECK_EQUAL(stop.nr, 39);
    CHECK_EQUAL(stop.args[0], 1);
    end();
}

GUEST(g_selectors, "mov ebx, cs\n mov ecx, ss\n mov edx, ds\n mov esi, fs\n ud2");

static void selectors_are_linuxs(void)
{
    START(g_selectors);
    expect(EMU_STOP_ILLEGAL);
    CHECK_EQUAL(saved()->r[3], 0x33);
    CHECK_EQUAL(saved()->r[1], 0x2b);
    CHECK_EQUAL(saved()->r[2], 0);
    CHECK_EQUAL(saved()->r[6], 0);
    end();
}

/* ---- exceptions ------------------------------------------------------------------------- */

GUEST(g_ud, "mov eax, 7\n ud2");
GUEST(g_break, "nop\n int3\n nop\n mov eax, 5\n syscall");
GUEST(g_divide, "xor ecx, ecx\n mov eax, 1\n cdq\n div ecx");
GUEST(g_general, "mov rax, 0x8000000000000000\n mov [rax], eax");
GUEST(g_hlt, "hlt");
GUEST(g_port, "mov dx, 0x3f8\n out dx, al");
GUEST(g_int80, "int 0x80");
GUEST(g_overflow, "int 4");
GUEST(g_align, "pushfq\n or dword ptr [rsp], 0x40000\n popfq\n mov eax, [rsp - 63]");
GUEST(g_simd, "mov dword ptr [rsp - 8], 0x1f00\n ldmxcsr [rsp - 8]\n xorps xmm0, xmm0\n divss xmm0, xmm0");
GUEST(g_x87, "mov word ptr [rsp - 8], 0x037b\n fldcw [rsp - 8]\n fld1\n fldz\n fdivp st(1), st\n fwait");
GUEST(g_trap, "pushfq\n or dword ptr [rsp], 0x100\n popfq\n nop\n nop");

GUEST(g_step, "pushfq\n or dword ptr [rsp], 0x100\n popfq\n mov eax, 60\n syscall\n nop\n nop\n"
              "pushfq\n and dword ptr [rsp], ~0x100\n popfq\n mov eax, 61\n syscall");

static void single_steps_and_system_calls_do_not_disturb_each_other(void)
{
    START(g_step);
    int calls = 0, steps = 0;
    while (calls < 2) {
        int kind = ops->run(engine, &stop);
        CHECK(stop.pc > CODE && stop.pc < CODE + 64);
        CHECK_EQUAL(saved()->pc, stop.pc);
        if (kind == EMU_STOP_BREAK) {
            steps++;
            continue;
        }
        CHECK_EQUAL(kind, EMU_STOP_SYSCALL);
        CHECK_EQUAL(stop.nr, 60 + calls);
        calls++;
        ops->result(engine, 0);
    }
    CHECK(steps >= 4);
    end();
}

static void exceptions_become_stops(void)
{
    START(g_ud);
    expect(EMU_STOP_ILLEGAL);
    CHECK_EQUAL(stop.pc, CODE + 5);
    CHECK_EQUAL(saved()->pc, CODE + 5);
    CHECK_EQUAL(saved()->r[0], 7);
    CHECK_EQUAL(saved()->r[4], STACK_TOP);
    end();

    START(g_break);
    expect(EMU_STOP_BREAK);
    CHECK_EQUAL(stop.pc, CODE + 1);
    CHECK_EQUAL(saved()->pc, CODE + 2); /* as the CPU and so Linux's signal frame have it */
    expect(EMU_STOP_SYSCALL);
    CHECK_EQUAL(stop.nr, 5);
    end();

    START(g_divide);
    expect(EMU_STOP_ARITH);
    CHECK_EQUAL(stop.nr, 0);
    CHECK_EQUAL(base[stop.pc], 0xf7);
    end();

    START(g_general); /* an address that is not canonical */
    expect_fault(CODE + 10, 0, 0);
    end();
    START(g_hlt);
    expect_fault(CODE, 0, 0);
    end();
    START(g_port);
    expect_fault(CODE + 4, 0, 0);
    end();
    START(g_int80);
    expect_fault(CODE, 0, 0);
    end();
    START(g_overflow);
    expect(EMU_STOP_FAULT);
    end();

#ifndef CPU_WITHOUT_AC_AND_XM /* QEMU's translated CPU raises neither */
    START(g_align);
    expect(EMU_STOP_ALIGN);
    end();
    START(g_simd);
    expect(EMU_STOP_ARITH);
    CHECK_EQUAL(stop.nr, 19);
    end();
#endif
    START(g_x87);
    expect(EMU_STOP_ARITH);
    CHECK_EQUAL(stop.nr, 16);
    end();
    START(g_trap);
    expect(EMU_STOP_BREAK);
    CHECK_EQUAL(stop.nr, 1);
    end();
}

/* ---- memory ------------------------------------------------------------------------------ */

GUEST(g_store, "mov rdi, 0x10000ffc\n mov eax, 0x12345678\n store: mov [rdi], eax\n mov ebx, [rdi]\n"
               "mov eax, 1\n syscall\n mov [rdi], eax\n mov eax, 2\n syscall");

static void a_store_where_nothing_is_mapped_gives_its_exact_address_and_can_be_mended(void)
{
    START(g_store);
    expect_fault(CODE + 12, DATA + 0xffc, EMU_RIGHT_W);
    CHECK_EQUAL(saved()->pc, CODE + 12);
    allow(DATA, PAGE, EMU_RIGHT_R);
    expect_fault(CODE + 12, DATA + 0xffc, EMU_RIGHT_W);
    allow(DATA, PAGE, EMU_RIGHT_R | EMU_RIGHT_W);
    expect(EMU_STOP_SYSCALL);
    CHECK_EQUAL(saved()->r[3], 0x12345678);
    uint32_t word;
    memcpy(&word, base + DATA + 0xffc, 4);
    CHECK_EQUAL(word, 0x12345678);
    /* and taken away again */
    allow(DATA, PAGE, EMU_RIGHT_R);
    expect_fault(stop.pc, DATA + 0xffc, EMU_RIGHT_W);
    allow(DATA, PAGE, EMU_RIGHT_R | EMU_RIGHT_W);
    expect(EMU_STOP_SYSCALL);
    CHECK_EQUAL(stop.nr, 2);
    end();
}

GUEST(g_cross, "mov rdi, 0x10000ffd\n mov eax, [rdi]\n mov eax, 1\n syscall\n mov eax, [rdi]");

static void an_access_across_pages_faults_at_the_page_that_fails(void)
{
    START(g_cross);
    allow(DATA, PAGE, EMU_RIGHT_R);
    expect_fault(CODE + 7, DATA + PAGE, EMU_RIGHT_R);
    allow(DATA + PAGE, PAGE, EMU_RIGHT_R);
    expect(EMU_STOP_SYSCALL);
    allow(DATA, PAGE, 0);
    expect_fault(stop.pc, DATA + 0xffd, EMU_RIGHT_R);
    end();
}

GUEST(g_jump, "mov rax, 0x10000000\n call rax\n mov eax, 9\n syscall\n mov rax, 0x10000000\n call rax\n"
              "mov eax, 9\n syscall");

static void the_right_to_execute_is_enforced_and_can_be_lost(void)
{
    START(g_jump);
    allow(DATA, PAGE, EMU_RIGHT_R | EMU_RIGHT_W);
    base[DATA] = 0xc3; /* ret */
    expect_fault(DATA, DATA, EMU_RIGHT_X);
    allow(DATA, PAGE, EMU_RIGHT_R | EMU_RIGHT_X);
    expect(EMU_STOP_SYSCALL);
    CHECK_EQUAL(stop.nr, 9);
    allow(DATA, PAGE, EMU_RIGHT_R);
    expect_fault(DATA, DATA, EMU_RIGHT_X);
    end();
}

GUEST(g_self, "lea rdi, [rip + here + 1]\n mov ebx, 3\n again2: mov [rdi], bl\n here: mov eax, 0\n syscall\n"
              "inc ebx\n jmp again2");

static void code_may_change_itself(void)
{
    START(g_self);
    for (uint64_t i = 3; i < 10; i++) {
        expect(EMU_STOP_SYSCALL);
        CHECK_EQUAL(stop.nr, i);
    }
    end();
}

GUEST(g_wild, "jmp rax");
GUEST(g_look, "mov rbx, [rax]\n mov eax, 1\n syscall");
GUEST(g_put, "mov [rax], rbx\n mov eax, 1\n syscall");

static void nothing_of_the_engine_can_be_reached_by_the_guest(void)
{
    static const uint64_t places[] = {0,
                                      SIZE - 8,
                                      SIZE,
                                      UINT64_C(0x00007ffffffff000),
                                      UINT64_C(0xffff800000000000),
                                      UINT64_C(0xffffffff80000000),
                                      UINT64_C(0xffffffffff600000),
                                      UINT64_C(0xffffffffffffeff8)};
    for (unsigned i = 0; i < 24; i++) {
        uint64_t place = i < 16 ? UINT64_C(0xffffffffff000000) + i * PAGE : places[i - 16];
        emu_cpu_state state;

        START(g_look);
        ops->save(engine, &state);
        state.r[0] = place;
        ops->load(engine, &state);
        expect_fault(CODE, place, EMU_RIGHT_R);
        end();

        START(g_put);
        ops->save(engine, &state);
        state.r[0] = place;
        ops->load(engine, &state);
        expect_fault(CODE, place, EMU_RIGHT_W);
        end();

        START(g_wild);
        ops->save(engine, &state);
        state.r[0] = place;
        state.r[1] = UINT64_C(0x123456789abcdef0); /* RCX: a system call's way back */
        ops->load(engine, &state);
        int kind = ops->run(engine, &stop);
        if (kind == EMU_STOP_SYSCALL) /* a page whose only power is to be a system call */
            kind = ops->run(engine, &stop);
        CHECK_EQUAL(kind, EMU_STOP_FAULT);
        end();
    }
    START(g_look);
    go_to(UINT64_C(0x4141414141414141));
    expect_fault(UINT64_C(0x4141414141414141), UINT64_C(0x4141414141414141), EMU_RIGHT_X);
    end();
}

GUEST(g_bytes, "mov rdi, 0x10000000\n mov eax, [rdi]\n mov [rdi + 8], eax\n mov ebx, [rdi + 0x1000]\n mov eax, 1\n syscall");

static void a_file_that_ends_before_its_mapping_is_a_fault_at_the_page_behind_it(void)
{
    START(g_bytes);
    FILE *file = tmpfile();
    CHECK(file != NULL);
    CHECK(ftruncate(fileno(file), PAGE) == 0);
    for (int shared = 0; shared < 2; shared++) {
        go_to(CODE);
        allow(DATA, 4 * PAGE, EMU_RIGHT_R | EMU_RIGHT_W);
        CHECK(mmap(base + DATA, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE),
                   fileno(file), 0) != MAP_FAILED);
        ops->after_change(engine, DATA, 4 * PAGE);
        expect_fault(CODE + 12, DATA + PAGE, EMU_RIGHT_R);
        expect_fault(CODE + 12, DATA + PAGE, EMU_RIGHT_R);
        CHECK(ftruncate(fileno(file), 2 * PAGE) == 0);
        expect(EMU_STOP_SYSCALL);
        CHECK(ftruncate(fileno(file), 0) == 0);
        go_to(CODE);
        expect_fault(CODE + 7, DATA, EMU_RIGHT_R);
        CHECK(ftruncate(fileno(file), PAGE) == 0);
    }
    fclose(file);
    end();
}

GUEST(g_walk, "touch: mov [rdi], rdi\n add rdi, rsi\n dec rbx\n jnz touch\n mov eax, 1\n syscall");

static void walk(uint64_t from, uint64_t step, uint64_t times)
{
    emu_cpu_state state;
    ops->save(engine, &state);
    state.pc = CODE;
    state.r[7] = from;
    state.r[6] = step;
    state.r[3] = times;
    ops->load(engine, &state);
    expect(EMU_STOP_SYSCALL);
    for (uint64_t i = 0; i < times; i++) {
        uint64_t word;
        memcpy(&word, base + from + i * step, 8);
        CHECK_EQUAL(word, from + i * step);
    }
}

static void memory_spread_wider_than_the_tables_and_slots_is_right_all_the_same(void)
{
    emu_kvm_user_facts before, after;
    START(g_walk);
    allow(UINT64_C(1) << 39, UINT64_C(1) << 39, EMU_RIGHT_R | EMU_RIGHT_W);
    walk(UINT64_C(1) << 39, UINT64_C(64) << 20, 4400);        /* more windows than there can be */
    walk((UINT64_C(1) << 39) + 8, UINT64_C(64) << 20, 4400);
    emu_kvm_user_look(&before);
    end();
    START(g_walk);
    allow(UINT64_C(1) << 39, UINT64_C(1) << 36, EMU_RIGHT_R | EMU_RIGHT_W);
    walk(UINT64_C(1) << 39, UINT64_C(2) << 20, 17000); /* more tables than the pool holds */
    end();
    emu_kvm_user_look(&after);
    CHECK(after.resets > before.resets);
}

/* ---- registers ---------------------------------------------------------------------------- */

GUEST(g_all, "mov eax, 1\n syscall\n ud2");

static void registers_come_back_as_they_were_loaded(void)
{
    uint64_t seed = 7;
    START(g_all);
    emu_cpu_state state = {.pc = CODE + 7, .flags = 0x8d5}; /* at the ud2 */
    for (int i = 0; i < 16; i++) {
        state.r[i] = next_random(&seed);
        state.v[i][0] = next_random(&seed);
        state.v[i][1] = next_random(&seed);
    }
    state.tls[0] = UINT64_C(0x12345678000);
    state.tls[1] = UINT64_C(0x23456789000);
    state.fpcr = 0x1fa5;
    state.x87[0] = 0x7f; /* FCW; FTW 0x80: one register in use */
    state.x87[1] = 0x03;
    state.x87[4] = 0x80;
    memcpy(state.x87 + 32, "\0\0\0\0\0\0\0\xa0\x01\x40", 10);
    memcpy(state.x87 + 24, "\xa5\x1f", 2);
    ops->load(engine, &state);
    emu_cpu_state once = *saved();
    expect(EMU_STOP_ILLEGAL);
    emu_cpu_state twice = *saved();
    for (int i = 0; i < 16; i++) {
        CHECK_EQUAL(twice.r[i], state.r[i]);
        CHECK_EQUAL(twice.v[i][0], state.v[i][0]);
        CHECK_EQUAL(twice.v[i][1], state.v[i][1]);
    }
    CHECK_EQUAL(twice.pc, state.pc);
    CHECK_EQUAL(twice.flags & 0xdd5, state.flags);
    CHECK_EQUAL(twice.tls[0], state.tls[0]);
    CHECK_EQUAL(twice.tls[1], state.tls[1]);
    CHECK_EQUAL(twice.fpcr, state.fpcr);
    CHECK_EQUAL(memcmp(twice.x87 + 32, state.x87 + 32, 10), 0);
    CHECK_EQUAL(twice.x87[4], 0x80);
    CHECK_EQUAL(memcmp(once.r, twice.r, sizeof once.r), 0);
    CHECK_EQUAL(memcmp(once.v, twice.v, sizeof once.v), 0);
    CHECK_EQUAL(memcmp(once.x87 + 32, twice.x87 + 32, 128), 0);
    end();
}

GUEST(g_tls, "mov rax, fs:[0]\n mov rbx, gs:[8]\n ud2");

static void thread_pointers_are_segment_bases(void)
{
    START(g_tls);
    allow(DATA, PAGE, EMU_RIGHT_R | EMU_RIGHT_W);
    memcpy(base + DATA, "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0", 24);
    emu_cpu_state state = *saved();
    state.tls[0] = DATA;
    state.tls[1] = DATA + 8;
    ops->load(engine, &state);
    expect(EMU_STOP_ILLEGAL);
    CHECK_EQUAL(saved()->r[0], 1);
    CHECK_EQUAL(saved()->r[3], 3);
    end();
}

GUEST(g_avx, "mov eax, 0x5a5a5a5a\n vmovd xmm1, eax\n vpbroadcastd ymm1, xmm1\n mov eax, 1\n syscall\n"
             "vpaddd ymm2, ymm1, ymm1\n vmovdqu [rsp - 32], ymm2\n mov eax, 2\n syscall");

static void the_upper_halves_of_avx_registers_survive_save_and_load(void)
{
    if (!__builtin_cpu_supports("avx2"))
        return;
    START(g_avx);
    expect(EMU_STOP_SYSCALL);
    go_to(stop.pc);
    expect(EMU_STOP_SYSCALL);
    CHECK_EQUAL(stop.nr, 2);
    for (int i = 0; i < 8; i++) {
        uint32_t word;
        memcpy(&word, base + STACK_TOP - 32 + 4 * i, 4);
        CHECK_EQUAL(word, 0xb4b4b4b4);
    }
    end();
}

GUEST(g_tsc, "rdtsc\n shl rdx, 32\n or rax, rdx\n syscall");

static void the_cycle_counter_is_the_hosts(void)
{
    START(g_tsc);
    uint64_t before = __builtin_ia32_rdtsc();
    expect(EMU_STOP_SYSCALL);
    uint64_t after = __builtin_ia32_rdtsc();
    CHECK(stop.nr >= before && stop.nr <= after);
    end();
}

/* ---- kicks, forks, descriptors ------------------------------------------------------------- */

GUEST(g_spin, "spin: inc rbx\n jmp spin");
GUEST(g_spin_calls, "spin2: inc rbx\n mov eax, 1\n syscall\n jmp spin2");

static void on_alarm(int sig)
{
    ops->kick(engine);
}

static void alarm_every(long usec)
{
    struct itimerval timer = {.it_interval.tv_usec = usec, .it_value.tv_usec = usec};
    if (usec != 0)
        signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &timer, NULL);
    if (usec == 0)
        signal(SIGALRM, SIG_IGN);
}

static void a_kick_before_run_is_not_lost_and_counts_once(void)
{
    START(g_calls);
    ops->kick(engine);
    expect(EMU_STOP_KICK);
    CHECK_EQUAL(stop.pc, CODE);
    expect(EMU_STOP_SYSCALL);
    ops->kick(engine);
    ops->kick(engine);
    uint64_t pc = stop.pc;
    ops->result(engine, 5);
    expect(EMU_STOP_KICK);
    CHECK_EQUAL(stop.pc, pc);
    CHECK_EQUAL(saved()->r[0], 5);
    CHECK_EQUAL(saved()->pc, pc);
    go_to(pc);
    expect(EMU_STOP_SYSCALL);
    CHECK_EQUAL(saved()->r[12], 5);
    end();
}

static void a_signal_stops_a_loop_and_it_goes_on_where_it_was(void)
{
    START(g_spin);
    alarm_every(2000);
    uint64_t before = 0;
    for (int i = 0; i < 20; i++) {
        expect(EMU_STOP_KICK);
        uint64_t now = saved()->r[3];
        CHECK(now >= before);
        CHECK(stop.pc >= CODE && stop.pc < CODE + 5);
        before = now;
        if (i % 2 == 0) {
            emu_cpu_state state = *saved();
            ops->load(engine, &state);
        }
    }
    alarm_every(0);
    CHECK(before > 0);
    end();
}

static void kicks_between_system_calls_and_faults_lose_nothing(void)
{
    START(g_spin_calls);
    alarm_every(150);
    uint64_t calls = 0;
    int kicks = 0;
    while (calls < 5000) {
        int kind = ops->run(engine, &stop);
        if (kind == EMU_STOP_KICK) {
            emu_cpu_state state = *saved();
            CHECK(state.pc >= CODE && state.pc <= CODE + 12);
            CHECK(state.r[3] - calls <= 1);
            if (++kicks % 2 == 0)
                ops->load(engine, &state);
        } else {
            CHECK_EQUAL(kind, EMU_STOP_SYSCALL);
            calls++;
            CHECK_EQUAL(saved()->r[3], calls);
            CHECK_EQUAL(stop.nr, 1);
            ops->result(engine, 77);
        }
    }
    alarm_every(0);
    end();
    START(g_walk);
    alarm_every(150);
    allow(DATA, PAGE * 200000, EMU_RIGHT_R | EMU_RIGHT_W);
    emu_cpu_state state = *saved();
    state.r[7] = DATA;
    state.r[6] = 64 * PAGE;
    state.r[3] = 3000;
    ops->load(engine, &state);
    int kind;
    while ((kind = ops->run(engine, &stop)) == EMU_STOP_KICK) {
        state = *saved();
        CHECK(state.pc >= CODE && state.pc < CODE + 20);
        if (++kicks % 2 == 0)
            ops->load(engine, &state);
    }
    alarm_every(0);
    CHECK_EQUAL(kind, EMU_STOP_SYSCALL);
    for (uint64_t i = 0; i < 3000; i++) {
        uint64_t word;
        memcpy(&word, base + DATA + i * 64 * PAGE, 8);
        CHECK_EQUAL(word, DATA + i * 64 * PAGE);
    }
    CHECK(kicks > 10);
    end();
}

static void two_engines_share_memory(void)
{
    START(g_walk);
    allow(DATA, 16 * PAGE, EMU_RIGHT_R | EMU_RIGHT_W);
    emu_engine *first = engine;
    char text[200];
    emu_user_memory memory = {.base = base, .size = SIZE, .rights = rights};
    emu_engine *second = ops->open(EMU_ISA_X86_64, &memory, text, sizeof text);
    CHECK(second != NULL);
    walk(DATA, PAGE, 16);
    engine = second;
    walk(DATA + 8, PAGE, 16);
    engine = first;
    ops->close(second);
    end();
}

static void a_forked_child_goes_on_with_all_registers_and_memory_of_its_own(void)
{
    START(g_avx);
    bool avx = __builtin_cpu_supports("avx2");
    if (!avx) {
        end();
        START(g_calls);
    }
    expect(EMU_STOP_SYSCALL);
    int before[8], after[8];
    size_t fds = ops->descriptors(engine, before, 8);
    CHECK(fds > 0);
    ops->kick(engine);
    ops->forking(engine);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char text[200] = "";
        CHECK(ops->forked(engine, text, sizeof text) == 0);
        CHECK_EQUAL(ops->descriptors(engine, after, 8), fds);
        CHECK_EQUAL(memcmp(before, after, fds * sizeof *before), 0);
    }
    ops->result(engine, child == 0 ? 0 : 5);
    expect(EMU_STOP_KICK);
    CHECK_EQUAL(saved()->r[0], child == 0 ? 0 : 5);
    expect(EMU_STOP_SYSCALL);
    for (int i = 0; avx && i < 8; i++) {
        uint32_t word;
        memcpy(&word, base + STACK_TOP - 32 + 4 * i, 4);
        CHECK_EQUAL(word, 0xb4b4b4b4);
    }
    memset(base + CODE + 8 * PAGE, child == 0 ? 1 : 2, 1); /* and with a page of its own */
    CHECK_EQUAL(saved()->r[4], STACK_TOP);
    if (child == 0) {
        ops->close(engine);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    end();
}

static void an_xsave_image_brings_all_vectors_back_and_a_bad_one_harms_nobody(void)
{
    uint8_t image[4096];
    START(g_avx);
    if (!__builtin_cpu_supports("avx2")) {
        end();
        return;
    }
    expect(EMU_STOP_SYSCALL);
    CHECK_EQUAL(ops->xsave(engine, image, 100), 0);
    uint32_t size = ops->xsave(engine, image, sizeof image);
    CHECK(size >= 832); /* as far as AVX goes */
    uint64_t pc = stop.pc, seed = 11;
    uint8_t bad[4096];
    for (int i = 0; i < 50; i++) {
        for (size_t n = 0; n < sizeof bad; n += 8) {
            uint64_t word = next_random(&seed);
            memcpy(bad + n, &word, 8);
        }
        ops->xrstor(engine, bad, (uint32_t)next_random(&seed) % 4097);
        go_to(pc);
        expect(EMU_STOP_SYSCALL);
    }
    ops->xrstor(engine, image, size);
    go_to(pc);
    expect(EMU_STOP_SYSCALL);
    uint32_t word;
    memcpy(&word, base + STACK_TOP - 4, 4);
    CHECK_EQUAL(word, 0xb4b4b4b4);
    end();
}

/* ---- measurements ----------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void measure(void)
{
    double start = now();
    START(g_calls);
    printf("open and load      %8.1f us\n", now() - start);
    start = now();
    end();
    printf("close              %8.1f us\n", now() - start);
    start = now();
    START(g_calls);
    printf("open and load      %8.1f us (the second engine)\n", now() - start);
    start = now();
    expect(EMU_STOP_SYSCALL);
    printf("first system call  %8.1f us\n", now() - start);
    start = now();
    for (int i = 0; i < 5000; i++) {
        ops->result(engine, 1);
        expect(EMU_STOP_SYSCALL);
    }
    printf("system call        %8.2f us\n", (now() - start) / 5000);
    start = now();
    for (int i = 0; i < 1000; i++)
        (void)saved();
    printf("save               %8.2f us\n", (now() - start) / 1000);
    emu_cpu_state state = *saved();
    start = now();
    for (int i = 0; i < 1000; i++) {
        ops->load(engine, &state);
        expect(EMU_STOP_SYSCALL);
    }
    printf("load and call      %8.2f us\n", (now() - start) / 1000);
    end();
    START(g_walk);
    allow(DATA, PAGE * 400000, EMU_RIGHT_R | EMU_RIGHT_W);
    start = now();
    walk(DATA, PAGE * 64, 1000);
    printf("fault and fill     %8.2f us (with the host's fault)\n", (now() - start) / 1000);
    start = now();
    walk(DATA + PAGE * 100000, PAGE, 20000);
    printf("touch a page       %8.2f us (in order, with the host's fault)\n", (now() - start) / 20000);
    volatile uint8_t *fresh = mmap(NULL, 20000 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    start = now();
    for (int i = 0; i < 20000; i++)
        fresh[(uint64_t)i * PAGE] = 1;
    printf("touch a page       %8.2f us (the host by itself)\n", (now() - start) / 20000);
    end();
    START(g_ud);
    start = now();
    for (int i = 0; i < 2000; i++)
        expect(EMU_STOP_ILLEGAL);
    printf("exception          %8.2f us\n", (now() - start) / 2000);
    end();
    emu_kvm_user_facts facts;
    emu_kvm_user_look(&facts);
    printf("SYSCALL %s; %" PRIu64 " exits, %" PRIu64 " fills\n", facts.stays_user ? "stays at CPL3" : "enters CPL0",
           facts.exits, facts.fills);
}

int main(int argc, char **argv)
{
    ops = emu_kvm_user();
    if (argc > 1) {
        measure();
        return 0;
    }
    RUN(a_system_call_carries_its_arguments_and_brings_the_result_back);
    RUN(flags_survive_a_system_call);
    RUN(a_system_call_can_be_made_again_by_moving_pc_back);
    RUN(selectors_are_linuxs);
    RUN(exceptions_become_stops);
    RUN(single_steps_and_system_calls_do_not_disturb_each_other);
    RUN(a_store_where_nothing_is_mapped_gives_its_exact_address_and_can_be_mended);
    RUN(an_access_across_pages_faults_at_the_page_that_fails);
    RUN(the_right_to_execute_is_enforced_and_can_be_lost);
    RUN(code_may_change_itself);
    RUN(nothing_of_the_engine_can_be_reached_by_the_guest);
    RUN(a_file_that_ends_before_its_mapping_is_a_fault_at_the_page_behind_it);
    RUN(memory_spread_wider_than_the_tables_and_slots_is_right_all_the_same);
    RUN(registers_come_back_as_they_were_loaded);
    RUN(thread_pointers_are_segment_bases);
    RUN(the_upper_halves_of_avx_registers_survive_save_and_load);
    RUN(the_cycle_counter_is_the_hosts);
    RUN(a_kick_before_run_is_not_lost_and_counts_once);
    RUN(a_signal_stops_a_loop_and_it_goes_on_where_it_was);
    RUN(kicks_between_system_calls_and_faults_lose_nothing);
    RUN(two_engines_share_memory);
    RUN(a_forked_child_goes_on_with_all_registers_and_memory_of_its_own);
    RUN(an_xsave_image_brings_all_vectors_back_and_a_bad_one_harms_nobody);
    return 0;
}

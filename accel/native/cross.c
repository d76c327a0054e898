/*
 * What KVM refuses, done elsewhere.
 *
 * The companion is made when it is first needed.  It sees memory through the
 * same mappings, and translations of code that others than itself have changed
 * meanwhile are dropped when their page is next entered (uc_code.c).
 */
#if defined(__x86_64__) && defined(__linux__)

#include "cross.h"
#include "cross_host.h"
#include "uc_machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* So many refusals show that a guest keeps asking: then it stays with the companion, where that may be. */
#define PATIENCE 32

enum { MSR_TSC = 0x10, VECTOR_DEBUG = 1, VECTOR_PROTECTION = 13, DR6_STEP = 1 << 14, FLAG_TRAP = 1 << 8 };
enum { CPUID_LEAVES = 256 };

struct cpuid { /* kvm_cpuid2 */
    uint32_t count, padding;
    struct {
        uint32_t leaf, subleaf, flags, value[4], reserved[3];
    } entries[CPUID_LEAVES];
};

struct emu_cross {
    emu_x86 state;
    emu_kvm_vcpu *vcpu; /* NULL: tcg's guest alone, on a machine that is not ours */
    emu_space *memory, *ports;
    _Atomic(emu_uc_machine *) companion;
    emu_host *host;
    bool hosted; /* host has been asked for */
    bool stays, sleeps;
    atomic_bool inside; /* the companion has the vCPU */
    bool flushed; /* the guest has changed translations that KVM may keep */
    int vm;
    uint32_t slot;
    struct emu_uc_shared shared;
    struct cpuid cpuid;
    emu_cross_counts counts;
};

emu_cross *emu_cross_new(emu_kvm_vcpu *vcpu, emu_space *memory, emu_space *ports, int vm, uint32_t slot)
{
    emu_cross *c = aligned_alloc(64, (sizeof *c + 63) / 64 * 64);
    if (c == NULL)
        return NULL;
    memset(c, 0, sizeof *c);
    c->vcpu = vcpu;
    c->memory = memory;
    c->ports = ports;
    c->vm = vm;
    c->slot = slot;
    return c;
}

void emu_cross_free(emu_cross *c)
{
    if (c == NULL)
        return;
    if (c->vcpu != NULL)
        emu_uc_machine_free(atomic_load(&c->companion));
    else
        atomic_load(&c->companion)->shared = NULL;
    emu_host_free(c->host);
    free(c);
}

void emu_cross_kick(emu_cross *c)
{
    emu_uc_machine *m = atomic_load(&c->companion);
    if (m != NULL)
        emu_uc_machine_kick(m);
}

void emu_cross_remap(emu_cross *c)
{
    emu_uc_machine *m = atomic_load(&c->companion);
    if (m != NULL)
        emu_uc_machine_remap(m);
}

void emu_cross_get_counts(const emu_cross *c, emu_cross_counts *out) { *out = c->counts; }

/* ---- counts ------------------------------------------------------------------------ */

/* Of the same opcode, to be told apart from others without decoding: prefixes, opcode and its map. */
static uint32_t opcode_bytes(const uint8_t *bytes, uint32_t n)
{
    uint32_t at = 0;
    while (at < n && (bytes[at] == 0x66 || (bytes[at] & 0xfe) == 0xf2 || bytes[at] == 0xf0 || (bytes[at] & 0xfc) == 0x64 ||
                      (bytes[at] & 0xe7) == 0x26))
        at++;
    if (at < n && (bytes[at] & 0xf0) == 0x40)
        at++;
    if (at < n && bytes[at] == 0x0f)
        at += at + 1 < n && (bytes[at + 1] & 0xfd) == 0x38 ? 3 : 2;
    else if (at < n && (bytes[at] & 0xfe) == 0xc4)
        at += bytes[at] == 0xc4 ? 4 : 3;
    else if (at < n && bytes[at] == 0x62)
        at += 5;
    else
        at++;
    if (at < n && at != 0 && ((bytes[at - 1] & 0xf8) == 0xd8 || bytes[at - 1] == 0x01 || bytes[at - 1] == 0xae || bytes[at - 1] == 0xc7))
        at++; /* the ModRM byte tells more */
    return at < n ? at : n;
}

static void count(emu_cross *c, const uint8_t *bytes, uint32_t n)
{
    uint32_t length = opcode_bytes(bytes, n);
    if (length == 0)
        return;
    uint32_t hash = 2166136261u;
    for (uint32_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    for (uint32_t i = 0; i < EMU_CROSS_KINDS; i++) {
        __typeof__(c->counts.kinds[0]) *kind = &c->counts.kinds[(hash + i) % EMU_CROSS_KINDS];
        if (kind->count == 0) {
            memcpy(kind->bytes, bytes, n);
            kind->nbytes = (uint8_t)n;
        } else if (kind->nbytes < length || opcode_bytes(kind->bytes, kind->nbytes) != length ||
                   memcmp(kind->bytes, bytes, length) != 0) {
            continue;
        }
        kind->count++;
        return;
    }
    c->counts.lost++;
}

static emu_host *host_of(emu_cross *c)
{
    if (!c->hosted) {
        c->hosted = true;
        c->host = emu_host_new();
    }
    return c->host;
}

/* ---- the companion ------------------------------------------------------------------ */

static int failed(emu_exit *out, const char *what, const char *why)
{
    memset(out, 0, sizeof *out);
    snprintf(out->text, sizeof out->text, "KVM cannot emulate an instruction, and %s: %s", what, why);
    return out->kind = EMU_EXIT_FAULT;
}

static emu_uc_machine *of(const emu_cross *c) { return atomic_load(&((emu_cross *)(uintptr_t)c)->companion); }

/* What the guest is to see of its CPU, with the bits that follow the guest's registers. */
static void on_cpuid(void *opaque, uint32_t leaf, uint32_t subleaf, uint32_t *values)
{
    emu_cross *c = opaque;
    uint32_t most = 0;
    for (uint32_t i = 0; i < c->cpuid.count && i < CPUID_LEAVES; i++)
        if (c->cpuid.entries[i].leaf == (leaf & 0x80000000))
            most = c->cpuid.entries[i].value[0];
    for (int again = 0; again < 2; again++) {
        for (uint32_t i = 0; i < c->cpuid.count && i < CPUID_LEAVES; i++) {
            __typeof__(c->cpuid.entries[0]) *entry = &c->cpuid.entries[i];
            if (entry->leaf == leaf && (!(entry->flags & 1) || entry->subleaf == subleaf)) {
                memcpy(values, entry->value, sizeof entry->value);
                again = 2;
                break;
            }
        }
        if (again == 0 && (leaf & 0xc0000000) == 0 && leaf > most)
            leaf = most; /* as Intel's do */
        else
            break;
    }
    const emu_uc_reg cr4 = {.id = EMU_UC_STATUS, .code = {UC_X86_REG_CR4}};
    uint64_t value[8] = {0};
    emu_uc_machine_read(of(c), &cr4, value);
    if (leaf == 1)
        values[2] = (values[2] & ~(1u << 27)) | (value[0] & 1u << 18 ? 1u << 27 : 0);
    else if (leaf == 0xd && subleaf == 0) {
        emu_x86_from_uc(of(c), &c->state, EMU_X86_XCR0);
        values[1] = emu_x86_xsave_size(c->state.xcr0);
    }
}

static uint64_t companions_tsc(emu_cross *c)
{
    const emu_uc_reg tsc = {.id = EMU_UC_INSIDE, .code = {EMU_UC_TSC}};
    uint64_t value[8] = {0};
    emu_uc_machine_read(of(c), &tsc, value);
    return value[0];
}

static bool on_msr(void *opaque, uint32_t index, uint64_t *value, bool write)
{
    emu_cross *c = opaque;
    if (index == MSR_TSC && !write) {
        *value = companions_tsc(c);
        return true;
    }
    if (c->vcpu == NULL) {
        const emu_uc_reg reg = {.id = EMU_UC_SYSTEM, .code = {index}};
        uint64_t values[8] = {*value};
        int status = write ? emu_uc_machine_write(of(c), &reg, values) : emu_uc_machine_read(of(c), &reg, values);
        *value = values[0];
        return status == 0;
    }
    if (emu_x86_msr(c->vcpu, index, value, write) != 0)
        return false;
    if (index == MSR_TSC) {
        const emu_uc_reg tsc = {.id = EMU_UC_INSIDE, .code = {EMU_UC_TSC}};
        const uint64_t values[8] = {*value};
        emu_uc_machine_write(of(c), &tsc, values);
    }
    return true;
}

static bool on_translation(void *opaque)
{
    ((emu_cross *)opaque)->flushed = true;
    return false;
}

static void on_accepted(void *opaque, uint32_t number, int vector)
{
    emu_kvm_vcpu_took(((emu_cross *)opaque)->vcpu, vector);
}

static int more_inside(void *opaque, unsigned groups)
{
    emu_cross *c = opaque;
    emu_x86_from_uc(of(c), &c->state, groups);
    return 0;
}

static void on_touch(void *opaque, uint64_t address, bool write) { emu_uc_x86_touch(of(opaque), address, write); }

/* Undefined to the library, which lacks AVX, XSAVE and more that the guest was promised. */
static bool on_undefined(void *opaque)
{
    emu_cross *c = opaque;
    emu_uc_machine *m = of(c);
    emu_x86_from_uc(m, &c->state, EMU_X86_GENERAL | EMU_X86_SYSTEM);
    emu_host_job job = {
        .memory = c->memory,
        .state = &c->state,
        .have = EMU_X86_GENERAL | EMU_X86_SYSTEM,
        .more = more_inside,
        .msr = on_msr,
        .touch = on_touch,
        .opaque = c,
    };
    uint8_t bytes[15];
    uint32_t n = emu_host_fetch(&job, bytes);
    enum emu_host_result result = emu_host_do(host_of(c), &job, bytes, n);
    if (result == EMU_HOST_NOT || result == EMU_HOST_FAILED)
        return false;
    count(c, bytes, n);
    c->counts.host++;
    emu_x86_to_uc(m, &c->state, job.changed);
    if (job.forgets) {
        c->flushed = true;
        emu_uc_x86_flush(m);
    }
    if (result == EMU_HOST_RAISED) {
        m->raised = true;
        emu_uc_end(m, EMU_EXIT_RAISED, NULL);
        m->loop_exit_restore(m->cpu, 0);
    }
    if (result == EMU_HOST_FAULT)
        emu_uc_x86_raise(m, job.fault.vector, job.fault.error);
    if (job.stepped) {
        emu_x86_from_uc(m, &c->state, EMU_X86_DEBUG);
        c->state.debug[6] |= DR6_STEP;
        emu_x86_to_uc(m, &c->state, EMU_X86_DEBUG);
        emu_uc_x86_raise(m, VECTOR_DEBUG, 0);
    }
    return true;
}

/* MOV to and from CR8, the local APIC's task priority, which is not the library's. */
static bool on_priority(void *opaque, bool write)
{
    emu_cross *c = opaque;
    emu_uc_machine *m = of(c);
    emu_x86_from_uc(m, &c->state, EMU_X86_GENERAL | EMU_X86_SYSTEM);
    emu_host_job job = {.memory = c->memory, .state = &c->state, .have = EMU_X86_GENERAL | EMU_X86_SYSTEM};
    uint8_t bytes[15];
    uint32_t n = emu_host_fetch(&job, bytes), at = 0;
    bool extended = false;
    while (at < n && bytes[at] != 0x0f) /* prefixes, of which but one matters */
        extended = (bytes[at++] & 0xf1) == 0x41;
    if (n < at + 3)
        return false;
    uint64_t *reg = &c->state.general[(bytes[at + 2] & 7) | extended << 3];
    if (write && *reg > 15)
        emu_uc_x86_raise(m, VECTOR_PROTECTION, 0);
    if (write)
        emu_kvm_vcpu_set_priority(c->vcpu, (unsigned)*reg);
    else
        *reg = emu_kvm_vcpu_priority(c->vcpu);
    c->state.rip += at + 3;
    emu_x86_to_uc(m, &c->state, EMU_X86_GENERAL);
    return true;
}

static emu_uc_machine *companion(emu_cross *c, emu_exit *out)
{
    emu_uc_machine *m = atomic_load(&c->companion);
    if (m != NULL)
        return m;
    char text[56];
    const emu_uc_config config = {.isa = EMU_ISA_X86_64, .model = -1};
    if (emu_uc_library_now(text, sizeof text) == 0)
        m = emu_uc_machine_new(&config, c->memory, c->ports, text, sizeof text);
    if (m == NULL)
        failed(out, "Unicorn does not start", text);
    if (m == NULL)
        return NULL;
    c->shared = (struct emu_uc_shared){
        .opaque = c, .cpuid = on_cpuid, .msr = on_msr, .undefined = on_undefined, .translation = on_translation,
        .priority = on_priority};
    m->shared = &c->shared;
    m->foreign = true;
    emu_uc_machine_accepted(m, on_accepted, c);
    emu_uc_machine_sleep(m, c->sleeps);
    atomic_store(&c->companion, m);
    return m;
}

enum { EACH = EMU_X86_GENERAL | EMU_X86_SYSTEM | EMU_X86_VECTORS | EMU_X86_MSRS_GROUP };

/* One instruction; what has been read of the state already is in `have`. */
static int by_companion(emu_cross *c, unsigned have, emu_exit *out)
{
    emu_uc_machine *m = companion(c, out);
    if (m == NULL)
        return out->kind;
    unsigned groups = EACH | (c->state.rflags & FLAG_TRAP ? EMU_X86_DEBUG : 0);
    int status = emu_x86_from_kvm(c->vcpu, &c->state, (groups | EMU_X86_XCR0) & ~have);
    if (status < 0)
        return failed(out, "its state cannot be read", strerror(-status));
    emu_x86_to_uc(m, &c->state, groups | EMU_X86_XCR0);
    emu_uc_code_foreign(m);
    const uint64_t budget = 1;
    int kind = emu_uc_machine_run(m, budget, out);
    c->counts.companion++;
    c->counts.retired += budget - m->budget;
    emu_x86_from_uc(m, &c->state, groups);
    c->state.cr8 = emu_kvm_vcpu_priority(c->vcpu);
    status = emu_x86_to_kvm(c->vcpu, &c->state, groups);
    if (status < 0)
        return failed(out, "its state cannot be set", strerror(-status));
    if (kind == EMU_EXIT_BUDGET || kind == EMU_EXIT_KICKED) { /* who kicked has asked the vCPU, too */
        memset(out, 0, sizeof *out);
        return 0;
    }
    return kind;
}

emu_cross *emu_cross_adopt(emu_uc_machine *m, emu_space *memory)
{
    emu_cross *c = emu_cross_new(NULL, memory, NULL, -1, 0);
    if (c == NULL)
        return NULL;
    c->shared = (struct emu_uc_shared){.opaque = c, .cpuid = on_cpuid, .undefined = on_undefined};
    atomic_store(&c->companion, m);
    m->shared = &c->shared;
    return c;
}

void emu_cross_cr4(emu_cross *c, uint64_t cr4) { c->state.cr4 = cr4; }
void *emu_cross_xsave(emu_cross *c) { return c->state.xsave; }

/* ---- staying ------------------------------------------------------------------------- */

enum { STAYING = EACH | EMU_X86_EVENTS | EMU_X86_XCR0 | EMU_X86_DEBUG };

int emu_cross_move_in(emu_cross *c, emu_exit *out)
{
    emu_uc_machine *m = companion(c, out);
    if (m == NULL)
        return out->kind;
    uint64_t tsc = 0;
    int status = emu_x86_from_kvm(c->vcpu, &c->state, STAYING);
    if (status == 0)
        status = emu_x86_msr(c->vcpu, MSR_TSC, &tsc, false);
    if (status < 0)
        return failed(out, "its state cannot be read", strerror(-status));
    c->state.exception = (struct emu_x86_exception){0}; /* KVM's for the refusal */
    emu_x86_to_uc(m, &c->state, STAYING);
    const emu_uc_reg reg = {.id = EMU_UC_INSIDE, .code = {EMU_UC_TSC}};
    const uint64_t value[8] = {tsc};
    emu_uc_machine_write(m, &reg, value);
    emu_uc_code_foreign(m);
    c->counts.stays++;
    c->inside = true;
    /* From here on others tell the companion themselves; what they told while we looked must not be overwritten. */
    int level;
    do {
        level = emu_kvm_vcpu_intr(c->vcpu);
        emu_uc_machine_interrupt(m, 0, level);
    } while (emu_kvm_vcpu_intr(c->vcpu) != level);
    return 0;
}

bool emu_cross_inside(const emu_cross *c) { return atomic_load(&((emu_cross *)(uintptr_t)c)->inside); }
int emu_cross_cpuid(emu_cross *c, const void *table, size_t size)
{
    if (size > sizeof c->cpuid)
        return -EINVAL;
    memcpy(&c->cpuid, table, size);
    return 0;
}
void emu_cross_stays(emu_cross *c, int stays) { c->stays = stays != 0; }
uint64_t emu_cross_pc(emu_cross *c) { return emu_uc_pc(of(c)); }

static uint64_t thread_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int emu_cross_go(emu_cross *c, emu_exit *out)
{
    uint64_t began = thread_ns();
    int kind = emu_uc_machine_run(of(c), 0, out);
    c->counts.ns += thread_ns() - began;
    return kind == EMU_EXIT_KICKED ? 0 : kind; /* who kicked has asked the vCPU, too */
}

/* KVM trusts what it made of the guest's tables until a slot goes, any. */
static void forget_translations(emu_cross *c)
{
    static _Alignas(4096) uint8_t page[4096];
    emu_kvm_slot slot = {.slot = c->slot, .base = (UINT64_C(1) << 40) - 4096, .size = 4096, .host = (uintptr_t)page};
    emu_kvm_ioctl(c->vm, EMU_KVM_SET_USER_MEMORY_REGION, &slot);
    slot.size = 0;
    emu_kvm_ioctl(c->vm, EMU_KVM_SET_USER_MEMORY_REGION, &slot);
}

int emu_cross_leave(emu_cross *c)
{
    if (!c->inside)
        return 0;
    c->inside = false;
    emu_uc_machine *m = of(c);
    emu_x86_from_uc(m, &c->state, STAYING);
    c->state.cr8 = emu_kvm_vcpu_priority(c->vcpu);
    emu_kvm_vcpu_set_halted(c->vcpu, emu_uc_machine_halted(m));
    if (c->flushed)
        forget_translations(c);
    c->flushed = false;
    return emu_x86_to_kvm(c->vcpu, &c->state, STAYING);
}

void emu_cross_interrupt(emu_cross *c, int line, int level)
{
    emu_uc_machine *m = of(c);
    if (m != NULL && line < 2)
        emu_uc_machine_interrupt(m, (uint32_t)line, level);
}

void emu_cross_sleep(emu_cross *c, int sleeps)
{
    c->sleeps = sleeps != 0;
    if (of(c) != NULL)
        emu_uc_machine_sleep(of(c), sleeps);
}

static int more(void *opaque, unsigned groups)
{
    emu_cross *c = opaque;
    return emu_x86_from_kvm(c->vcpu, &c->state, groups);
}

static bool msr(void *opaque, uint32_t index, uint64_t *value, bool write)
{
    emu_cross *c = opaque;
    return emu_x86_msr(c->vcpu, index, value, write) == 0;
}

int emu_cross_refused(emu_cross *c, const uint8_t *bytes, uint32_t nbytes, bool may_stay, emu_exit *out)
{
    count(c, bytes, nbytes);
    if (may_stay && c->stays && c->counts.host + c->counts.companion >= PATIENCE)
        return emu_cross_move_in(c, out);
    int status = emu_x86_from_kvm(c->vcpu, &c->state, EMU_X86_GENERAL | EMU_X86_SYSTEM | EMU_X86_EVENTS);
    if (status < 0)
        return failed(out, "its state cannot be read", strerror(-status));
    emu_host_job job = {
        .memory = c->memory,
        .state = &c->state,
        .have = EMU_X86_GENERAL | EMU_X86_SYSTEM | EMU_X86_EVENTS,
        .more = more,
        .msr = msr,
        .opaque = c,
    };
    enum emu_host_result result = emu_host_do(host_of(c), &job, bytes, nbytes);
    c->state.shadow = false;
    c->state.exception = (struct emu_x86_exception){0};
    int kind = 0;
    switch (result) {
    case EMU_HOST_NOT: kind = by_companion(c, job.have, out); break;
    case EMU_HOST_FAILED: return failed(out, "its state cannot be read", "see the host's kernel log");
    case EMU_HOST_RAISED: kind = out->kind = EMU_EXIT_RAISED; break;
    case EMU_HOST_FAULT:
        c->state.exception = (struct emu_x86_exception){
            .pending = true, .vector = job.fault.vector, .has_error = job.fault.has_error, .error = job.fault.error};
        if (job.fault.vector == 14) {
            c->state.cr2 = job.fault.address;
            job.changed |= EMU_X86_SYSTEM;
        }
        c->counts.host++;
        break;
    case EMU_HOST_DONE:
        c->counts.host++;
        if (job.forgets)
            forget_translations(c);
        if (job.stepped) {
            if (emu_x86_from_kvm(c->vcpu, &c->state, EMU_X86_DEBUG) < 0)
                return failed(out, "its debug registers cannot be read", "see the host's kernel log");
            c->state.debug[6] |= DR6_STEP;
            c->state.exception = (struct emu_x86_exception){.pending = true, .vector = VECTOR_DEBUG};
            job.changed |= EMU_X86_DEBUG;
        }
        break;
    }
    status = emu_x86_to_kvm(c->vcpu, &c->state, job.changed | EMU_X86_EVENTS);
    if (status < 0)
        return failed(out, "its state cannot be set", strerror(-status));
    return kind;
}

#else

#include "uc.h"

#include <errno.h>
#include <string.h>

emu_cross *emu_cross_adopt(emu_uc_machine *machine, emu_space *memory) { return NULL; }
void emu_cross_free(emu_cross *cross) {}
int emu_cross_cpuid(emu_cross *cross, const void *table, size_t size) { return -ENOSYS; }
void emu_cross_cr4(emu_cross *cross, uint64_t cr4) {}
void *emu_cross_xsave(emu_cross *cross) { return NULL; }
int emu_cross_component(uint32_t number, uint32_t *offset, uint32_t *size) { return -1; }
void emu_cross_get_counts(const emu_cross *cross, emu_cross_counts *out) { memset(out, 0, sizeof *out); }

#endif

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

struct emu_cross {
    emu_x86 state;
    emu_kvm_vcpu *vcpu;
    emu_space *memory, *ports;
    _Atomic(emu_uc_machine *) companion;
    emu_host *host;
    bool hosted; /* host has been asked for */
    emu_cross_counts counts;
};

emu_cross *emu_cross_new(emu_kvm_vcpu *vcpu, emu_space *memory, emu_space *ports)
{
    emu_cross *c = aligned_alloc(64, (sizeof *c + 63) / 64 * 64);
    if (c == NULL)
        return NULL;
    memset(c, 0, sizeof *c);
    c->vcpu = vcpu;
    c->memory = memory;
    c->ports = ports;
    return c;
}

void emu_cross_free(emu_cross *c)
{
    if (c == NULL)
        return;
    emu_uc_machine_free(atomic_load(&c->companion));
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

/* ---- the companion ------------------------------------------------------------------ */

static int failed(emu_exit *out, const char *what, const char *why)
{
    memset(out, 0, sizeof *out);
    snprintf(out->text, sizeof out->text, "KVM cannot emulate an instruction, and %s: %s", what, why);
    return out->kind = EMU_EXIT_FAULT;
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
    else
        m->foreign = true;
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
    int status = emu_x86_from_kvm(c->vcpu, &c->state, EACH & ~have);
    if (status < 0)
        return failed(out, "its state cannot be read", strerror(-status));
    emu_x86_to_uc(m, &c->state, EACH);
    emu_uc_code_foreign(m);
    const uint64_t budget = 1;
    int kind = emu_uc_machine_run(m, budget, out);
    c->counts.companion++;
    c->counts.retired += budget - m->budget;
    emu_x86_from_uc(m, &c->state, EACH);
    status = emu_x86_to_kvm(c->vcpu, &c->state, EACH);
    if (status < 0)
        return failed(out, "its state cannot be set", strerror(-status));
    if (kind == EMU_EXIT_BUDGET || kind == EMU_EXIT_KICKED) { /* who kicked has asked the vCPU, too */
        memset(out, 0, sizeof *out);
        return 0;
    }
    return kind;
}

static int more(void *opaque, unsigned groups)
{
    emu_cross *c = opaque;
    return emu_x86_from_kvm(c->vcpu, &c->state, groups);
}

int emu_cross_refused(emu_cross *c, const uint8_t *bytes, uint32_t nbytes, emu_exit *out)
{
    count(c, bytes, nbytes);
    int status = emu_x86_from_kvm(c->vcpu, &c->state, EMU_X86_GENERAL | EMU_X86_SYSTEM | EMU_X86_EVENTS);
    if (status < 0)
        return failed(out, "its state cannot be read", strerror(-status));
    if (!c->hosted) {
        c->hosted = true;
        c->host = emu_host_new();
    }
    emu_host_job job = {
        .memory = c->memory,
        .state = &c->state,
        .have = EMU_X86_GENERAL | EMU_X86_SYSTEM | EMU_X86_EVENTS,
        .more = more,
        .opaque = c,
    };
    enum emu_host_result result = c->host != NULL ? emu_host_do(c->host, &job, bytes, nbytes) : EMU_HOST_NOT;
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
    case EMU_HOST_DONE: c->counts.host++; break;
    }
    status = emu_x86_to_kvm(c->vcpu, &c->state, job.changed | EMU_X86_EVENTS);
    if (status < 0)
        return failed(out, "its state cannot be set", strerror(-status));
    return kind;
}

#endif

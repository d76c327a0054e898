/* The user-mode engine over Unicorn tells what runs (trace.h): by hooks in translated code, which is slow, or while it
 * is translated, which costs nothing. */
#include "uc_user.h"

#include <string.h>

#include "uc_atomic.h"

/* The condition flags and the state bits that programs know; IT's bits are in the library's translations. */
enum { ARM_FLAGS = 0xf80f0020u };

static uint32_t wanted(const emu_engine *engine, uint32_t what)
{
    return __atomic_load_n(&engine->tracer.trace->what, __ATOMIC_RELAXED) & what;
}

static void registers(emu_engine *engine, emu_cpu_state *state)
{
    uc_user_save(engine, state);
    memset(state->x87, 0, sizeof state->x87);
    if (engine->isa == EMU_ISA_ARM)
        state->flags &= ARM_FLAGS;
}

/* For uc_user_trace_less. */
static void leave(emu_engine *engine)
{
    if (!engine->kicked)
        emu_uc_user()->kick(engine);
}

static void on_code(uc_engine *uc, uint64_t address, uint32_t size, void *opaque)
{
    emu_engine *engine = opaque;
    emu_tracer *tracer = &engine->tracer;
    bool begun = tracer->begun;
    bool told = wanted(engine, EMU_TRACE_INSTRUCTIONS), begins = told && emu_trace_in_range(tracer->trace, address);
    if (!told)
        leave(engine);
    if (!begun && !begins)
        return;
    emu_cpu_state now;
    registers(engine, &now);
    if (begun)
        emu_trace_instruction(tracer, &now);
    if (!begins)
        return;
    if (!begun)
        tracer->before = now;
    tracer->before.pc = address;
    tracer->size = (uint8_t)(size == 0 || size > 15 ? 1 : size); /* of what is no instruction the library knows none */
    memset(tracer->bytes, 0, sizeof tracer->bytes);
    /* They have just been translated, and may be gone by now: the host says so without a fault. */
    for (uint32_t i = 0; i < tracer->size; i++) {
        uint64_t at = address + i;
        if ((i == 0 || at % PAGE == 0) && !(engine->memory.rights(engine->memory.opaque, at) & EMU_RIGHT_X))
            break;
        tracer->bytes[i] = engine->memory.base[at];
    }
    tracer->begun = true;
}

void uc_user_trace_stop(emu_engine *engine, int32_t kind)
{
    emu_cpu_state now;
    if (kind == EMU_STOP_SYSCALL || kind == EMU_STOP_KICK) {
        registers(engine, &now);
        emu_trace_instruction(&engine->tracer, &now);
    }
    engine->tracer.begun = false;
}

static void on_block(uc_engine *uc, uint64_t address, uint32_t size, void *opaque)
{
    emu_engine *engine = opaque;
    if (!wanted(engine, EMU_TRACE_BLOCKS))
        leave(engine);
    else if (emu_trace_in_range(engine->tracer.trace, address))
        emu_trace_block(&engine->tracer, EMU_TRACED_BLOCK, address, size);
}

static void covered(void *owner, uint64_t address, uint32_t size)
{
    emu_engine *engine = owner;
    if (wanted(engine, EMU_TRACE_COVERAGE) && emu_trace_in_range(engine->tracer.trace, address))
        emu_trace_block(&engine->tracer, EMU_TRACED_COVERED, address, size);
}

/* The library's functions could not be replaced: every block each time. */
static void on_block_covered(uc_engine *uc, uint64_t address, uint32_t size, void *opaque)
{
    covered(opaque, address, size);
}

void uc_user_trace_less(emu_engine *engine)
{
    static const uint32_t kinds[2] = {EMU_TRACE_INSTRUCTIONS, EMU_TRACE_BLOCKS};
    for (int i = 0; i < 2; i++)
        if (engine->told[i] != 0 && !wanted(engine, kinds[i])) {
            uc_hook_del(engine->uc, engine->told[i]);
            uc_ctl_flush_tb(engine->uc); /* the calls are in what was translated */
            engine->told[i] = 0;
            engine->tracer.begun = false;
        }
}

void uc_user_trace(emu_engine *engine, emu_trace *trace, int32_t pid, int32_t tid)
{
    bool first = engine->tracer.trace == NULL, forked = !first && engine->tracer.pid != pid;
    engine->tracer.trace = trace;
    engine->tracer.pid = pid;
    engine->tracer.tid = tid;
    engine->tracer.isa = engine->isa;
    engine->tracer.begun = false;
    uc_hook hook;
    if (forked && trace->what & EMU_TRACE_COVERAGE) /* what the parent has executed is the parent's */
        uc_ctl_flush_tb(engine->uc);
    if (!first)
        return;
    if (trace->what & EMU_TRACE_INSTRUCTIONS)
        uc_hook_add(engine->uc, &engine->told[0], UC_HOOK_CODE, (void *)on_code, engine, 1, 0);
    if (trace->what & EMU_TRACE_BLOCKS)
        uc_hook_add(engine->uc, &engine->told[1], UC_HOOK_BLOCK, (void *)on_block, engine, 1, 0);
    if (!(trace->what & EMU_TRACE_COVERAGE))
        return;
    engine->shared.owner = engine;
    engine->shared.translated = covered;
    if (!uc_atomic_tells(engine->isa))
        uc_hook_add(engine->uc, &hook, UC_HOOK_BLOCK, (void *)on_block_covered, engine, 1, 0);
}

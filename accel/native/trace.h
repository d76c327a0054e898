/*
 * What runs, told as it happens: a ring of records in memory that a reader
 * shares with engines, also with those of its children.
 *
 * A record is one slot and so many more behind it.  Whoever writes one takes
 * tickets, which number the slots for ever, fills them (trace_write.h), and last
 * of all writes the first one's ticket + 1: so records have one order among all
 * threads and processes, and one that was killed while it wrote leaves a gap that
 * the reader steps over.  A full ring makes writers wait.
 *
 * An engine that has no trace pays nothing for it: its code is translated
 * otherwise when there is one (emu_engine_ops.trace).
 */
#ifndef EMU_TRACE_H
#define EMU_TRACE_H

#include <stdint.h>

enum emu_trace_size { EMU_TRACE_SLOTS = 131072, EMU_TRACE_RANGES = 256 };

/* emu_trace.what */
enum emu_trace_what {
    EMU_TRACE_INSTRUCTIONS = 1,
    EMU_TRACE_BLOCKS = 2,
    EMU_TRACE_COVERAGE = 4, /* each block once, when it is translated */
    EMU_TRACE_MMIO = 8,
    EMU_TRACE_INTERRUPTS = 16,
    EMU_TRACE_EXCEPTIONS = 32,
    EMU_TRACE_EXITS = 64,
    EMU_TRACE_MAPS = 128,
    EMU_TRACE_WAIT_MAPS = 256, /* whoever maps code waits until the reader knows it */
    EMU_TRACE_PROFILE = 512,
};

/* emu_trace_record.kind */
enum emu_trace_kind {
    EMU_TRACED_INSTRUCTION = 1, /* at `at`, has been executed; `size` bytes, the first 8 in a; b: which of r[] have
                                   changed in the low half, of v[] in the high one; bits: of the others.  The new
                                   values follow: c, then those behind, v's as two words */
    EMU_TRACED_BLOCK,      /* at `at`, `a` bytes, is entered */
    EMU_TRACED_COVERED,    /* the same, is entered for the first time */
    EMU_TRACED_PROCESS,    /* begins here, or goes on as a fork; a: the parent; what it has mapped follows */
    EMU_TRACED_EXECUTED,   /* another program in the same process; its name follows */
    EMU_TRACED_UNMAPPED,   /* at .. at + a is nothing that was told before */
    EMU_TRACED_MAPPED,     /* at .. at + a is of a file, from b on; bits: PROT_*; its name follows, c bytes */
    EMU_TRACED_MMIO,       /* at: address; a: value; size; bits: 1 for a write */
    EMU_TRACED_INTERRUPT,  /* line a of b has the level c */
    EMU_TRACED_EXCEPTION,  /* number a is taken at `at`; b: address or syndrome */
    EMU_TRACED_EXIT,       /* kvm came back: a: reason; at */
    EMU_TRACED_SAMPLE,     /* of a profile, b times: at; bits: enum emu_sampled; return addresses: c in the register
                              for them, and of frames, a of them behind */
    EMU_TRACED_END,        /* a thread ends; a: wait status */
};

/* emu_trace_record.bits of an instruction, in the order of their values. */
enum emu_trace_changed {
    EMU_TRACE_FLAGS = 1,
    EMU_TRACE_FPCR = 2,
    EMU_TRACE_FPSR = 4,
    EMU_TRACE_TLS = 8,
    EMU_TRACE_TLS2 = 16,
    EMU_TRACE_THUMB = 128, /* no value: it is one of Thumb's */
};

typedef struct emu_trace_record {
    uint64_t ticket; /* + 1 */
    uint64_t ns;     /* CLOCK_MONOTONIC */
    int32_t pid;
    int32_t tid;
    uint8_t kind;
    uint8_t more; /* slots behind this one, all bytes of which are words or text */
    uint8_t size;
    uint8_t bits;
    uint32_t isa; /* enum emu_isa */
    uint64_t at;
    uint64_t a;
    uint64_t b;
    uint64_t c;
} emu_trace_record;

typedef struct emu_trace {
    uint64_t head; /* the next ticket */
    uint64_t gap[7];
    uint64_t tail;  /* the reader is done with the tickets before */
    uint64_t taken; /* it has */
    uint64_t stuck; /* since when (ns) it has met a gap; 0: it has not */
    uint32_t moved; /* changes with the tail */
    uint32_t written; /* changes when it is time to read */
    uint64_t gap_too[4];
    uint32_t closed; /* nobody reads any more */
    uint32_t what;   /* EMU_TRACE_*; the reader may take bits back */
    int32_t reader;  /* its pid */
    uint32_t period; /* of samples, us */
    uint32_t filtered; /* instructions and blocks of `ranges` alone */
    uint32_t range_count;
    uint64_t ranges[EMU_TRACE_RANGES][2]; /* first address, and the one behind the last */
    emu_trace_record slots[EMU_TRACE_SLOTS];
} emu_trace;

#endif

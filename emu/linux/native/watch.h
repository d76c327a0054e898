/*
 * Looking at a guest from another process: its system calls, signals and ends.
 *
 * The watcher makes a watch: memory that it shares with the guest's process and
 * with all that this forks.  A thread of the guest that has something to tell
 * takes a slot, describes it there and waits; meanwhile the watcher may have it
 * read and write its memory and registers, and then lets it go on.  The thread
 * does all of that itself, so the watcher needs no rights over the guest; the
 * guest has no descriptor that it could close, and no interpreter runs in its
 * processes.
 *
 * Without a watch a system call costs one test of a pointer; with one, a call
 * that nobody asked for costs a look into `wanted`.
 */
#ifndef EMU_WATCH_H
#define EMU_WATCH_H

#include <stdint.h>

#include "engine.h"
#include "process.h"

/* Rows are those of emu_watch_row; EMU_WATCH_DATA holds an emu_cpu_state and a page. */
enum emu_watch_size {
    EMU_WATCH_ISAS = 5,
    EMU_WATCH_ROWS = 1024,
    EMU_WATCH_SLOTS = 64,
    EMU_WATCH_DATA = 4096,
    EMU_WATCH_BREAKS = 1024,
};

/* In emu_watch.wanted. */
enum emu_watch_want { EMU_WANT_CALL = 1, EMU_WANT_RESULT = 2 };

/* In emu_watch.tell: what besides system calls. */
enum emu_watch_tell { EMU_TELL_SIGNALS = 1, EMU_TELL_ENDS = 2 };

enum emu_watch_kind {
    EMU_WATCH_CALL = 1, /* before a system call: nr, args */
    EMU_WATCH_RESULT,   /* after it: result too, RESTART codes and EMU_KEEP_REGISTERS included */
    EMU_WATCH_SIGNAL,   /* before a signal is delivered: info */
    EMU_WATCH_END,      /* a thread ends: result is its wait status */
    EMU_WATCH_NATIVE,   /* execve of a program that the host's own kernel runs, which nobody watches */
    EMU_WATCH_STOP,     /* for a debugger, between two instructions: nr is the reason */
};

/* Reasons of EMU_WATCH_STOP. */
enum emu_stopped {
    EMU_STOPPED_HELD = 1, /* `hold` is set */
    EMU_STOPPED_BREAK,    /* at a breakpoint of the table, which has not been executed */
    EMU_STOPPED_STEP,     /* behind the instruction that was asked for */
    EMU_STOPPED_EXEC,     /* before the first instruction of another program */
};

enum emu_watch_order {
    EMU_ORDER_READ = 1, /* `size` bytes at addr to data; status: 0 or -EFAULT */
    EMU_ORDER_WRITE,    /* and back */
    EMU_ORDER_STRING,   /* up to `size` bytes, NUL included; status: the length, -EFAULT or -ENAMETOOLONG */
    EMU_ORDER_SAVE,     /* the registers to data */
    EMU_ORDER_LOAD,     /* and back */
    EMU_ORDER_POKE,     /* as WRITE, whatever the guest may do there */
    EMU_ORDER_AUXV,     /* the auxiliary vector to data; status: bytes */
    EMU_ORDER_PROGRAM,  /* the guest's name of its program to data; status: bytes */
    EMU_ORDER_SIGINFO,  /* of a signal: `info` to data as the guest would have it */
    EMU_ORDER_XSAVE,    /* x86-64: all that XSAVE saves to data; status: bytes, 0 where the engine has no more than `cpu` */
    EMU_ORDER_XRSTOR,   /* and back, `size` bytes */
};

/* emu_watch.hold: a debugger's threads stop, those that step only behind the last step. */
enum emu_watch_hold { EMU_HOLD_OTHERS = 1, EMU_HOLD_ALL = 2 };

typedef struct emu_watch_slot {
    uint32_t state; /* watch.c's own */
    uint32_t kind;
    int32_t pid;
    int32_t tid;
    uint64_t ticket; /* events have ascending numbers */
    uint64_t nr;
    uint64_t args[6]; /* as the registers hold them; of a call, the watcher may change them */
    int64_t result;   /* of a result, the watcher may change it */
    uint32_t isa;
    uint32_t skip;     /* set by the watcher of a call: it is not made, and has `result`; of a signal: it is lost */
    uint32_t step;     /* of a stop or a signal: one instruction, then a stop again ... */
    uint64_t start, until; /* ... when the pc is not in [start, until) any more */
    uint8_t info[128]; /* siginfo_t as the host has it */
    uint32_t order;
    int32_t status;
    uint64_t addr;
    uint64_t size;
    uint8_t data[EMU_WATCH_DATA];
    uint32_t changed;    /* set by the watcher: the thread takes `cpu` before it goes on */
    emu_cpu_state cpu;   /* of a stop or a signal, for a debugger: the registers */
} emu_watch_slot;

typedef struct emu_watch_count {
    uint64_t calls;
    uint64_t errors;
    uint64_t ns; /* of time passed */
} emu_watch_count;

/* A breakpoint: what stood there. */
typedef struct emu_watch_break {
    uint64_t addr;
    uint32_t size;
    uint8_t before[4];
} emu_watch_break;

typedef struct emu_watch {
    uint32_t events;   /* counts what is told */
    uint32_t closed;   /* nobody watches any more; 2: and the guest shall die */
    uint32_t tell;     /* EMU_TELL_* */
    uint32_t counting; /* fill `counts` */
    uint64_t tickets;
    int32_t watcher;
    uint8_t wanted[EMU_WATCH_ISAS][EMU_WATCH_ROWS];
    emu_watch_count counts[EMU_WATCH_ISAS][EMU_WATCH_ROWS];
    uint64_t engine[2]; /* where counting: what engines did (emu_engine_ops.counts) */
    uint32_t debug;     /* the watcher is a debugger: before the start */
    uint32_t hold;      /* enum emu_watch_hold */
    uint32_t break_count;
    emu_watch_break breaks[EMU_WATCH_BREAKS]; /* changed while all threads stand */
    emu_watch_slot slots[EMU_WATCH_SLOTS];
} emu_watch;

/* NULL without memory. */
emu_watch *emu_watch_new(void);
void emu_watch_free(emu_watch *watch);
/* Before the process runs. */
void emu_process_watch(emu_process *process, emu_watch *watch);
/* The index of a system call in tables of the watch; numbers that no ABI has share one. */
uint32_t emu_watch_row(uint64_t nr);

/* The slot of the eldest event, or -1 if none comes within so many milliseconds or a signal does. */
int emu_watch_next(emu_watch *watch, int milliseconds);
/* Has the thread of a slot that emu_watch_next gave do something.  Its status, or -ESRCH if it was killed. */
int emu_watch_order(emu_watch *watch, int slot, uint32_t order, uint64_t addr, uint64_t size);
/* It waits on, and emu_watch_next tells of others. */
void emu_watch_keep(emu_watch *watch, int slot);
/* Has all threads of a process look around soon: at `hold`, wherever they wait. */
void emu_watch_nudge(int pid);
/* The thread of that slot goes on. */
void emu_watch_go(emu_watch *watch, int slot);
/* All go on, unwatched, or (kill) die at their next system call. */
void emu_watch_close(emu_watch *watch, int kill);

#endif

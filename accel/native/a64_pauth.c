/* Pointer authentication, which this CPU has not: but for the hints, which are NOPs, its instructions are undefined. */
#include "a64.h"

static bool undefined(a64_translator *t)
{
    a64_exit_reason(t, A64_EXIT_ILLEGAL, t->pc);
    return true;
}

INSN(PACGA)
{
    (void)f;
    return undefined(t);
}

INSN(PAC)
{
    (void)f;
    return undefined(t);
}

INSN(XPAC)
{
    (void)f;
    return undefined(t);
}

INSN(BRA)
{
    (void)f;
    return undefined(t);
}

INSN(ERETA)
{
    (void)f;
    return undefined(t);
}

INSN(LDRA)
{
    (void)f;
    return undefined(t);
}

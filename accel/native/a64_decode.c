/* Decoding A64 by the tables that decode_c.py writes from isa/aarch64.decode. */
#include "a64_decode.h"

#include "a64_decode_table.h"

enum a64_encoding a64_decode(uint32_t word)
{
    const uint16_t *candidate = candidates + rows[row_of[word >> HIGH_SHIFT]][word >> LOW_SHIFT & LOW_MASK];
    for (; *candidate; candidate++) {
        enum a64_encoding encoding = (enum a64_encoding)(*candidate & ~CHECK);
        if ((word & fixed[encoding].mask) == fixed[encoding].value &&
            (!(*candidate & CHECK) || allowed(encoding, word)))
            return encoding;
    }
    return A64_NONE;
}

const char *a64_name(enum a64_encoding encoding)
{
    return names[encoding];
}

bool a64_implemented(enum a64_encoding encoding)
{
    return functions[encoding];
}

bool a64_complete(enum a64_feature feature)
{
    return complete[feature];
}

bool a64_dispatch_as(enum a64_encoding encoding, struct a64_translator *t, uint32_t word)
{
    return call(encoding, t, word);
}

bool a64_dispatch(struct a64_translator *t, uint32_t word)
{
    return call(a64_decode(word), t, word);
}

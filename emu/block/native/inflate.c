/*
 * Raw deflate (RFC 1951), from memory to memory.
 *
 * A code of at most SHORT bits is found in a table by the next bits of input; a longer one by its place in the canonical
 * order, bit by bit.
 */
#include "qcow2.h"

#include <errno.h>
#include <string.h>

enum { SHORT = 10, LONGEST = 15, LITERALS = 288, DISTANCES = 30, LENGTHS = 19, END = 256 };

typedef struct huffman {
    uint16_t count[LONGEST + 1]; /* codes of each length */
    uint16_t symbols[LITERALS];  /* in canonical order */
    uint16_t direct[1 << SHORT]; /* symbol << 4 | length; 0: longer */
} huffman;

typedef struct stream {
    const uint8_t *in, *in_end;
    uint8_t *out;
    size_t done, size;
    uint64_t bits;
    unsigned have;
    unsigned beyond; /* bytes taken as zero behind the input's end */
} stream;

static void fill(stream *s)
{
    while (s->have <= 56) {
        if (s->in < s->in_end)
            s->bits |= (uint64_t)*s->in++ << s->have;
        else
            s->beyond++;
        s->have += 8;
    }
}

static unsigned take(stream *s, unsigned count)
{
    unsigned value = (unsigned)(s->bits & ((UINT64_C(1) << count) - 1));
    s->bits >>= count;
    s->have -= count;
    return value;
}

/* From the lengths of symbols' codes; a set that is not complete is wrong, but for one code alone. */
static int build(huffman *h, const uint8_t *lengths, unsigned symbols)
{
    uint16_t next[LONGEST + 2] = {0};
    unsigned code = 0, codes[LONGEST + 1];
    int left = 1;
    memset(h, 0, sizeof *h);
    for (unsigned i = 0; i < symbols; i++)
        h->count[lengths[i]]++;
    h->count[0] = 0;
    for (unsigned length = 1; length <= LONGEST; length++) {
        left = left * 2 - h->count[length];
        if (left < 0)
            return -EIO;
        next[length + 1] = (uint16_t)(next[length] + h->count[length]);
        code = (code + h->count[length - 1]) << 1;
        codes[length] = code;
    }
    if (left > 0 && next[LONGEST + 1] > 1)
        return -EIO;
    for (unsigned symbol = 0; symbol < symbols; symbol++) {
        const unsigned length = lengths[symbol];
        if (length == 0)
            continue;
        h->symbols[next[length]++] = (uint16_t)symbol;
        unsigned value = codes[length]++, reversed = 0;
        if (length > SHORT)
            continue;
        for (unsigned bit = 0; bit < length; bit++)
            reversed |= (value >> bit & 1) << (length - 1 - bit);
        for (; reversed < 1u << SHORT; reversed += 1u << length)
            h->direct[reversed] = (uint16_t)(symbol << 4 | length);
    }
    return 0;
}

static int symbol_of(stream *s, const huffman *h)
{
    const unsigned direct = h->direct[s->bits & ((1u << SHORT) - 1)];
    if (direct != 0) {
        take(s, direct & 15);
        return (int)(direct >> 4);
    }
    unsigned code = 0, first = 0, index = 0;
    for (unsigned length = 1; length <= LONGEST; length++) {
        code |= take(s, 1);
        const unsigned count = h->count[length];
        if (code < first + count)
            return h->symbols[index + code - first];
        index += count;
        first = (first + count) << 1;
        code <<= 1;
    }
    return -EIO;
}

static int stored(stream *s)
{
    take(s, s->have % 8);
    fill(s);
    const unsigned length = take(s, 16), complement = take(s, 16);
    if (length != (~complement & 0xffff))
        return -EIO;
    /* Whole bytes that were taken too early go back. */
    unsigned early = s->have / 8;
    if (s->beyond > early)
        return -EIO;
    s->in -= early - s->beyond;
    s->bits = s->have = s->beyond = 0;
    if (length > (size_t)(s->in_end - s->in) || length > s->size - s->done)
        return -EIO;
    memcpy(s->out + s->done, s->in, length);
    s->in += length;
    s->done += length;
    return 0;
}

static int coded(stream *s, const huffman *literals, const huffman *distances)
{
    static const uint16_t length_base[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                           31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t length_extra[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t distance_base[] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
                                             193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    for (;;) {
        fill(s);
        int symbol = symbol_of(s, literals);
        if (symbol < 0 || s->beyond > 8)
            return -EIO;
        if (symbol < END) {
            if (s->done == s->size)
                return -EIO;
            s->out[s->done++] = (uint8_t)symbol;
            continue;
        }
        if (symbol == END)
            return 0;
        if (symbol - END - 1 >= (int)(sizeof length_base / sizeof *length_base))
            return -EIO;
        size_t length = length_base[symbol - END - 1] + take(s, length_extra[symbol - END - 1]);
        fill(s);
        symbol = symbol_of(s, distances);
        if (symbol < 0 || symbol >= DISTANCES)
            return -EIO;
        fill(s);
        size_t distance = distance_base[symbol] + take(s, symbol < 4 ? 0 : (unsigned)symbol / 2 - 1);
        if (distance > s->done || length > s->size - s->done)
            return -EIO;
        for (uint8_t *to = s->out + s->done, *end = to + length; to < end; to++)
            *to = to[-(ptrdiff_t)distance];
        s->done += length;
    }
}

static int fixed(stream *s)
{
    uint8_t lengths[LITERALS], thirty[DISTANCES + 2];
    huffman literals, distances;
    memset(lengths, 8, 144);
    memset(lengths + 144, 9, 112);
    memset(lengths + 256, 7, 24);
    memset(lengths + 280, 8, 8);
    memset(thirty, 5, sizeof thirty);
    build(&literals, lengths, LITERALS);
    build(&distances, thirty, sizeof thirty);
    return coded(s, &literals, &distances);
}

static int dynamic(stream *s)
{
    static const uint8_t order[LENGTHS] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[LITERALS + 32 + 138] = {0}, of_lengths[LENGTHS] = {0};
    huffman literals, distances;
    fill(s);
    const unsigned literal_count = take(s, 5) + 257, distance_count = take(s, 5) + 1, length_count = take(s, 4) + 4;
    if (literal_count > 286 || distance_count > DISTANCES)
        return -EIO;
    for (unsigned i = 0; i < length_count; i++) {
        fill(s);
        of_lengths[order[i]] = (uint8_t)take(s, 3);
    }
    if (build(&literals, of_lengths, LENGTHS) != 0)
        return -EIO;
    for (unsigned i = 0; i < literal_count + distance_count;) {
        fill(s);
        int symbol = symbol_of(s, &literals);
        if (symbol < 0 || s->beyond > 8)
            return -EIO;
        if (symbol < 16) {
            lengths[i++] = (uint8_t)symbol;
            continue;
        }
        if (symbol == 16 && i == 0)
            return -EIO;
        const uint8_t value = symbol == 16 ? lengths[i - 1] : 0;
        const unsigned times = symbol == 16 ? 3 + take(s, 2) : symbol == 17 ? 3 + take(s, 3) : 11 + take(s, 7);
        memset(lengths + i, value, times);
        i += times;
        if (i > literal_count + distance_count)
            return -EIO;
    }
    if (lengths[END] == 0 || build(&literals, lengths, literal_count) != 0 ||
        build(&distances, lengths + literal_count, distance_count) != 0)
        return -EIO;
    return coded(s, &literals, &distances);
}

int emu_inflate(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    stream s = {.in = in, .in_end = in + in_size, .out = out, .size = out_size};
    for (unsigned last = 0; !last && s.done < out_size;) {
        fill(&s);
        last = take(&s, 1);
        const unsigned kind = take(&s, 2);
        int failed = kind == 0 ? stored(&s) : kind == 1 ? fixed(&s) : kind == 2 ? dynamic(&s) : -EIO;
        if (failed != 0)
            return failed;
    }
    return s.done == out_size ? 0 : -EIO;
}

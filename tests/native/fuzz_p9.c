/*
 * Requests to the 9P server from a hostile client: fuzz_p9 FOLDER CASES SEED.
 * FOLDER holds `share`, which is served, and `secret` beside it, which must be
 * as it was.  Messages are of every kind, with numbers of fids in use, names
 * that lead away, sizes that lie, in parts of odd lengths.  Sanitizers watch.
 */
#include "p9.h"
#include "p9_wire.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static uint64_t state;

static uint32_t any(uint32_t below)
{
    state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(state >> 33) % below;
}

static const char *const names[] = {"a",  "b",   "d",      "link", "..",        ".",     "",       "../secret",
                                    "/",  "d/a", "secret", "fifo", "/etc/passwd", "share", "..\n", "link/secret"};
static const uint8_t kinds[] = {8,  12, 14, 16,  18,  20,  22,  24,  26,  30,  32,  40,  50,  52,
                                54, 70, 72, 74,  76,  102, 104, 108, 110, 110, 110, 116, 118,
                                12, 14, 72, 104, 120, 122, 0,   255};

static uint32_t number(void) { return any(20) == 0 ? any(UINT32_MAX) : any(12); }

static void put_name(struct p9_message *m)
{
    if (any(30) == 0)
        p9_put(m, any(65536), 2); /* a length and no text */
    else
        p9_put_string(m, names[any(sizeof names / sizeof *names)]);
}

/* The fields of a kind as its sender writes them, or others. */
static void fill(struct p9_message *m, uint8_t kind)
{
    static const char *const forms[256] = {
        [8] = "4", [12] = "4o", [14] = "4so44", [16] = "4ss4", [18] = "4s4444", [20] = "44s", [22] = "4",
        [24] = "48", [26] = "4444488888", [30] = "44s", [32] = "4s84", [40] = "484", [50] = "44",
        [52] = "414884s", [54] = "41884s", [70] = "44s", [72] = "4s44", [74] = "4s4s", [76] = "4s4",
        [100] = "vS", [102] = "4ss", [104] = "44ss4", [108] = "2", [110] = "44w", [116] = "484",
        [118] = "48d", [120] = "4", [122] = "4",
    };
    for (const char *form = forms[kind] != NULL ? forms[kind] : "448"; *form != 0; form++) {
        uint32_t count;
        switch (*form) {
        case '1':
        case '2':
        case '4':
            p9_put(m, number(), (uint32_t)(*form - '0'));
            break;
        case '8':
            p9_put(m, any(4) == 0 ? (uint64_t)any(UINT32_MAX) << 31 : any(9000), 8);
            break;
        case 'o': /* flags of an open: mostly reading and writing, mostly making */
            p9_put(m, (any(4) & 3) | (any(2) ? 0100 : 0) | (any(8) == 0 ? any(UINT32_MAX) : 0), 4);
            break;
        case 's':
            put_name(m);
            break;
        case 'v':
            p9_put(m, any(4) == 0 ? any(8192) : 65536, 4);
            break;
        case 'S':
            p9_put_string(m, any(8) ? "9P2000.L" : "9P2000");
            break;
        case 'w':
            count = any(30) == 0 ? any(65536) : any(3);
            p9_put(m, count, 2);
            for (uint32_t i = 0; i < count && i < 20; i++)
                put_name(m);
            break;
        case 'd':
            count = any(10) == 0 ? any(UINT32_MAX) : any(3000);
            p9_put(m, count, 4);
            for (uint32_t i = 0; i < count && i < 3000; i += 8)
                p9_put(m, any(UINT32_MAX), 8);
            break;
        }
    }
}

/* Parts of odd lengths, in memory of their own so that a step outside is seen. */
static int parts_of(struct iovec *parts, const uint8_t *data, size_t size)
{
    int count = 0;
    for (size_t at = 0; at < size; count++) {
        size_t n = count == 30 ? size - at : 1 + any(any(2) ? 16 : 4096);
        n = n < size - at ? n : size - at;
        parts[count].iov_base = malloc(n);
        parts[count].iov_len = n;
        if (data != NULL)
            memcpy(parts[count].iov_base, data + at, n);
        at += n;
    }
    return count;
}

int main(int argc, char **argv)
{
    char path[4096];
    static uint8_t buffer[8192];
    struct rlimit size = {1 << 24, 1 << 24};
    if (argc != 4)
        return 2;
    snprintf(path, sizeof path, "%s/share", argv[1]);
    int root = open(path, O_RDONLY | O_DIRECTORY);
    state = strtoull(argv[3], NULL, 0) * 2 + 1;
    signal(SIGXFSZ, SIG_IGN); /* a file that grows beyond is the guest's error */
    setrlimit(RLIMIT_FSIZE, &size);
    emu_p9 *server = emu_p9_new(root, 0);
    unsigned long cases = strtoul(argv[2], NULL, 0), answered = 0, refused = 0;
    for (unsigned long i = 0; i < cases; i++) {
        uint8_t kind = i % 500 == 0 ? 104 : any(300) == 0 ? (uint8_t)any(256) : kinds[any(sizeof kinds)];
        struct p9_message m = {buffer, sizeof buffer, P9_HEADER, false};
        fill(&m, kind);
        uint32_t whole = m.at;
        if (any(40) == 0)
            whole = any(whole + 1);
        m.at = 0;
        m.bad = false;
        p9_put(&m, any(40) == 0 ? any(UINT32_MAX) : whole, 4);
        p9_put(&m, kind, 1);
        p9_put(&m, any(65536), 2);
        struct iovec out[32], in[32], kept[2][32];
        int outs = parts_of(out, buffer, whole);
        int ins = parts_of(in, NULL, any(20) == 0 ? any(16) : any(9000));
        memcpy(kept[0], out, sizeof out);
        memcpy(kept[1], in, sizeof in);
        uint64_t done = emu_p9_serve(server, out, outs, in, ins);
        answered += done != 0;
        refused += done == 0;
        for (int n = 0; n < outs; n++)
            free(kept[0][n].iov_base);
        for (int n = 0; n < ins; n++)
            free(kept[1][n].iov_base);
    }
    emu_p9_free(server);
    printf("%lu answered, %lu refused\n", answered, refused);
    return 0;
}

/*
 * Pages of L2 tables and refcount blocks, kept in memory and written later.
 *
 * A page is found by its offset in the file, in a hash table; when all are taken, the next that was not used since the
 * last round goes, written or never changed.
 */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* 8 MiB: the tables of 64 GiB in clusters of 64 KiB. */
enum { PAGE = 4096, PAGES = 2048, BUCKETS = 4096 };

int qcow2_pages_init(emu_qcow2 *q)
{
    q->page_bytes = q->cluster < PAGE ? (uint32_t)q->cluster : PAGE;
    q->pages = calloc(PAGES, sizeof *q->pages);
    q->buckets = malloc(BUCKETS * sizeof *q->buckets);
    if (q->pages == NULL || q->buckets == NULL)
        return -ENOMEM;
    memset(q->buckets, 0xff, BUCKETS * sizeof *q->buckets);
    return 0;
}

void qcow2_pages_free(emu_qcow2 *q)
{
    for (uint32_t i = 0; i < q->pages_used; i++)
        free(q->pages[i].data);
    free(q->pages);
    free(q->buckets);
}

static int32_t *bucket_of(emu_qcow2 *q, uint64_t offset)
{
    return &q->buckets[(offset * UINT64_C(0x9E3779B97F4A7C15) >> 40) & (BUCKETS - 1)];
}

static void unlink_page(emu_qcow2 *q, int32_t index)
{
    int32_t *at = bucket_of(q, q->pages[index].offset);
    while (*at != index && *at >= 0)
        at = &q->pages[*at].next;
    if (*at == index)
        *at = q->pages[index].next;
}

static void cleaned(emu_qcow2 *q, qcow2_page *page)
{
    if (page->dirty)
        page->of_l2 ? q->dirty_l2-- : q->dirty_blocks--;
    page->dirty = false;
}

/* A page that holds nothing which is not in the file. */
static int spare(emu_qcow2 *q, int32_t *index)
{
    if (q->pages_used < PAGES) {
        char *data = aligned_alloc(PAGE, PAGE);
        if (data == NULL)
            return -ENOMEM;
        *index = (int32_t)q->pages_used++;
        q->pages[*index] = (qcow2_page){.data = data, .offset = UINT64_MAX};
        return 0;
    }
    for (uint32_t tries = 0; tries < 3 * PAGES; tries++) {
        qcow2_page *page = &q->pages[q->pages_hand];
        *index = (int32_t)q->pages_hand;
        q->pages_hand = (q->pages_hand + 1) % PAGES;
        if (!page->dirty && !page->recent) {
            unlink_page(q, *index);
            page->offset = UINT64_MAX;
            return 0;
        }
        page->recent = false;
        if (tries == 2 * PAGES) {
            int failed = qcow2_write_back(q);
            if (failed != 0)
                return failed;
        }
    }
    return -ENOMEM;
}

int qcow2_page_at(emu_qcow2 *q, uint64_t offset, bool of_l2, qcow2_page **page)
{
    for (int32_t i = *bucket_of(q, offset); i >= 0; i = q->pages[i].next)
        if (q->pages[i].offset == offset) {
            *page = &q->pages[i];
            /* One cluster is either: an image that says otherwise is refused before, or lies. */
            if ((*page)->of_l2 != of_l2 && (*page)->dirty)
                return -EIO;
            (*page)->of_l2 = of_l2;
            (*page)->recent = true;
            return 0;
        }
    if (offset >= q->file->size)
        return -EIO;
    int32_t index;
    int failed = spare(q, &index);
    if (failed != 0)
        return failed;
    *page = &q->pages[index];
    failed = emu_file_read(q->file, (*page)->data, q->page_bytes, offset);
    if (failed != 0)
        return failed; /* its offset says that it holds nothing */
    int32_t *bucket = bucket_of(q, offset);
    **page = (qcow2_page){.data = (*page)->data, .offset = offset, .of_l2 = of_l2, .recent = true, .next = *bucket};
    *bucket = index;
    return 0;
}

void qcow2_page_changed(emu_qcow2 *q, qcow2_page *page)
{
    if (!page->dirty)
        page->of_l2 ? q->dirty_l2++ : q->dirty_blocks++;
    page->dirty = true;
}

void qcow2_pages_forget(emu_qcow2 *q, uint64_t offset, uint64_t bytes)
{
    for (uint64_t at = offset; at < offset + bytes; at += q->page_bytes)
        for (int32_t i = *bucket_of(q, at); i >= 0; i = q->pages[i].next)
            if (q->pages[i].offset == at) {
                cleaned(q, &q->pages[i]);
                unlink_page(q, i);
                q->pages[i].offset = UINT64_MAX;
                q->pages[i].recent = false;
                break;
            }
}

static int write_pages(emu_qcow2 *q, bool of_l2)
{
    for (uint32_t i = 0; i < q->pages_used; i++) {
        qcow2_page *page = &q->pages[i];
        if (!page->dirty || page->of_l2 != of_l2)
            continue;
        int failed = emu_file_write(q->file, page->data, q->page_bytes, page->offset);
        if (failed != 0)
            return failed;
        cleaned(q, page);
    }
    return 0;
}

static int write_l1(emu_qcow2 *q)
{
    for (uint32_t i = 0; i < q->l1_size; i += L1_SECTOR) {
        if (!q->l1_dirty[i / L1_SECTOR])
            continue;
        uint64_t sector[L1_SECTOR];
        uint32_t count = q->l1_size - i < L1_SECTOR ? q->l1_size - i : L1_SECTOR;
        for (uint32_t k = 0; k < count; k++)
            sector[k] = htobe64(q->l1[i + k]);
        int failed = emu_file_write(q->file, sector, count * sizeof *sector, q->l1_offset + i * sizeof *sector);
        if (failed != 0)
            return failed;
        q->l1_dirty[i / L1_SECTOR] = 0;
    }
    q->l1_any_dirty = false;
    return 0;
}

int qcow2_write_back(emu_qcow2 *q)
{
    if (q->corrupt)
        return -EIO;
    int failed = q->dirty_blocks > 0 ? write_pages(q, false) : 0;
    if (failed != 0 || (q->dirty_l2 == 0 && !q->l1_any_dirty))
        return failed;
    failed = emu_file_sync(q->file);
    if (failed == 0 && q->dirty_l2 > 0)
        failed = write_pages(q, true);
    if (failed == 0 && q->l1_any_dirty)
        failed = write_l1(q);
    return failed;
}

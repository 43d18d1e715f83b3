/* arena.c: the writer's allocator in one arena, and attaching to an arena.
 *
 * Owns: struct memdb_arena (private memory): a table of pages of MEMDB_PAGE bytes, size classes cut from single
 * pages, page runs, the frontier up to which the segment is backed. Callers: the writer's commit thread, except
 * memdb_view_attach (any thread).
 *
 * Invariants:
 *  - Page 0.. up to the header's size is never handed out. Page numbers are private: 0 means "none" in lists.
 *  - A free run is known by its first and last page (kind FREE, `run` = its length); its neighbours are in use,
 *    punched or beyond the frontier, because runs merge when they meet.
 *  - A slab page with a free block is in its class's `partial` list; one without a used block is a free page again,
 *    so that an arena in which things have been deleted can be used for other sizes.
 *  - Nothing here writes into blocks; only the header's figures are stored to the arena (relaxed: they are hints).
 */
#include "arena.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "hugepage.h"

enum page_kind { PAGE_BEYOND = 0, PAGE_FREE, PAGE_SLAB, PAGE_RUN, PAGE_BODY, PAGE_PUNCHED, PAGE_HEADER };

#define CLASSES 76u
#define BINS 32u
#define SLAB_MAX (MEMDB_PAGE / 4)

struct page {
    uint8_t kind, class;
    uint16_t used;       /* blocks of a slab */
    uint16_t hint;       /* lowest word of bits that may have a free block */
    uint32_t run;        /* pages, in the first (and for free runs the last) page of a run */
    uint32_t prev, next; /* in a class's partial list or a bin */
    uint64_t bits[MEMDB_PAGE / MEMDB_GRAIN / 64]; /* slab: 1 = used */
};

struct memdb_arena {
    uint8_t *base;
    struct memdb_arena_header *header;
    uint64_t size, limit;
    int fd;
    struct page *pages;
    uint32_t page_count;   /* of `size` */
    uint32_t frontier;     /* pages below it are backed or punched */
    uint32_t first_page;   /* behind the header */
    uint32_t free_pages;   /* backed and free */
    uint32_t punched_pages;
    uint32_t chunk;        /* pages of one step of growth */
    uint32_t kept, kept_end; /* the pages that were reserved in one piece: slabs take others while there are any */
    memdb_gathering gathering;
    uint64_t used_bytes, blocks;
    uint32_t partial[CLASSES];
    uint32_t bins[BINS];
    uint16_t class_size[CLASSES];
    uint16_t class_count[CLASSES];
};

/* ---------------------------------------------------------------- size classes ------------------------- */

/* Up to 1024 bytes each multiple of 16, above it a page divided by 15, 14 ... 4. */
static uint32_t class_bytes(uint32_t class)
{
    if (class < 64)
        return (class + 1) * MEMDB_GRAIN;
    return MEMDB_PAGE / (15 - (class - 64)) / MEMDB_GRAIN * MEMDB_GRAIN;
}

static uint32_t class_of(uint64_t bytes)
{
    if (bytes <= 1024)
        return bytes == 0 ? 0 : (uint32_t)((bytes - 1) / MEMDB_GRAIN);
    uint32_t class = 64;
    while (class_bytes(class) < bytes)
        class++;
    return class;
}

uint64_t memdb_arena_rounded(uint64_t bytes)
{
    if (bytes <= SLAB_MAX)
        return class_bytes(class_of(bytes));
    return (bytes + MEMDB_PAGE - 1) / MEMDB_PAGE * MEMDB_PAGE;
}

/* ---------------------------------------------------------------- lists of pages ----------------------- */

static void list_push(struct memdb_arena *a, uint32_t *head, uint32_t page)
{
    a->pages[page].prev = 0;
    a->pages[page].next = *head;
    if (*head)
        a->pages[*head].prev = page;
    *head = page;
}

static void list_drop(struct memdb_arena *a, uint32_t *head, uint32_t page)
{
    struct page *p = &a->pages[page];
    if (p->prev)
        a->pages[p->prev].next = p->next;
    else
        *head = p->next;
    if (p->next)
        a->pages[p->next].prev = p->prev;
}

static uint32_t bin_of(uint32_t pages) { return 31u - (uint32_t)__builtin_clz(pages); }

static void run_insert(struct memdb_arena *a, uint32_t first, uint32_t count)
{
    struct page *head = &a->pages[first], *tail = &a->pages[first + count - 1];
    for (uint32_t i = first; i < first + count; i++)
        a->pages[i].kind = PAGE_FREE;
    head->run = tail->run = count;
    list_push(a, &a->bins[bin_of(count)], first);
}

static void run_drop(struct memdb_arena *a, uint32_t first)
{
    list_drop(a, &a->bins[bin_of(a->pages[first].run)], first);
}

static void run_free(struct memdb_arena *a, uint32_t first, uint32_t count)
{
    a->free_pages += count;
    if (first > a->first_page && a->pages[first - 1].kind == PAGE_FREE) {
        uint32_t before = a->pages[first - 1].run;
        first -= before;
        count += before;
        run_drop(a, first);
    }
    if (first + count < a->frontier && a->pages[first + count].kind == PAGE_FREE) {
        uint32_t behind = first + count;
        count += a->pages[behind].run;
        run_drop(a, behind);
    }
    run_insert(a, first, count);
}

/* First page of a free run of at least `count`, 0 if none. */
static uint32_t run_find(const struct memdb_arena *a, uint32_t count)
{
    for (uint32_t bin = bin_of(count); bin < BINS; bin++)
        for (uint32_t page = a->bins[bin]; page; page = a->pages[page].next)
            if (a->pages[page].run >= count)
                return page;
    return 0;
}

/* One page that lies outside of what is kept in one piece, 0 if none. Where a run reaches into it, its front may lie before it. */
static uint32_t page_find(const struct memdb_arena *a)
{
    for (uint32_t bin = 0; bin < BINS; bin++)
        for (uint32_t page = a->bins[bin]; page; page = a->pages[page].next)
            if (page < a->kept || page >= a->kept_end)
                return page;
    return 0;
}

static void run_cut(struct memdb_arena *a, uint32_t first, uint32_t count)
{
    uint32_t all = a->pages[first].run;
    run_drop(a, first);
    if (all > count)
        run_insert(a, first + count, all - count);
    a->free_pages -= count;
}

/* ---------------------------------------------------------------- growth ------------------------------- */

static int back(struct memdb_arena *a, uint32_t first, uint32_t count)
{
    if (a->fd < 0)
        return MEMDB_OK;
    int error;
    do
        error = posix_fallocate(a->fd, (off_t)first * MEMDB_PAGE, (off_t)count * MEMDB_PAGE);
    while (error == EINTR);
    return error == 0 ? MEMDB_OK : MEMDB_SHM_FULL;
}

static int grow(struct memdb_arena *a, uint32_t count)
{
    if (count > a->page_count - a->frontier)
        return MEMDB_FULL;
    int status = back(a, a->frontier, count);
    if (status != MEMDB_OK)
        return status;
    uint32_t first = a->frontier;
    a->frontier += count;
    run_free(a, first, count);
    return MEMDB_OK;
}

/* Backs punched pages again, run by run, until `count` more pages are free. */
static int unpunch(struct memdb_arena *a, uint32_t count)
{
    for (uint32_t i = a->first_page; i < a->frontier && a->punched_pages && count; i++) {
        if (a->pages[i].kind != PAGE_PUNCHED)
            continue;
        uint32_t n = 1;
        while (i + n < a->frontier && n < count && a->pages[i + n].kind == PAGE_PUNCHED)
            n++;
        int status = back(a, i, n);
        if (status != MEMDB_OK)
            return status;
        a->punched_pages -= n;
        run_free(a, i, n);
        count -= n;
        i += n - 1;
    }
    return count == 0 ? MEMDB_OK : MEMDB_FULL;
}

static uint32_t backed_pages(const struct memdb_arena *a) { return a->frontier - a->punched_pages; }

static int want_pages(struct memdb_arena *a, uint32_t count)
{
    while (a->free_pages < count) {
        uint32_t missing = count - a->free_pages, room = a->page_count - a->frontier;
        uint32_t limit_pages = (uint32_t)(a->limit / MEMDB_PAGE), backed = backed_pages(a);
        uint32_t step = missing > a->chunk ? missing : a->chunk;
        if (backed + step > limit_pages) /* no chunks beyond the limit, only what is needed */
            step = backed + missing > limit_pages ? missing : limit_pages - backed;
        if (step > room)
            step = room;
        if (step == 0)
            return unpunch(a, missing);
        int status = grow(a, step);
        if (status == MEMDB_SHM_FULL && step > missing)
            status = grow(a, missing < room ? missing : room);
        if (status != MEMDB_OK)
            return status;
    }
    return MEMDB_OK;
}

static int want_run(struct memdb_arena *a, uint32_t count)
{
    if (run_find(a, count))
        return MEMDB_OK;
    uint32_t tail = 0;
    if (a->frontier > a->first_page && a->pages[a->frontier - 1].kind == PAGE_FREE)
        tail = a->pages[a->frontier - 1].run;
    int status = grow(a, count - tail);
    while (status == MEMDB_FULL && a->punched_pages) { /* no new pages are left: old ones, until some lie together */
        status = unpunch(a, a->punched_pages < count ? a->punched_pages : count);
        if (status == MEMDB_OK && !run_find(a, count))
            status = MEMDB_FULL;
    }
    return status;
}

/* ---------------------------------------------------------------- reserve ------------------------------ */

#define DELETE_CLASSES 8u /* of a commit that only deletes: tombstone, outcome's cell and version, blocks and header of its insert */

/* Pages that blocks of `bytes` in all can take at most: the blocks themselves (a slab wastes at most 1/15 at its end)
 * and one begun page for each class they may fall into; k different classes take at least 16 * k(k+1)/2 bytes. */
static uint64_t pages_for(uint64_t bytes, uint64_t most_classes)
{
    uint64_t classes = 1;
    while (classes < most_classes && 8 * classes * (classes + 1) < bytes)
        classes++;
    return (bytes / 15 * 16 + 15) / MEMDB_PAGE + 1 + classes;
}

int memdb_arena_reserve(struct memdb_arena *a, uint64_t bytes, uint64_t run_bytes, enum memdb_purpose purpose)
{
    bool deletes = purpose == MEMDB_FOR_DELETE; /* tombstones, all of one class, and the few blocks of an outcome */
    uint64_t need = bytes ? pages_for(bytes, deletes ? DELETE_CLASSES : CLASSES) : 0;
    /* Blocks of several pages, which are whole pages, may be all of it. With so much in one piece, and the rest anywhere, none fails:
     * what takes a page elsewhere first leaves the piece long enough for the others, in any order. */
    uint64_t run = bytes > SLAB_MAX && !deletes ? bytes / MEMDB_PAGE : 0;
    if (run_bytes) {
        run += (run_bytes + MEMDB_PAGE - 1) / MEMDB_PAGE;
        need += (run_bytes + MEMDB_PAGE - 1) / MEMDB_PAGE;
    }
    a->kept = a->kept_end = 0;
    if (need >= a->page_count)
        return MEMDB_FULL;
    int64_t limit = (int64_t)(a->limit / MEMDB_PAGE);
    int64_t cap = limit; /* pages that may be backed at the end */
    if (purpose == MEMDB_FOR_RECOVERY || deletes)
        cap = (int64_t)a->page_count; /* a tombstone for every key fits into the quarter above the limit: deletes always find room */
    else if (a->used_bytes + bytes + run_bytes <= a->limit / 16 * 15)
        cap += limit / 16; /* pages are full of holes: a sixteenth more, so that small free blocks can be used at all */
    int64_t spare = purpose == MEMDB_FOR_WRITE ? limit / 64 : 0;
    int64_t backed = (int64_t)backed_pages(a);
    if ((int64_t)need + spare > (int64_t)a->free_pages + cap - backed)
        return MEMDB_FULL;
    int status = want_pages(a, (uint32_t)need);
    if (status != MEMDB_OK || run <= 1)
        return status;
    if (!run_find(a, (uint32_t)run)) {
        if ((int64_t)backed_pages(a) + (int64_t)run > cap)
            return MEMDB_FULL;
        if ((status = want_run(a, (uint32_t)run)) != MEMDB_OK)
            return status;
    }
    a->kept = run_find(a, (uint32_t)run);
    a->kept_end = a->kept + (uint32_t)run;
    return MEMDB_OK;
}

/* ---------------------------------------------------------------- alloc and release -------------------- */

static uint32_t take_pages(struct memdb_arena *a, uint32_t count)
{
    uint32_t first = count == 1 ? page_find(a) : 0;
    if (!first)
        first = run_find(a, count);
    if (!first) { /* outside of what was reserved: reclaim copies blocks in order to free more than it takes */
        bool chunk = a->chunk > count && a->chunk < a->page_count - a->frontier && backed_pages(a) + a->chunk < a->limit / MEMDB_PAGE;
        int status = grow(a, chunk ? a->chunk : count);
        if (status != MEMDB_OK)
            status = unpunch(a, count);
        if (status != MEMDB_OK || !(first = run_find(a, count)))
            return 0;
    }
    run_cut(a, first, count);
    return first;
}

static memdb_ref ref_of(uint64_t offset) { return (memdb_ref)(offset / MEMDB_GRAIN); }

static memdb_ref alloc_run(struct memdb_arena *a, uint64_t bytes)
{
    uint64_t pages = (bytes + MEMDB_PAGE - 1) / MEMDB_PAGE;
    if (pages >= a->page_count)
        return 0;
    uint32_t count = (uint32_t)pages, first = take_pages(a, count);
    if (!first)
        return 0;
    a->pages[first].kind = PAGE_RUN;
    a->pages[first].run = count;
    for (uint32_t i = 1; i < count; i++)
        a->pages[first + i].kind = PAGE_BODY;
    a->used_bytes += (uint64_t)count * MEMDB_PAGE;
    a->blocks++;
    return ref_of((uint64_t)first * MEMDB_PAGE);
}

static uint32_t new_slab(struct memdb_arena *a, uint32_t class)
{
    uint32_t page = take_pages(a, 1);
    if (!page)
        return 0;
    struct page *p = &a->pages[page];
    p->kind = PAGE_SLAB;
    p->class = (uint8_t)class;
    p->used = p->hint = 0;
    memset(p->bits, 0, sizeof p->bits);
    list_push(a, &a->partial[class], page);
    return page;
}

memdb_ref memdb_arena_alloc(struct memdb_arena *a, uint64_t bytes)
{
    if (bytes > SLAB_MAX)
        return alloc_run(a, bytes);
    uint32_t class = class_of(bytes), page = a->partial[class];
    if (!page && !(page = new_slab(a, class)))
        return 0;
    struct page *p = &a->pages[page];
    uint32_t word = p->hint;
    while (~p->bits[word] == 0)
        word++;
    uint32_t bit = (uint32_t)__builtin_ctzll(~p->bits[word]);
    p->bits[word] |= UINT64_C(1) << bit;
    p->hint = (uint16_t)word;
    if (++p->used == a->class_count[class])
        list_drop(a, &a->partial[class], page);
    a->used_bytes += a->class_size[class];
    a->blocks++;
    return ref_of((uint64_t)page * MEMDB_PAGE + (uint64_t)(word * 64 + bit) * a->class_size[class]);
}

bool memdb_arena_allocated(struct memdb_arena *a, memdb_ref ref, uint64_t bytes)
{
    uint64_t offset = (uint64_t)ref * MEMDB_GRAIN;
    if (offset >= (uint64_t)a->frontier * MEMDB_PAGE)
        return false;
    const struct page *p = &a->pages[offset / MEMDB_PAGE];
    uint32_t inside = (uint32_t)(offset % MEMDB_PAGE);
    if (p->kind == PAGE_RUN)
        return inside == 0 && bytes > SLAB_MAX && p->run == (bytes + MEMDB_PAGE - 1) / MEMDB_PAGE;
    if (p->kind != PAGE_SLAB || bytes > SLAB_MAX || class_of(bytes) != p->class || inside % a->class_size[p->class])
        return false;
    uint32_t index = inside / a->class_size[p->class];
    return p->bits[index / 64] >> (index % 64) & 1;
}

void memdb_arena_release(struct memdb_arena *a, memdb_ref ref, uint64_t bytes)
{
    assert(memdb_arena_allocated(a, ref, bytes));
    uint64_t offset = (uint64_t)ref * MEMDB_GRAIN;
    uint32_t page = (uint32_t)(offset / MEMDB_PAGE);
    struct page *p = &a->pages[page];
    a->blocks--;
    if (p->kind == PAGE_RUN) {
        a->used_bytes -= (uint64_t)p->run * MEMDB_PAGE;
        run_free(a, page, p->run);
        return;
    }
    uint32_t class = p->class, index = (uint32_t)(offset % MEMDB_PAGE) / a->class_size[class];
    a->used_bytes -= a->class_size[class];
    p->bits[index / 64] &= ~(UINT64_C(1) << (index % 64));
    if (index / 64 < p->hint)
        p->hint = (uint16_t)(index / 64);
    if (p->used-- == a->class_count[class])
        list_push(a, &a->partial[class], page);
    if (p->used == 0) {
        list_drop(a, &a->partial[class], page);
        run_free(a, page, 1);
    }
}

void *memdb_arena_at(struct memdb_arena *a, memdb_ref ref) { return a->base + (uint64_t)ref * MEMDB_GRAIN; }

uint64_t memdb_arena_used(const struct memdb_arena *a) { return a->used_bytes; }

uint64_t memdb_arena_blocks(const struct memdb_arena *a) { return a->blocks; }

void memdb_arena_figures(struct memdb_arena *a)
{
    uint64_t reserved = (uint64_t)backed_pages(a) * MEMDB_PAGE;
    uint64_t head = (uint64_t)a->first_page * MEMDB_PAGE;
    memdb_store_relaxed(&a->header->used_bytes, a->used_bytes);
    memdb_store_relaxed(&a->header->reserved_bytes, reserved);
    memdb_store_relaxed(&a->header->free_bytes, reserved - head - a->used_bytes);
}

uint64_t memdb_arena_punch(struct memdb_arena *a)
{
    uint64_t given = 0;
    if (a->fd < 0)
        return 0;
    for (uint32_t i = a->first_page; i < a->frontier; i++) {
        if (a->pages[i].kind != PAGE_FREE)
            continue;
        uint32_t count = a->pages[i].run;
        if (fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)i * MEMDB_PAGE,
                      (off_t)count * MEMDB_PAGE) != 0)
            return given;
        run_cut(a, i, count);
        for (uint32_t k = 0; k < count; k++)
            a->pages[i + k].kind = PAGE_PUNCHED;
        a->punched_pages += count;
        given += (uint64_t)count * MEMDB_PAGE;
        i += count - 1;
    }
    memdb_arena_figures(a);
    return given;
}

bool memdb_arena_gather(struct memdb_arena *a)
{
    if (a->fd < 0 || a->punched_pages > 0) /* gathering would back again what was given back */
        return false;
    return memdb_gather_next(&a->gathering, a->base, (uint64_t)a->frontier * MEMDB_PAGE);
}

/* ---------------------------------------------------------------- life --------------------------------- */

/* Somebody may be attaching who was stopped for two generations. What memdb_view_attach checks is therefore never cleared: a segment that
 * is formatted again gets the same magic, layout, sizes and parity, and that reader finds out by `published` that it is late. */
static void format(struct memdb_arena_header *h, uint64_t size, uint64_t limit, uint64_t generation, uint64_t hash_seed)
{
    memdb_store_release(&h->ready, 0); /* SYNC: segment-ready */
    memdb_store_sc(&h->published, 0);
    memdb_store_relaxed(&h->generation, generation);
    memdb_store_relaxed(&h->size, size);
    memdb_store_relaxed(&h->limit, limit);
    h->flags = 0;
    h->hash_seed = hash_seed;
    for (memdb_a64 *word = &h->time_floor; word < (memdb_a64 *)(h + 1); word++)
        memdb_store_relaxed(word, 0);
    memdb_store_relaxed(&h->layout, MEMDB_LAYOUT);
    memdb_store_relaxed(&h->magic, MEMDB_ARENA_MAGIC);
}

int memdb_arena_create(struct memdb_arena **out, void *base, uint64_t size, int fd, uint64_t limit, uint64_t generation,
                       uint64_t hash_seed)
{
    uint64_t pages = size / MEMDB_PAGE;
    if (limit > size || pages < 16 || pages > UINT64_C(0x100000000) * MEMDB_GRAIN / MEMDB_PAGE || (uintptr_t)base % 64)
        return MEMDB_INVALID;
    struct memdb_arena *a = calloc(1, sizeof *a);
    struct page *table = calloc(pages, sizeof *table);
    if (!a || !table) {
        free(a);
        free(table);
        return MEMDB_FULL;
    }
    *a = (struct memdb_arena){.base = base, .header = base, .size = size, .limit = limit, .fd = fd, .pages = table};
    a->page_count = (uint32_t)pages;
    a->first_page = (uint32_t)((sizeof(struct memdb_arena_header) + MEMDB_PAGE - 1) / MEMDB_PAGE);
    for (uint32_t c = 0; c < CLASSES; c++) {
        a->class_size[c] = (uint16_t)class_bytes(c);
        a->class_count[c] = (uint16_t)(MEMDB_PAGE / class_bytes(c));
    }
    uint64_t chunk = limit / 64 / MEMDB_PAGE;
    a->chunk = chunk < 4 ? 4 : chunk > 4096 ? 4096 : (uint32_t)chunk;
    int status = back(a, 0, a->first_page);
    if (status != MEMDB_OK) {
        memdb_arena_free(a);
        return status;
    }
    for (uint32_t i = 0; i < a->first_page; i++)
        table[i].kind = PAGE_HEADER;
    a->frontier = a->first_page;
    format(base, size, limit, generation, hash_seed);
    memdb_arena_figures(a);
    *out = a;
    return MEMDB_OK;
}

void memdb_arena_free(struct memdb_arena *a)
{
    if (a)
        free(a->pages);
    free(a);
}

struct memdb_arena_header *memdb_arena_header(struct memdb_arena *a) { return a->header; }

memdb_view memdb_arena_view(struct memdb_arena *a)
{
    return (memdb_view){.header = a->header, .base = a->base, .size = a->size, .parity = (unsigned)(a->header->generation & 1)};
}

int memdb_view_attach(memdb_view *view, const void *base, uint64_t size, unsigned parity)
{
    const struct memdb_arena_header *h = base;
    if (size < sizeof *h)
        return MEMDB_DAMAGED;
    if (memdb_load_acquire(&h->ready) == 0) /* SYNC: segment-ready: what was written before it is whole */
        return MEMDB_AGAIN;
    if (memdb_load_relaxed(&h->magic) != MEMDB_ARENA_MAGIC)
        return MEMDB_DAMAGED;
    if (memdb_load_relaxed(&h->layout) != MEMDB_LAYOUT)
        return MEMDB_INVALID;
    uint64_t mapped = memdb_load_relaxed(&h->size);
    if (mapped > size || memdb_load_relaxed(&h->limit) > mapped || (memdb_load_relaxed(&h->generation) & 1) != parity)
        return MEMDB_DAMAGED;
    view->header = h;
    view->base = base;
    view->size = mapped;
    view->latest = NULL;
    view->parity = parity;
    return MEMDB_OK;
}

/* ---------------------------------------------------------------- audit -------------------------------- */

static bool slab_sound(const struct memdb_arena *a, const struct page *p)
{
    uint32_t set = 0;
    for (size_t w = 0; w < sizeof p->bits / sizeof *p->bits; w++)
        set += (uint32_t)__builtin_popcountll(p->bits[w]);
    return set == p->used && set > 0 && set <= a->class_count[p->class];
}

int memdb_arena_audit(struct memdb_arena *a)
{
    uint64_t used = 0, blocks = 0, partial = 0, listed = 0;
    uint32_t free_pages = 0, punched = 0, runs = 0, binned = 0;
    for (uint32_t i = a->first_page; i < a->frontier;) {
        const struct page *p = &a->pages[i];
        uint32_t step = 1;
        if (p->kind == PAGE_SLAB) {
            if (!slab_sound(a, p))
                return MEMDB_DAMAGED;
            used += (uint64_t)p->used * a->class_size[p->class];
            blocks += p->used;
            partial += p->used < a->class_count[p->class];
        } else if (p->kind == PAGE_RUN) {
            step = p->run;
            used += (uint64_t)step * MEMDB_PAGE;
            blocks++;
        } else if (p->kind == PAGE_FREE) {
            step = p->run;
            if (step == 0 || a->pages[i + step - 1].run != step)
                return MEMDB_DAMAGED;
            free_pages += step;
            runs++;
        } else if (p->kind == PAGE_PUNCHED) {
            punched++;
        } else {
            return MEMDB_DAMAGED;
        }
        i += step;
    }
    for (uint32_t bin = 0; bin < BINS; bin++)
        for (uint32_t page = a->bins[bin]; page; page = a->pages[page].next)
            binned += a->pages[page].kind == PAGE_FREE && bin_of(a->pages[page].run) == bin;
    for (uint32_t c = 0; c < CLASSES; c++)
        for (uint32_t page = a->partial[c]; page; page = a->pages[page].next)
            listed += a->pages[page].kind == PAGE_SLAB && a->pages[page].class == c;
    bool sound = used == a->used_bytes && blocks == a->blocks && free_pages == a->free_pages && runs == binned &&
                 punched == a->punched_pages && partial == listed;
    return sound ? 0 : MEMDB_DAMAGED;
}

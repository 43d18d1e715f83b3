/* window.c: see window.h.
 *
 * Invariants: entries [first, end) are in use, counted for ever and taken modulo the ring; the bytes of an entry lie in one piece, in
 * the order of the entries, within the last MEMDB_WINDOW_BYTES of a second counter. Commit thread only.
 */
#include <stdlib.h>

#include "window.h"

_Static_assert((MEMDB_WINDOW_ENTRIES & (MEMDB_WINDOW_ENTRIES - 1)) == 0, "positions are taken modulo the ring");

struct noted {
    uint64_t lsn, at; /* at: of its bytes, counted for ever */
    uint32_t start_len, stop_len;
};

struct memdb_window {
    uint64_t floor, first, end, tail; /* tail: behind the bytes of the last entry */
    struct noted *entries;
    uint8_t *bytes;
};

memdb_window *memdb_window_new(uint64_t floor)
{
    memdb_window *window = calloc(1, sizeof *window);
    if (window == NULL)
        return NULL;
    window->floor = floor;
    window->entries = malloc(MEMDB_WINDOW_ENTRIES * sizeof *window->entries);
    window->bytes = malloc(MEMDB_WINDOW_BYTES);
    if (window->entries == NULL || window->bytes == NULL) {
        memdb_window_free(window);
        return NULL;
    }
    return window;
}

void memdb_window_free(memdb_window *window)
{
    if (window == NULL)
        return;
    free(window->entries);
    free(window->bytes);
    free(window);
}

static struct noted *noted_at(const memdb_window *window, uint64_t index)
{
    return &window->entries[index & (MEMDB_WINDOW_ENTRIES - 1)];
}

/* The oldest entry goes, and with it the claim to know its commit. */
static void forget(memdb_window *window)
{
    uint64_t lsn = noted_at(window, window->first++)->lsn;
    if (lsn > window->floor)
        window->floor = lsn;
}

/* Where `needed` bytes begin: in one piece, so a rest at the ring's end that is too short is passed over. */
static uint64_t place(const memdb_window *window, size_t needed)
{
    uint64_t offset = window->tail % MEMDB_WINDOW_BYTES;
    return offset + needed > MEMDB_WINDOW_BYTES ? window->tail + (MEMDB_WINDOW_BYTES - offset) : window->tail;
}

/* The bytes of a new entry, NULL if it does not fit at all: then its commit is one that the window does not know. */
static uint8_t *append(memdb_window *window, uint64_t lsn, size_t start_len, size_t stop_len)
{
    size_t needed = start_len + stop_len;
    if (needed > MEMDB_WINDOW_BYTES) {
        while (window->first != window->end)
            forget(window);
        window->floor = lsn;
        return NULL;
    }
    uint64_t at = place(window, needed);
    while (window->first != window->end && (window->end - window->first == MEMDB_WINDOW_ENTRIES ||
                                            at + needed - noted_at(window, window->first)->at > MEMDB_WINDOW_BYTES))
        forget(window);
    *noted_at(window, window->end++) = (struct noted){lsn, at, (uint32_t)start_len, (uint32_t)stop_len};
    window->tail = at + needed;
    return window->bytes + at % MEMDB_WINDOW_BYTES;
}

void memdb_window_note_key(memdb_window *window, uint64_t lsn, const void *key, size_t len)
{
    if (*(const uint8_t *)key == MEMDB_SPACE_SYSTEM)
        return;
    uint8_t *bytes = append(window, lsn, len, 0);
    if (bytes != NULL)
        memcpy(bytes, key, len);
}

void memdb_window_note_range(memdb_window *window, uint64_t lsn, const void *start, size_t start_len, const void *stop, size_t stop_len)
{
    if (*(const uint8_t *)start == MEMDB_SPACE_SYSTEM)
        return;
    uint8_t *bytes = append(window, lsn, start_len, stop_len);
    if (bytes != NULL) {
        memcpy(bytes, start, start_len);
        memcpy(bytes + start_len, stop, stop_len);
    }
}

uint64_t memdb_window_floor(const memdb_window *window)
{
    return window->floor;
}

bool memdb_window_back(const memdb_window *window, uint64_t *cursor, memdb_window_entry *entry)
{
    if (*cursor == window->end - window->first)
        return false;
    const struct noted *noted = noted_at(window, window->end - ++*cursor);
    const uint8_t *bytes = window->bytes + noted->at % MEMDB_WINDOW_BYTES;
    *entry = (memdb_window_entry){noted->lsn, bytes, bytes + noted->start_len, noted->start_len, noted->stop_len};
    return true;
}

int memdb_keys_order(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    if (order != 0)
        return order;
    return a_len < b_len ? -1 : a_len > b_len;
}

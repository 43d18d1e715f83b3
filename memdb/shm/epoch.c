/* epoch.c: pins and hazards (any client thread, on its own slot), and the writer's scan of them.
 *
 * Owns: struct memdb_scanner and its tickets (private memory of the writer). The argument why this is enough stands in
 * epoch.h. Slots and hazards are written by client processes, so nothing in them is trusted beyond "this S is pinned".
 */
#include "epoch.h"

#include <stdlib.h>
#include <time.h>

/* ---------------------------------------------------------------- words -------------------------------- */

#define COUNT_SHIFT 48
#define COUNT_MASK (UINT64_C(0x1fff) << COUNT_SHIFT)
#define STATE_SHIFT 62

static unsigned state_of(uint64_t word) { return (unsigned)(word >> STATE_SHIFT); }

static uint64_t word_of(enum memdb_slot_state state, uint64_t count_bits, uint64_t lsn)
{
    return (uint64_t)state << STATE_SHIFT | (count_bits & COUNT_MASK) | (lsn & MEMDB_LSN_MASK);
}

static uint64_t next_count(uint64_t word) { return (word & COUNT_MASK) + (UINT64_C(1) << COUNT_SHIFT); }

static uint64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---------------------------------------------------------------- pins --------------------------------- */

uint64_t memdb_view_time(const memdb_view *view)
{
    uint64_t now = clock_us(), floor = memdb_load_relaxed(&view->header->time_floor);
    if (now < floor)
        now = floor;
    if (!view->latest)
        return now;
    uint64_t latest = memdb_load_relaxed(view->latest); /* a clock that was set back: what this process saw gone stays gone */
    while (latest < now)
        if (memdb_cas_sc(view->latest, &latest, now))
            return now;
    return latest;
}

uint64_t memdb_pin_time(memdb_pin *pin)
{
    if (pin->time_us == 0)
        pin->time_us = memdb_view_time(&pin->view);
    return pin->time_us;
}

static void describe(memdb_pin *pin, enum memdb_pin_kind kind)
{
    if (kind != MEMDB_PIN_POINT) {
        memdb_store_relaxed(&pin->slot->since, clock_us());
        memdb_store_relaxed(&pin->slot->time, memdb_pin_time(pin));
    }
    if (memdb_load_relaxed(&pin->slot->kind) != (uint64_t)kind)
        memdb_store_relaxed(&pin->slot->kind, (uint64_t)kind);
}

int memdb_pin_begin(memdb_pin *pin, const memdb_view *view, struct memdb_slot *slot, enum memdb_pin_kind kind)
{
    pin->view = *view;
    pin->slot = slot;
    pin->time_us = 0;
    for (;;) {
        /* A REVOKED word is acknowledged by the announcement that replaces it: nothing of the old pin is under way. */
        uint64_t count = next_count(memdb_load_relaxed(&slot->word));
        uint64_t bound = memdb_load_relaxed(&view->header->published);
        uint64_t word = word_of(MEMDB_SLOT_ACTIVE, count, bound);
        memdb_store_sc(&slot->word, word);                        /* SYNC: slot: announce, then ... */
        uint64_t lsn = memdb_load_sc(&view->header->published);   /* ... take S. SYNC: published */
        if (lsn != bound) {
            uint64_t narrowed = word_of(MEMDB_SLOT_ACTIVE, count, lsn) | MEMDB_SLOT_EXACT;
            if (!memdb_cas_sc(&slot->word, &word, narrowed)) /* SYNC: slot: revoked in between: begin again */
                continue;
            word = narrowed;
        }
        pin->word = word;
        pin->lsn = lsn;
        if (lsn == 0) {
            memdb_pin_end(pin);
            return MEMDB_MOVED;
        }
        describe(pin, kind);
        return MEMDB_OK;
    }
}

int memdb_pin_at(memdb_pin *pin, const memdb_view *view, struct memdb_slot *slot, uint64_t lsn, uint64_t time_us)
{
    uint64_t count = next_count(memdb_load_relaxed(&slot->word));
    pin->view = *view;
    pin->slot = slot;
    pin->lsn = lsn;
    pin->time_us = time_us;
    pin->word = word_of(MEMDB_SLOT_ACTIVE, count, lsn) | MEMDB_SLOT_EXACT;
    memdb_store_sc(&slot->word, pin->word);                       /* SYNC: slot: announce, then ... */
    uint64_t published = memdb_load_sc(&view->header->published); /* ... see all that was unlinked. SYNC: published */
    if (published != 0 && lsn != 0 && lsn <= published) {
        memdb_store_relaxed(&slot->since, clock_us());
        memdb_store_relaxed(&slot->time, time_us);
        memdb_store_relaxed(&slot->kind, MEMDB_PIN_SNAPSHOT);
        return MEMDB_OK;
    }
    memdb_pin_end(pin);
    return published == 0 ? MEMDB_MOVED : MEMDB_INVALID;
}

bool memdb_pin_stands(const memdb_pin *pin)
{
    unsigned state = state_of(pin->word);
    bool held = state == MEMDB_SLOT_ACTIVE || state == MEMDB_SLOT_IDLE;
    return held && memdb_load_sc(&pin->slot->word) == pin->word; /* SYNC: slot: after the answer was taken */
}

/* ACTIVE -> state: one CAS, which fails only if the writer revoked; then the owner acknowledges (rule R6). */
static int unpin(memdb_pin *pin, uint64_t next)
{
    uint64_t seen = pin->word;
    if (memdb_cas_sc(&pin->slot->word, &seen, next)) { /* SYNC: slot: all reads come before, so they are whole */
        pin->word = next;
        return MEMDB_OK;
    }
    pin->word = word_of(MEMDB_SLOT_FREE, next_count(seen), 0);
    memdb_store_sc(&pin->slot->word, pin->word);
    return MEMDB_REVOKED;
}

int memdb_pin_end(memdb_pin *pin)
{
    if (state_of(pin->word) != MEMDB_SLOT_ACTIVE)
        return MEMDB_REVOKED;
    return unpin(pin, word_of(MEMDB_SLOT_FREE, next_count(pin->word), 0));
}

int memdb_pin_leave(memdb_pin *pin)
{
    if (state_of(pin->word) != MEMDB_SLOT_ACTIVE)
        return MEMDB_REVOKED;
    return unpin(pin, word_of(MEMDB_SLOT_IDLE, next_count(pin->word), pin->lsn) | MEMDB_SLOT_EXACT);
}

int memdb_pin_enter(memdb_pin *pin)
{
    if (state_of(pin->word) != MEMDB_SLOT_IDLE)
        return MEMDB_REVOKED;
    int status = unpin(pin, word_of(MEMDB_SLOT_ACTIVE, next_count(pin->word), pin->lsn) | MEMDB_SLOT_EXACT);
    if (status == MEMDB_OK)
        (void)memdb_load_sc(&pin->view.header->published); /* SYNC: published: see all unlinking before the last scan */
    return status;
}

void memdb_pin_close(memdb_pin *pin)
{
    if (!pin->slot || state_of(pin->word) == MEMDB_SLOT_FREE)
        return;
    unpin(pin, word_of(MEMDB_SLOT_FREE, next_count(pin->word), 0));
}

bool memdb_slot_revoke(struct memdb_slot *slot, uint64_t expected)
{
    unsigned state = state_of(expected);
    if (state != MEMDB_SLOT_ACTIVE && state != MEMDB_SLOT_IDLE)
        return false;
    return memdb_cas_sc(&slot->word, &expected, word_of(MEMDB_SLOT_REVOKED, expected, expected)); /* SYNC: slot */
}

/* ---------------------------------------------------------------- hazards ------------------------------ */

int memdb_hazard_set(struct memdb_lease *lease, unsigned parity, memdb_ref owner)
{
    for (unsigned i = 0; i < MEMDB_HAZARDS; i++) {
        uint64_t none = 0;
        if (memdb_load_relaxed(&lease->hazards[parity][i]) != 0)
            continue;
        uint32_t used = memdb_load_sc(&lease->hazards_used);
        while (used <= i && !memdb_cas_sc(&lease->hazards_used, &used, i + 1)) {
        }
        if (memdb_cas_sc(&lease->hazards[parity][i], &none, (uint64_t)owner)) /* SYNC: hazard: before the unpin's CAS */
            return (int)i;
    }
    return -1;
}

void memdb_hazard_clear(struct memdb_lease *lease, unsigned parity, int index)
{
    memdb_store_sc(&lease->hazards[parity][index], 0); /* SYNC: hazard: all reads through the view came before */
}

/* ---------------------------------------------------------------- scanner ------------------------------ */

struct active {
    struct memdb_slot *slot;
    uint64_t word;
};

struct memdb_grace {
    struct memdb_grace *prev, *next; /* among the scanner's open tickets */
    size_t count;
    struct active at[];
};

struct memdb_scanner {
    struct memdb_lease **leases;
    size_t lease_count, lease_cap;
    uint64_t *exact, *open; /* sorted: S of idle or narrowed words; lower bounds of the others */
    struct active *active;
    size_t exact_count, open_count, active_count, cap;
    uint64_t *hazards;
    size_t hazard_count, hazard_cap;
    bool revoked;
    struct memdb_grace *tickets;
};

memdb_scanner *memdb_scanner_new(void) { return calloc(1, sizeof(struct memdb_scanner)); }

void memdb_scanner_free(memdb_scanner *s)
{
    if (!s)
        return;
    while (s->tickets) {
        struct memdb_grace *next = s->tickets->next;
        free(s->tickets);
        s->tickets = next;
    }
    free(s->leases);
    free(s->exact);
    free(s->open);
    free(s->active);
    free(s->hazards);
    free(s);
}

/* The arrays are made large enough for all slots when a lease is added: a scan allocates nothing. */
static bool make_room(memdb_scanner *s)
{
    size_t cap = s->lease_count * MEMDB_SLOTS, hazard_cap = s->lease_count * MEMDB_HAZARDS;
    uint64_t *exact = realloc(s->exact, cap * sizeof *exact);
    s->exact = exact ? exact : s->exact;
    uint64_t *open = realloc(s->open, cap * sizeof *open);
    s->open = open ? open : s->open;
    struct active *active = realloc(s->active, cap * sizeof *active);
    s->active = active ? active : s->active;
    uint64_t *hazards = realloc(s->hazards, hazard_cap * sizeof *hazards);
    s->hazards = hazards ? hazards : s->hazards;
    s->cap = cap;
    s->hazard_cap = hazard_cap;
    return exact && open && active && hazards;
}

int memdb_scanner_add(memdb_scanner *s, struct memdb_lease *lease)
{
    if (s->lease_count == s->lease_cap) {
        size_t cap = s->lease_cap ? s->lease_cap * 2 : 8;
        struct memdb_lease **leases = realloc(s->leases, cap * sizeof *leases);
        if (!leases)
            return MEMDB_FULL;
        s->leases = leases;
        s->lease_cap = cap;
    }
    s->leases[s->lease_count++] = lease;
    if (!make_room(s)) {
        s->lease_count--;
        return MEMDB_FULL;
    }
    return MEMDB_OK;
}

static bool inside(const struct memdb_lease *lease, const struct memdb_slot *slot)
{
    const uint8_t *at = (const uint8_t *)slot, *from = (const uint8_t *)lease;
    return at >= from && at < from + sizeof *lease;
}

void memdb_scanner_remove(memdb_scanner *s, struct memdb_lease *lease)
{
    for (size_t i = 0; i < s->lease_count; i++)
        if (s->leases[i] == lease)
            s->leases[i--] = s->leases[--s->lease_count];
    for (struct memdb_grace *ticket = s->tickets; ticket; ticket = ticket->next)
        for (size_t i = 0; i < ticket->count; i++)
            if (inside(lease, ticket->at[i].slot))
                ticket->at[i--] = ticket->at[--ticket->count];
    for (size_t i = 0; i < s->active_count; i++)
        if (inside(lease, s->active[i].slot))
            s->active[i--] = s->active[--s->active_count];
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static size_t sort_distinct(uint64_t *at, size_t count)
{
    if (count < 2)
        return count;
    qsort(at, count, sizeof *at, compare_u64);
    size_t kept = 1;
    for (size_t i = 1; i < count; i++)
        if (at[i] != at[kept - 1])
            at[kept++] = at[i];
    return kept;
}

static void note(memdb_scanner *s, struct memdb_slot *slot, uint64_t word)
{
    unsigned state = state_of(word);
    if (state == MEMDB_SLOT_REVOKED)
        s->revoked = true;
    if (state != MEMDB_SLOT_ACTIVE && state != MEMDB_SLOT_IDLE)
        return;
    if (state == MEMDB_SLOT_ACTIVE)
        s->active[s->active_count++] = (struct active){slot, word};
    if (word & MEMDB_SLOT_EXACT)
        s->exact[s->exact_count++] = word & MEMDB_LSN_MASK;
    else
        s->open[s->open_count++] = word & MEMDB_LSN_MASK;
}

void memdb_scanner_scan(memdb_scanner *s, unsigned parity)
{
    s->exact_count = s->open_count = s->active_count = 0;
    s->revoked = false;
    for (size_t l = 0; l < s->lease_count; l++) {
        struct memdb_lease *lease = s->leases[l];
        uint32_t used = memdb_load_sc(&lease->slots_used); /* SYNC: slot: raised before a slot's first announcement */
        if (used > MEMDB_SLOTS)
            used = MEMDB_SLOTS;
        for (uint32_t i = 0; i < used; i++) {
            struct memdb_slot *slot = &lease->slots[parity][i];
            note(s, slot, memdb_load_sc(&slot->word)); /* SYNC: slot */
        }
    }
    s->exact_count = sort_distinct(s->exact, s->exact_count);
    s->open_count = sort_distinct(s->open, s->open_count);
}

uint64_t memdb_scanner_oldest(const memdb_scanner *s)
{
    uint64_t exact = s->exact_count ? s->exact[0] : UINT64_MAX, open = s->open_count ? s->open[0] : UINT64_MAX;
    return exact < open ? exact : open;
}

static size_t first_not_below(const uint64_t *at, size_t count, uint64_t value)
{
    size_t low = 0;
    while (count > 0) {
        size_t half = count / 2;
        if (at[low + half] < value) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low;
}

uint64_t memdb_scanner_holder(const memdb_scanner *s, uint64_t from, uint64_t before)
{
    if (from >= before)
        return 0;
    size_t i = first_not_below(s->exact, s->exact_count, from);
    if (i < s->exact_count && s->exact[i] < before)
        return s->exact[i] | MEMDB_SLOT_EXACT;
    if (s->open_count && s->open[0] < before)
        return s->open[0] | MEMDB_HOLDER_OPEN;
    return 0;
}

bool memdb_scanner_holds(const memdb_scanner *s, uint64_t holder)
{
    const uint64_t *at = holder & MEMDB_SLOT_EXACT ? s->exact : s->open;
    size_t count = holder & MEMDB_SLOT_EXACT ? s->exact_count : s->open_count;
    uint64_t lsn = holder & MEMDB_LSN_MASK;
    size_t i = first_not_below(at, count, lsn);
    return i < count && at[i] == lsn;
}

bool memdb_scanner_sees(const memdb_scanner *s, uint64_t from, uint64_t before)
{
    return memdb_scanner_holder(s, from, before) != 0;
}

bool memdb_scanner_unacknowledged(const memdb_scanner *s) { return s->revoked; }

void memdb_scanner_read_hazards(memdb_scanner *s, unsigned parity)
{
    s->hazard_count = 0;
    for (size_t l = 0; l < s->lease_count; l++) {
        struct memdb_lease *lease = s->leases[l];
        uint32_t used = memdb_load_sc(&lease->hazards_used); /* SYNC: hazard */
        if (used > MEMDB_HAZARDS)
            used = MEMDB_HAZARDS;
        for (uint32_t i = 0; i < used; i++) {
            uint64_t owner = memdb_load_sc(&lease->hazards[parity][i]); /* SYNC: hazard */
            if (owner)
                s->hazards[s->hazard_count++] = owner;
        }
    }
    s->hazard_count = sort_distinct(s->hazards, s->hazard_count);
}

bool memdb_scanner_hazarded(const memdb_scanner *s, memdb_ref owner)
{
    size_t i = first_not_below(s->hazards, s->hazard_count, owner);
    return i < s->hazard_count && s->hazards[i] == owner;
}

bool memdb_scanner_hazard(const memdb_scanner *s, unsigned parity, memdb_ref owner)
{
    for (size_t l = 0; l < s->lease_count; l++)
        for (uint32_t i = 0; i < MEMDB_HAZARDS; i++)
            if (memdb_load_sc(&s->leases[l]->hazards[parity][i]) == owner)
                return true;
    return false;
}

/* ---------------------------------------------------------------- grace -------------------------------- */

memdb_grace *memdb_scanner_ticket(memdb_scanner *s, unsigned parity)
{
    (void)parity; /* the last scan's */
    if (s->active_count == 0)
        return NULL;
    struct memdb_grace *ticket = malloc(sizeof *ticket + s->active_count * sizeof *ticket->at);
    if (!ticket)
        abort(); /* private memory of the writer: without it nothing could ever be freed safely */
    ticket->count = s->active_count;
    memcpy(ticket->at, s->active, s->active_count * sizeof *ticket->at);
    ticket->prev = NULL;
    ticket->next = s->tickets;
    if (s->tickets)
        s->tickets->prev = ticket;
    s->tickets = ticket;
    return ticket;
}

bool memdb_grace_over(memdb_scanner *s, memdb_grace *ticket)
{
    (void)s;
    if (!ticket)
        return true;
    for (size_t i = 0; i < ticket->count; i++) {
        if (memdb_load_sc(&ticket->at[i].slot->word) == ticket->at[i].word) /* SYNC: slot */
            continue;
        ticket->at[i--] = ticket->at[--ticket->count];
    }
    return ticket->count == 0;
}

void memdb_grace_free(memdb_scanner *s, memdb_grace *ticket)
{
    if (!ticket)
        return;
    if (ticket->prev)
        ticket->prev->next = ticket->next;
    else
        s->tickets = ticket->next;
    if (ticket->next)
        ticket->next->prev = ticket->prev;
    free(ticket);
}

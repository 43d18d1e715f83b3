/* Pins, snapshots, revocation, hazards, scans and tickets, one after the other; the races are test_race.c and tests/models.
 * CTEST-MODES: plain asan
 */
#include "epoch.h"
#include "store_rig.h"

static rig r;

static void publish(uint64_t lsn) { memdb_store_sc(&memdb_arena_header(r.arena)->published, lsn); }

static uint64_t word(enum memdb_slot_state state, bool exact, uint64_t lsn)
{
    return (uint64_t)state << 62 | (exact ? MEMDB_SLOT_EXACT : 0) | lsn;
}

static void pins(void)
{
    memdb_pin pin;
    struct memdb_slot *slot = &r.lease->slots[0][0];
    publish(0);
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, slot, MEMDB_PIN_POINT), MEMDB_MOVED);
    CHECK_EQUAL(memdb_load_relaxed(&slot->word) >> 62, MEMDB_SLOT_FREE);
    publish(7);
    for (int i = 0; i < 20000; i++) { /* the counter wraps */
        CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, slot, MEMDB_PIN_POINT), MEMDB_OK);
        CHECK_EQUAL(pin.lsn, 7);
        CHECK_EQUAL(memdb_load_relaxed(&slot->word), pin.word);
        CHECK_EQUAL(memdb_load_relaxed(&slot->word) >> 62, MEMDB_SLOT_ACTIVE);
        CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
        CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_REVOKED);
    }
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, slot, MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    uint64_t time = memdb_pin_time(&pin);
    CHECK(time > 0 && memdb_load_relaxed(&slot->time) == time && memdb_load_relaxed(&slot->since) > 0);
    CHECK_EQUAL(memdb_load_relaxed(&slot->kind) & 0xff, MEMDB_PIN_SNAPSHOT);
    CHECK_EQUAL(memdb_pin_enter(&pin), MEMDB_REVOKED); /* it is active */
    CHECK_EQUAL(memdb_pin_leave(&pin), MEMDB_OK);
    publish(9);
    CHECK_EQUAL(memdb_pin_enter(&pin), MEMDB_OK);
    CHECK_EQUAL(pin.lsn, 7);
    CHECK_EQUAL(memdb_pin_time(&pin), time);
    CHECK_EQUAL(memdb_pin_leave(&pin), MEMDB_OK);
    memdb_pin_close(&pin);
    memdb_pin_close(&pin);
    CHECK_EQUAL(memdb_load_relaxed(&slot->word) >> 62, MEMDB_SLOT_FREE);
    /* time never goes back behind the floor */
    memdb_store_relaxed(&memdb_arena_header(r.arena)->time_floor, UINT64_C(1) << 62);
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, slot, MEMDB_PIN_POINT), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_time(&pin), UINT64_C(1) << 62);
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    memdb_store_relaxed(&memdb_arena_header(r.arena)->time_floor, 0);
}

static void revocation(void)
{
    memdb_pin pin;
    struct memdb_slot *slot = &r.lease->slots[0][1];
    CHECK(!memdb_slot_revoke(slot, memdb_load_sc(&slot->word))); /* free */
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, slot, MEMDB_PIN_POINT), MEMDB_OK);
    CHECK(!memdb_slot_revoke(slot, pin.word + 1));
    CHECK(memdb_slot_revoke(slot, pin.word));
    CHECK(!memdb_slot_revoke(slot, pin.word));
    memdb_scanner_scan(r.scanner, 0);
    CHECK(memdb_scanner_unacknowledged(r.scanner));
    CHECK_EQUAL(memdb_scanner_oldest(r.scanner), UINT64_MAX);
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_REVOKED);
    memdb_scanner_scan(r.scanner, 0);
    CHECK(!memdb_scanner_unacknowledged(r.scanner));
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, slot, MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_leave(&pin), MEMDB_OK);
    CHECK(memdb_slot_revoke(slot, memdb_load_sc(&slot->word)));
    CHECK_EQUAL(memdb_pin_enter(&pin), MEMDB_REVOKED);
    CHECK_EQUAL(memdb_pin_enter(&pin), MEMDB_REVOKED);
    memdb_pin_close(&pin);
    /* its owner's next pin is the acknowledgement of one that nobody asked about any more */
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, slot, MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    CHECK(memdb_slot_revoke(slot, pin.word));
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, slot, MEMDB_PIN_POINT), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
}

static void scans(void)
{
    struct memdb_slot *slot = r.lease->slots[0];
    memdb_store_sc(&slot[0].word, word(MEMDB_SLOT_IDLE, true, 50));
    memdb_store_sc(&slot[1].word, word(MEMDB_SLOT_IDLE, true, 20));
    memdb_store_sc(&slot[2].word, word(MEMDB_SLOT_ACTIVE, true, 50));
    memdb_store_sc(&slot[3].word, word(MEMDB_SLOT_REVOKED, true, 5));
    memdb_scanner_scan(r.scanner, 0);
    CHECK_EQUAL(memdb_scanner_oldest(r.scanner), 20);
    CHECK(memdb_scanner_sees(r.scanner, 20, 21) && memdb_scanner_sees(r.scanner, 1, 30) && memdb_scanner_sees(r.scanner, 50, 51));
    CHECK(!memdb_scanner_sees(r.scanner, 21, 50) && !memdb_scanner_sees(r.scanner, 1, 20) && !memdb_scanner_sees(r.scanner, 51, 99));
    CHECK(!memdb_scanner_sees(r.scanner, 20, 20));
    uint64_t exact = memdb_scanner_holder(r.scanner, 15, 30);
    memdb_store_sc(&slot[4].word, word(MEMDB_SLOT_ACTIVE, false, 40)); /* S may be anything from 40 on */
    memdb_scanner_scan(r.scanner, 0);
    CHECK(memdb_scanner_sees(r.scanner, 41, 45) && memdb_scanner_sees(r.scanner, 900, 901) && !memdb_scanner_sees(r.scanner, 21, 40));
    uint64_t open = memdb_scanner_holder(r.scanner, 41, 45);
    CHECK(memdb_scanner_holds(r.scanner, exact) && memdb_scanner_holds(r.scanner, open));
    memdb_store_sc(&slot[4].word, word(MEMDB_SLOT_ACTIVE, true, 40));
    memdb_store_sc(&slot[1].word, 0);
    memdb_scanner_scan(r.scanner, 0);
    CHECK(!memdb_scanner_holds(r.scanner, exact) && !memdb_scanner_holds(r.scanner, open));
    memdb_scanner_scan(r.scanner, 1);
    CHECK_EQUAL(memdb_scanner_oldest(r.scanner), UINT64_MAX); /* the other arena's slots */
    for (int i = 0; i < 5; i++)
        memdb_store_sc(&slot[i].word, 0);
}

static void grace(void)
{
    struct memdb_slot *slot = r.lease->slots[0];
    memdb_store_sc(&slot[0].word, word(MEMDB_SLOT_IDLE, true, 3));
    memdb_scanner_scan(r.scanner, 0);
    CHECK(memdb_scanner_ticket(r.scanner, 0) == NULL); /* nobody stands anywhere */
    memdb_store_sc(&slot[1].word, word(MEMDB_SLOT_ACTIVE, true, 3));
    memdb_store_sc(&slot[2].word, word(MEMDB_SLOT_ACTIVE, false, 4));
    memdb_scanner_scan(r.scanner, 0);
    memdb_grace *ticket = memdb_scanner_ticket(r.scanner, 0), *other = memdb_scanner_ticket(r.scanner, 0);
    CHECK(ticket && other && !memdb_grace_over(r.scanner, ticket));
    memdb_store_sc(&slot[1].word, word(MEMDB_SLOT_IDLE, true, 3));
    CHECK(!memdb_grace_over(r.scanner, ticket));
    memdb_store_sc(&slot[1].word, word(MEMDB_SLOT_ACTIVE, true, 3)); /* seen changed once: a new traversal is no matter */
    memdb_store_sc(&slot[2].word, 0);
    CHECK(memdb_grace_over(r.scanner, ticket));
    CHECK(!memdb_grace_over(r.scanner, other)); /* it has not looked in between: the word is the same again */
    memdb_scanner_remove(r.scanner, r.lease);
    CHECK(memdb_grace_over(r.scanner, other));
    memdb_grace_free(r.scanner, ticket);
    memdb_grace_free(r.scanner, other);
    memdb_scanner_scan(r.scanner, 0);
    CHECK_EQUAL(memdb_scanner_oldest(r.scanner), UINT64_MAX);
    CHECK_EQUAL(memdb_scanner_add(r.scanner, r.lease), MEMDB_OK);
}

/* A slot's word counts its uses: a reader that comes back at the same S, in the same slot, is not the one that a ticket waits for. */
static void uses_are_counted(void)
{
    memdb_pin pin;
    for (int i = 0; i < 5; i++)
        memdb_store_sc(&r.lease->slots[0][i].word, 0);
    for (int way = 0; way < 2; way++) {
        CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, &r.lease->slots[0][0], MEMDB_PIN_POINT), MEMDB_OK);
        memdb_scanner_scan(r.scanner, 0);
        memdb_grace *ticket = memdb_scanner_ticket(r.scanner, 0);
        CHECK(ticket && !memdb_grace_over(r.scanner, ticket));
        if (way == 0) { /* as point reads do */
            CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
            CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, &r.lease->slots[0][0], MEMDB_PIN_POINT), MEMDB_OK);
        } else { /* as a snapshot does */
            CHECK_EQUAL(memdb_pin_leave(&pin), MEMDB_OK);
            CHECK_EQUAL(memdb_pin_enter(&pin), MEMDB_OK);
        }
        CHECK(memdb_grace_over(r.scanner, ticket));
        memdb_grace_free(r.scanner, ticket);
        CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    }
}

static void hazards(void)
{
    int index[MEMDB_HAZARDS];
    for (unsigned i = 0; i < MEMDB_HAZARDS; i++)
        CHECK((index[i] = memdb_hazard_set(r.lease, 0, 1000 + i)) >= 0);
    CHECK_EQUAL(memdb_hazard_set(r.lease, 0, 5), -1);
    CHECK(memdb_hazard_set(r.lease, 1, 5) == 0);
    memdb_scanner_read_hazards(r.scanner, 0);
    CHECK(memdb_scanner_hazarded(r.scanner, 1000) && memdb_scanner_hazarded(r.scanner, 1255));
    CHECK(!memdb_scanner_hazarded(r.scanner, 5) && !memdb_scanner_hazarded(r.scanner, 1256));
    CHECK(memdb_scanner_hazard(r.scanner, 1, 5) && !memdb_scanner_hazard(r.scanner, 0, 5));
    memdb_hazard_clear(r.lease, 0, index[3]);
    memdb_scanner_read_hazards(r.scanner, 0);
    CHECK(!memdb_scanner_hazarded(r.scanner, 1003));
    CHECK_EQUAL(memdb_hazard_set(r.lease, 0, 77), index[3]);
}

int main(void)
{
    rig_start(&r, 1 << 20, 0);
    pins();
    revocation();
    scans();
    grace();
    uses_are_counted();
    hazards();
    rig_stop(&r);
    return 0;
}

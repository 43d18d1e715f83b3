/* Rule I2, as docs/decisions/hash-growth.md has it. Key 1 lies in the old table. A new one is made in memory that held something else, one
 * word names both, key 2 goes into the new one, key 1 is copied, the word names the new one only, the old one is used again once no pin
 * stands in it. A reader loads the word once, looks in the current table, then in the old one: it finds what its S shows, whole. Word: 10
 * old only, 21 new and old, 20 new only. A slot is the key, 0 empty, 99 nonsense; a cell's bytes are 10 * key. */
#include "model.h"
atomic_int published = 1, slot = 0, word = 10, old_slot = 1, new_slot[2] = {99, 99}, cell[3] = {0, 10, 0};
#ifdef WEAK_WORD
#define WORD RLX
#else
#define WORD REL
#endif
#ifdef WEAK_WORD_LOAD
#define SEE RLX
#else
#define SEE ACQ
#endif
#ifdef WEAK_SLOT
#define SLOT RLX
#else
#define SLOT REL
#endif
#ifdef WEAK_SLOT_LOAD
#define LOOK RLX
#else
#define LOOK ACQ
#endif
static int find(int key)
{
    int seen = LOAD(word, SEE);
    if (seen >= 20) {
        int at = LOAD(new_slot[key - 1], LOOK);
        assert(at != 99);
        if (at == key) {
            assert(LOAD(cell[key], RLX) == 10 * key);
            return 10 * key;
        }
    }
#ifdef WEAK_TWO_LOOKS /* the word is loaded again for the old table */
    seen = LOAD(word, SEE);
#endif
    if (seen == 20)
        return 0;
    int at = LOAD(old_slot, LOOK);
    assert(at != 99);
    return at == key ? LOAD(cell[key], RLX) : 0;
}
static void *reader(void *unused)
{
    STORE(slot, 1, SC);
    int s = LOAD(published, SC);
    assert(find(1) == 10);
    int second = find(2);
    if (s == 2 || second != 0)
        assert(second == 20);
    cas(&slot, 1, 0);
    return unused;
}
static void *writer(void *unused)
{
    STORE(new_slot[0], 0, RLX);
    STORE(new_slot[1], 0, RLX);
#ifdef WEAK_NO_OLD /* one table only, filled afterwards */
    STORE(word, 20, REL);
#else
    STORE(word, 21, WORD);
#endif
    STORE(cell[2], 20, RLX);
    STORE(new_slot[1], 2, SLOT);
    STORE(published, 2, SC);
#ifdef WEAK_MOVE /* a slot leaves the old table when it is copied */
    STORE(old_slot, 0, REL);
#endif
    STORE(new_slot[0], 1, SLOT);
    STORE(word, 20, WORD);
#ifndef WEAK_NO_REPUBLISH
    STORE(published, 2, SC); /* memdb_store_reclaim: something was unlinked */
#endif
#ifndef WEAK_NO_GRACE
    if (LOAD(slot, SC) == 0)
#endif
        STORE(old_slot, 99, RLX);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }

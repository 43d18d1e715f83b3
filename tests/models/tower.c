/* Rule I1, linking: header H, full, gets a successor N. N is whole before H's block shows it; then the tower of H points to N. A reader
 * goes right by the tower if it sees it, else along level 0: it finds the key of N either way. Block of H: 12 both keys, 1 the first and a
 * link to N. Block of N: 2; 0 nothing yet. */
#include "model.h"
atomic_int tower = 0, h_block = 12, n_lower = 0, n_block = 0;
#ifdef WEAK_TOWER
#define TOWER RLX
#else
#define TOWER REL
#endif
#ifdef WEAK_TOWER_LOAD
#define CLIMB RLX
#else
#define CLIMB ACQ
#endif
#ifdef WEAK_SWAP
#define SWAP RLX
#else
#define SWAP REL
#endif
static void *reader(void *unused)
{
    if (LOAD(tower, CLIMB)) {
        assert(LOAD(n_lower, RLX) == 2); /* compared with the key: N is open to us */
        assert(LOAD(n_block, ACQ) == 2);
        return unused;
    }
    int block = LOAD(h_block, ACQ);
    if (block == 1) {
        assert(LOAD(n_lower, RLX) == 2);
        assert(LOAD(n_block, ACQ) == 2);
    }
    return unused;
}
static void *writer(void *unused)
{
    STORE(n_lower, 2, RLX);
#ifdef WEAK_BLOCK_LATE /* the tower is linked before N has its block */
    STORE(tower, 1, TOWER);
#endif
    STORE(n_block, 2, RLX);
    STORE(h_block, 1, SWAP);
    STORE(tower, 1, TOWER);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }

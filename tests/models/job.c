/* Rule C5, what the sync thread takes on: segment, LSN and bytes are three words that change while it reads them. A job never claims an
 * LSN or bytes that are not in its segment's file, for the sync of that file would make them "durable". LSN 1 is written at byte 10 of
 * segment 1; the caller syncs it and goes on in segment 2 at byte 4, where LSN 2 ends at byte 6. file_lsn[i], file_bytes[i]: what the file
 * has. */
#include "model.h"
atomic_int segment = 1, lsn = 0, bytes = 4, file_lsn[3] = {0, 0, 0}, file_bytes[3] = {0, 4, 0};
#ifdef WEAK_SEGMENT
#define SEGMENT RLX
#else
#define SEGMENT REL
#endif
#ifdef WEAK_LSN
#define LSN RLX
#else
#define LSN REL
#endif
#ifdef WEAK_LSN_LOAD
#define SEE RLX
#else
#define SEE ACQ
#endif
#ifdef WEAK_BYTES
#define BYTES RLX
#else
#define BYTES REL
#endif
static void *sync_thread(void *unused)
{
    int in = LOAD(segment, ACQ), up_to = LOAD(lsn, SEE), at = LOAD(bytes, ACQ);
#ifndef WEAK_ONE_LOOK
    if (LOAD(segment, ACQ) != in)
        return unused; /* reads them again */
#endif
    assert(up_to == 0 || in == 2 || up_to == 1); /* LSN 2 is not in segment 1 */
    if (in == 2)
        assert(at <= LOAD(file_bytes[2], RLX));
    assert(up_to <= LOAD(file_lsn[in], RLX) || (in == 2 && up_to == 1)); /* 1 is durable before 2 begins */
    return unused;
}
static void *commit_thread(void *unused)
{
    STORE(file_lsn[1], 1, RLX);
    STORE(file_bytes[1], 10, RLX);
    STORE(bytes, 10, BYTES);
    STORE(lsn, 1, LSN);
    STORE(file_bytes[2], 4, RLX); /* header of the next one; the first was synced */
#ifdef WEAK_SEGMENT_FIRST
    STORE(segment, 2, REL);
    STORE(bytes, 4, REL);
#else
    STORE(bytes, 4, BYTES);
    STORE(segment, 2, SEGMENT);
#endif
    STORE(file_bytes[2], 6, RLX);
    STORE(file_lsn[2], 2, RLX);
    STORE(bytes, 6, BYTES);
    STORE(lsn, 2, LSN);
    return unused;
}
int main(void) { run2(sync_thread, commit_thread); return 0; }

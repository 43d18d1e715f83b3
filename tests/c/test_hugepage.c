/* Gathering into huge pages changes no byte, takes no more memory and ends; where the kernel refuses, it says so once. */
#include "../../memdb/shm/hugepage.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

#define PIECES 4u

static uint8_t *aligned_segment(int fd, uint64_t bytes)
{
    uint8_t *room = mmap(NULL, bytes + MEMDB_HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(room != MAP_FAILED);
    uint8_t *at = (uint8_t *)(((uintptr_t)room + MEMDB_HUGE_PAGE - 1) & ~(uintptr_t)(MEMDB_HUGE_PAGE - 1));
    return mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
}

static uint8_t pattern(uint64_t at) { return (uint8_t)(at * 2654435761u >> 7); }

int main(void)
{
    uint64_t bytes = PIECES * MEMDB_HUGE_PAGE, backed = bytes - 4096;
    struct stat before, after;
    int fd = memfd_create("hugepage", 0);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 && posix_fallocate(fd, 0, (off_t)backed) == 0);
    uint8_t *at = aligned_segment(fd, bytes);
    CHECK(at != MAP_FAILED);
    for (uint64_t i = 0; i < backed; i++)
        at[i] = pattern(i);
    CHECK(fstat(fd, &before) == 0);
    memdb_gathering gathering = {0};
    unsigned pieces = 0;
    while (memdb_gather_next(&gathering, at, backed))
        CHECK(++pieces < PIECES); /* the last one is not backed to its end */
    CHECK(gathering.refused || pieces == PIECES - 1);
    CHECK(fstat(fd, &after) == 0 && after.st_blocks == before.st_blocks);
    for (uint64_t i = 0; i < backed; i++)
        CHECK(at[i] == pattern(i));
    CHECK(!memdb_gather_next(&gathering, at, backed));
    memdb_gathering askew = {0};
    CHECK(!memdb_gather_next(&askew, at + 4096, backed) && askew.refused);
    return 0;
}

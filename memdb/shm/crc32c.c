/*
 * CRC-32C: one stream through the processor's own instruction where it has one, else slicing-by-8.
 *
 * Owns: the constant slicing tables. Pure functions, no mutable data: see crc32c.h.
 *
 * Which path is taken is decided in every call from data that the C runtime (x86) or the kernel
 * (ARM) fixed before main: one load and one test, and no cached choice that threads could race on.
 * One dependent chain of crc32 instructions does 8 bytes in 3 cycles, about 8 GB/s: records are
 * short and the log is bound by the disk, so interleaved streams would not pay for their code.
 */
#include "crc32c.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define MEMDB_CRC32C_SSE42 1
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#define MEMDB_CRC32C_ARMV8 1
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define MEMDB_CRC32C_ARMV8 1
#endif

/*
 * The tables. slices[k][i] is the state after the byte i and k more bytes of zero. A CRC is linear over
 * GF(2): an entry is the XOR of the entries of the single bits of its index. So eight constants a slice
 * (the entries of 1, 2, 4, ... 128) define all 256, and the compiler works the rest out.
 * With P = 0x82F63B78, the reflected polynomial: slices[0][128] = P, and
 * slices[k][i] = (slices[k-1][i] >> 8) ^ slices[0][slices[k-1][i] & 255].
 */
#define ENTRY(i, b0, b1, b2, b3, b4, b5, b6, b7) \
    ((((i) & 1) ? (b0) : 0) ^ (((i) & 2) ? (b1) : 0) ^ (((i) & 4) ? (b2) : 0) ^ (((i) & 8) ? (b3) : 0) ^ \
     (((i) & 16) ? (b4) : 0) ^ (((i) & 32) ? (b5) : 0) ^ (((i) & 64) ? (b6) : 0) ^ (((i) & 128) ? (b7) : 0))
#define BASIS_0(entry, i) \
    entry(i, 0xF26B8303u, 0xE13B70F7u, 0xC79A971Fu, 0x8AD958CFu, \
          0x105EC76Fu, 0x20BD8EDEu, 0x417B1DBCu, 0x82F63B78u)
#define BASIS_1(entry, i) \
    entry(i, 0x13A29877u, 0x274530EEu, 0x4E8A61DCu, 0x9D14C3B8u, \
          0x3FC5F181u, 0x7F8BE302u, 0xFF17C604u, 0xFBC3FAF9u)
#define BASIS_2(entry, i) \
    entry(i, 0xA541927Eu, 0x4F6F520Du, 0x9EDEA41Au, 0x38513EC5u, \
          0x70A27D8Au, 0xE144FB14u, 0xC76580D9u, 0x8B277743u)
#define BASIS_3(entry, i) \
    entry(i, 0xDD45AAB8u, 0xBF672381u, 0x7B2231F3u, 0xF64463E6u, \
          0xE964B13Du, 0xD725148Bu, 0xABA65FE7u, 0x52A0C93Fu)
#define BASIS_4(entry, i) \
    entry(i, 0x38116FACu, 0x7022DF58u, 0xE045BEB0u, 0xC5670B91u, \
          0x8F2261D3u, 0x1BA8B557u, 0x37516AAEu, 0x6EA2D55Cu)
#define BASIS_5(entry, i) \
    entry(i, 0xEF306B19u, 0xDB8CA0C3u, 0xB2F53777u, 0x6006181Fu, \
          0xC00C303Eu, 0x85F4168Du, 0x0E045BEBu, 0x1C08B7D6u)
#define BASIS_6(entry, i) \
    entry(i, 0x68032CC8u, 0xD0065990u, 0xA5E0C5D1u, 0x4E2DFD53u, \
          0x9C5BFAA6u, 0x3D5B83BDu, 0x7AB7077Au, 0xF56E0EF4u)
#define BASIS_7(entry, i) \
    entry(i, 0x493C7D27u, 0x9278FA4Eu, 0x211D826Du, 0x423B04DAu, \
          0x847609B4u, 0x0D006599u, 0x1A00CB32u, 0x34019664u)

#define ENTRIES_4(basis, i) \
    basis(ENTRY, (i)), basis(ENTRY, (i) + 1), basis(ENTRY, (i) + 2), basis(ENTRY, (i) + 3)
#define ENTRIES_16(basis, i) \
    ENTRIES_4(basis, (i)), ENTRIES_4(basis, (i) + 4), ENTRIES_4(basis, (i) + 8), ENTRIES_4(basis, (i) + 12)
#define ENTRIES_64(basis, i) \
    ENTRIES_16(basis, (i)), ENTRIES_16(basis, (i) + 16), \
    ENTRIES_16(basis, (i) + 32), ENTRIES_16(basis, (i) + 48)
#define ENTRIES_256(basis) \
    ENTRIES_64(basis, 0), ENTRIES_64(basis, 64), ENTRIES_64(basis, 128), ENTRIES_64(basis, 192)

static const uint32_t slices[8][256] = {
    {ENTRIES_256(BASIS_0)}, {ENTRIES_256(BASIS_1)}, {ENTRIES_256(BASIS_2)}, {ENTRIES_256(BASIS_3)},
    {ENTRIES_256(BASIS_4)}, {ENTRIES_256(BASIS_5)}, {ENTRIES_256(BASIS_6)}, {ENTRIES_256(BASIS_7)},
};

static uint32_t load_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint32_t memdb_crc32c_by_table(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t state = ~crc;

    for (; len >= 8; p += 8, len -= 8) {
        uint32_t low = state ^ load_le32(p);
        uint32_t high = load_le32(p + 4);
        state = slices[7][low & 0xFF] ^ slices[6][low >> 8 & 0xFF] ^ slices[5][low >> 16 & 0xFF] ^
                slices[4][low >> 24] ^ slices[3][high & 0xFF] ^ slices[2][high >> 8 & 0xFF] ^
                slices[1][high >> 16 & 0xFF] ^ slices[0][high >> 24];
    }
    for (; len > 0; p++, len--)
        state = state >> 8 ^ slices[0][(state ^ *p) & 0xFF];
    return ~state;
}

#if defined(MEMDB_CRC32C_SSE42)

static bool hardware_is_present(void)
{
    return __builtin_cpu_supports("sse4.2") != 0;
}

__attribute__((target("sse4.2")))
static uint32_t by_hardware(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t wide = (uint32_t)~crc;
    uint32_t state;
    uint64_t word;

    for (; len >= sizeof word; p += sizeof word, len -= sizeof word) {
        memcpy(&word, p, sizeof word);
        wide = _mm_crc32_u64(wide, word);
    }
    state = (uint32_t)wide;
    for (; len > 0; p++, len--)
        state = _mm_crc32_u8(state, *p);
    return ~state;
}

static const char *const hardware_name = "sse4.2";

#elif defined(MEMDB_CRC32C_ARMV8)

static bool hardware_is_present(void)
{
#if defined(__ARM_FEATURE_CRC32)
    return true;
#else
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
}

/*
 * Assembly, since compilers differ in whether they offer the intrinsics to a file that is not built
 * for the extension as a whole. The instruction takes the word's low byte first, and so a
 * little-endian load; on a big-endian ARM the bytes are swapped before.
 */
static uint32_t fold_word(uint32_t state, uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(state) : "r"(word));
    return state;
}

static uint32_t fold_byte(uint32_t state, uint8_t byte)
{
    uint32_t wide = byte;
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(state) : "r"(wide));
    return state;
}

static uint32_t by_hardware(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t state = ~crc;
    uint64_t word;

    for (; len >= sizeof word; p += sizeof word, len -= sizeof word) {
        memcpy(&word, p, sizeof word);
        state = fold_word(state, word);
    }
    for (; len > 0; p++, len--)
        state = fold_byte(state, *p);
    return ~state;
}

static const char *const hardware_name = "armv8-crc";

#else

static bool hardware_is_present(void)
{
    return false;
}

static uint32_t by_hardware(uint32_t crc, const void *data, size_t len)
{
    return memdb_crc32c_by_table(crc, data, len);
}

static const char *const hardware_name = "table";

#endif

uint32_t memdb_crc32c(uint32_t crc, const void *data, size_t len)
{
    return hardware_is_present() ? by_hardware(crc, data, len) : memdb_crc32c_by_table(crc, data, len);
}

const char *memdb_crc32c_path(void)
{
    return hardware_is_present() ? hardware_name : "table";
}

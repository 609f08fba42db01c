/* Random numbers that depend on a place alone, so no result depends on how work was split. */
#ifndef FASTMLP_RANDOM_H
#define FASTMLP_RANDOM_H

#include <stdint.h>

/* The output function of splitmix64 (Steele, Lea, Flood 2014): a bijection that mixes 64 bits. */
static inline uint64_t fm_mix64(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* One key for three coordinates, in which their order matters. */
static inline uint64_t fm_key(uint64_t seed, uint64_t a, uint64_t b) {
    return fm_mix64(fm_mix64(fm_mix64(seed) ^ a) ^ b);
}

/* 32 random bits for column j under `key`. The low half of the key shifts the counter; the high
 * half enters between the two rounds of lowbias32 (Wellons 2018). Vectorizes in 32-bit lanes. */
static inline uint32_t fm_bits32(uint64_t key, uint32_t j) {
    uint32_t h = j * 0x9E3779B9u + (uint32_t)key;
    h = (h ^ (h >> 16)) * 0x21F0AAADu;
    h += (uint32_t)(key >> 32);
    h = (h ^ (h >> 15)) * 0xD35A2D97u;
    return h ^ (h >> 15);
}

#endif

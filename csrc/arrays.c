/* Orders, labels and locks: what Python needs done without the GIL or without NumPy. */

#include <stddef.h>

#include "fastmlp.h"
#include "random.h"

void fm_shuffle(int64_t *order, int64_t n, uint64_t seed, uint64_t epoch) {
    const uint64_t key = fm_key(seed, epoch, 0);
    for (int64_t i = n - 1; i > 0; i--) {
        const uint64_t random = fm_mix64(key ^ (uint64_t)i);
        const int64_t j = (int64_t)(((unsigned __int128)random * (uint64_t)(i + 1)) >> 64);
        const int64_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

int64_t fm_first_bad_label(const int64_t *labels, int64_t n, int64_t n_classes,
                           const int64_t *ignored) {
    for (int64_t i = 0; i < n; i++)
        if ((labels[i] < 0 || labels[i] >= n_classes) && !(ignored && labels[i] == *ignored))
            return i;
    return -1;
}

int32_t fm_try_lock(int32_t *lock) { return __atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) == 0; }
void fm_unlock(int32_t *lock) { __atomic_store_n(lock, 0, __ATOMIC_RELEASE); }

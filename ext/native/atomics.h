// Ordered loads and stores for memory that is shared with another thread or process. On x86 these cost nothing at run
// time: they only keep the compiler from moving the accesses.
#ifndef TICKWRIGHT_ATOMICS_H
#define TICKWRIGHT_ATOMICS_H

#include <stdint.h>

static inline uint64_t load_acquire_u64(const uint64_t *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
static inline void store_release_u64(uint64_t *at, uint64_t value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }
static inline int32_t load_acquire_i32(const int32_t *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
static inline void store_release_i32(int32_t *at, int32_t value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }
static inline void fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }

#endif

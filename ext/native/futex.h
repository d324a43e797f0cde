// Wait for a word of this process's memory to change, with a time limit; wake whoever waits. No interpreter lock.
#ifndef TICKWRIGHT_FUTEX_H
#define TICKWRIGHT_FUTEX_H

#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Returns when *word is not `expected` (any more), after timeout_ns, or for no reason: the caller looks again.
static inline void futex_wait(int32_t *word, int32_t expected, int64_t timeout_ns) {
    struct timespec limit = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &limit, 0, 0);
}

static inline void futex_wake_all(int32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 0x7FFFFFFF, 0, 0, 0); }

static inline int32_t exchange_i32(int32_t *at, int32_t value) { return __atomic_exchange_n(at, value, __ATOMIC_ACQ_REL); }
static inline void add_i32(int32_t *at, int32_t amount) { __atomic_add_fetch(at, amount, __ATOMIC_ACQ_REL); }

#endif

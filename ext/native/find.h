/* Offset of the first `what` in p[start:n], or -1. */
#ifndef TICKWRIGHT_FIND_H
#define TICKWRIGHT_FIND_H

#include <stddef.h>
#include <string.h>
#include <sys/types.h>

static inline ssize_t find_bytes(const char *p, size_t start, size_t n, const char *what, size_t size) {
    while (start + size <= n) {
        const char *at = (const char *)memchr(p + start, what[0], n - size + 1 - start);
        if (!at) return -1;
        if (memcmp(at, what, size) == 0) return at - p;
        start = (size_t)(at - p) + 1;
    }
    return -1;
}

#endif

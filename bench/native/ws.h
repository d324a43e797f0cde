/* The least of RFC 6455 that two ends on loopback need: handshake, whole frames, no fragments, no extension.

   Not for the engine: no limits are checked, a peer that breaks the protocol ends the benchmark. */
#ifndef BENCH_WS_H
#define BENCH_WS_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WS_TEXT = 1, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10, WS_IN_BYTES = 1 << 17 };

typedef struct {
    int fd;
    int is_open;   /* the handshake is done */
    char path[128];
    size_t have;   /* bytes in `in` */
    unsigned char in[WS_IN_BYTES + 1];
} ws_conn;

typedef struct {
    int opcode;
    char* payload;
    size_t size;
    size_t total;  /* with its header */
} ws_frame;

static inline int64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static inline void die(const char* what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (cpu >= 0) sched_setaffinity(0, sizeof set, &set);
}

static inline void set_nodelay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* --- SHA-1 and base64, for the accept key alone --- */

static inline uint32_t rol(uint32_t x, int n) { return x << n | x >> (32 - n); }

static inline void sha1(const unsigned char* text, size_t n, unsigned char out[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    unsigned char padded[256] = {0};
    size_t size = (n + 9 + 63) / 64 * 64;
    if (size > sizeof padded) die("sha1: text too long");
    memcpy(padded, text, n);
    padded[n] = 0x80;
    for (int i = 0; i < 8; i++) padded[size - 1 - i] = (unsigned char)((uint64_t)n * 8 >> (8 * i));
    for (size_t at = 0; at < size; at += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++) {
            const unsigned char* p = padded + at + 4 * i;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (b & c) | (~b & d) : i < 40 ? b ^ c ^ d : i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
            uint32_t k = i < 20 ? 0x5A827999 : i < 40 ? 0x6ED9EBA1 : i < 60 ? 0x8F1BBCDC : 0xCA62C1D6;
            uint32_t t = rol(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rol(b, 30), b = a, a = t;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static inline void base64_of_20(const unsigned char in[20], char out[29]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char p[21] = {0};
    memcpy(p, in, 20);
    for (int i = 0; i < 7; i++) {
        uint32_t v = (uint32_t)p[3 * i] << 16 | (uint32_t)p[3 * i + 1] << 8 | p[3 * i + 2];
        for (int j = 0; j < 4; j++) out[4 * i + j] = letters[v >> (18 - 6 * j) & 63];
    }
    out[27] = '=';
    out[28] = 0;
}

/* --- frames --- */

static inline void send_all(int fd, const char* p, size_t n) {
    while (n) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (sent < 0) die("send");
        p += sent, n -= (size_t)sent;
    }
}

/* Writes a frame at `out`; `mask` is only for clients. Gives back its size. */
static inline size_t ws_encode(char* out, int opcode, const char* payload, size_t n, int is_client) {
    static const unsigned char key[4] = {0x37, 0xfa, 0x21, 0x3d};
    unsigned char* p = (unsigned char*)out;
    unsigned char mask_bit = is_client ? 0x80 : 0;
    *p++ = (unsigned char)(0x80 | opcode);
    if (n < 126) {
        *p++ = (unsigned char)(mask_bit | n);
    } else if (n < 65536) {
        *p++ = mask_bit | 126, *p++ = (unsigned char)(n >> 8), *p++ = (unsigned char)n;
    } else {
        die("frame too long");
    }
    if (is_client) {
        memcpy(p, key, 4), p += 4;
        for (size_t i = 0; i < n; i++) p[i] = (unsigned char)payload[i] ^ key[i & 3];
    } else {
        memcpy(p, payload, n);
    }
    return (size_t)(p - (unsigned char*)out) + n;
}

static inline void ws_send(int fd, int opcode, const char* payload, size_t n, int is_client) {
    static char out[65600];
    send_all(fd, out, ws_encode(out, opcode, payload, n, is_client));
}

/* 1 when a whole frame is at the start of the buffer. Nothing is unmasked yet. */
static inline int ws_is_whole(const ws_conn* conn, size_t* total) {
    const unsigned char* p = conn->in;
    if (conn->have < 2) return 0;
    size_t n = p[1] & 127, head = 2;
    if (n == 126) {
        if (conn->have < 4) return 0;
        n = (size_t)p[2] << 8 | p[3], head = 4;
    } else if (n == 127) {
        if (conn->have < 10) return 0;
        n = 0;
        for (int i = 2; i < 10; i++) n = n << 8 | p[i];
        head = 10;
    }
    head += p[1] & 0x80 ? 4 : 0;
    *total = head + n;
    return conn->have >= *total;
}

/* The first frame, unmasked in place. Call ws_drop when it is dealt with. */
static inline int ws_next(ws_conn* conn, ws_frame* frame) {
    size_t total;
    if (!ws_is_whole(conn, &total)) return 0;
    unsigned char* p = conn->in;
    size_t n = p[1] & 127, head = n == 126 ? 4 : n == 127 ? 10 : 2;
    int is_masked = p[1] & 0x80;
    unsigned char key[4];
    memcpy(key, p + head, 4);
    head += is_masked ? 4 : 0;
    frame->opcode = p[0] & 15;
    frame->payload = (char*)p + head;
    frame->size = total - head;
    frame->total = total;
    if (is_masked)
        for (size_t i = 0; i < frame->size; i++) p[head + i] ^= key[i & 3];
    return 1;
}

static inline void ws_drop(ws_conn* conn, const ws_frame* frame) {
    conn->have -= frame->total;
    memmove(conn->in, conn->in + frame->total, conn->have);
}

/* Bytes added; 0 when there are none now, -1 when the peer is gone. */
static inline ssize_t ws_fill(ws_conn* conn) {
    if (conn->have == WS_IN_BYTES) die("message too long");
    ssize_t n = recv(conn->fd, conn->in + conn->have, WS_IN_BYTES - conn->have, MSG_DONTWAIT);
    if (n == 0) return -1;
    if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    conn->have += (size_t)n;
    return n;
}

static inline void ws_accept_key(const char* key, size_t n, char out[29]) {
    unsigned char text[128], digest[20];
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    if (n + sizeof guid > sizeof text) die("Sec-WebSocket-Key too long");
    memcpy(text, key, n);
    memcpy(text + n, guid, sizeof guid - 1);
    sha1(text, n + sizeof guid - 1, digest);
    base64_of_20(digest, out);
}

/* Server's side: 1 when the request was whole and has been answered. */
static inline int ws_answer_handshake(ws_conn* conn) {
    conn->in[conn->have] = 0;
    char* text = (char*)conn->in;
    char* end = strstr(text, "\r\n\r\n");
    if (!end) return 0;
    if (sscanf(text, "GET %127s ", conn->path) != 1) die("handshake: no GET");
    char* key = strcasestr(text, "\r\nsec-websocket-key:");
    if (!key || key > end) die("handshake: no key");
    key += 20;
    while (*key == ' ') key++;
    char accept[29], answer[256];
    ws_accept_key(key, (size_t)(strstr(key, "\r\n") - key), accept);
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    send_all(conn->fd, answer, (size_t)n);
    size_t used = (size_t)(end + 4 - text);
    conn->have -= used;
    memmove(conn->in, conn->in + used, conn->have);
    return conn->is_open = 1;
}

/* Client's side: connect to loopback and do the handshake. */
static inline void ws_connect_to(ws_conn* conn, int port, const char* path) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    conn->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(conn->fd, (struct sockaddr*)&address, sizeof address) < 0) die("connect");
    set_nodelay(conn->fd);
    char text[512];
    int n = snprintf(text, sizeof text,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", path);
    send_all(conn->fd, text, (size_t)n);
    conn->have = 0;
    for (;;) {
        if (ws_fill(conn) < 0) die("handshake refused");
        conn->in[conn->have] = 0;
        char* end = strstr((char*)conn->in, "\r\n\r\n");
        if (!end) continue;
        size_t used = (size_t)(end + 4 - (char*)conn->in);
        conn->have -= used;
        memmove(conn->in, conn->in + used, conn->have);
        conn->is_open = 1;
        return;
    }
}

#endif

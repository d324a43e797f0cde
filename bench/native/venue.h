/* A venue in one thread that spins: sends a Bybit orderbook.50 delta, waits for the whole order frame, counts the time.

   Usage: venue CPU LEVELS WARM_UP CLOSED_ROUNDS PACED_ROUNDS PACE_US. Prints its port, waits until a client trades,
   prints one JSON object with the latencies in ns, and serves on until it is ended. Two phases: closed (the next tick
   follows the order) and paced (PACE_US between ticks: caches go cold). A client with a private socket is a real one:
   after each order it gets the answer and the order report, and a ping on both sockets whose pongs are awaited, so
   that this work is done before the next tick. Built by bench/loopback.py. */
#include "ws.h"

enum { MAX_CONNS = 16, TEMPLATES = 256, FIRST_U = 1000000000, NO_ORDER_NS = 50 * 1000 * 1000 };

typedef struct {
    char frame[16384];
    size_t size, u_at, seq_at, ts_at, cts_at;
} tick_t;

static ws_conn conns[MAX_CONNS];
static int conn_count, listen_fd, levels;
static ws_conn *market, *probe, *trade, *private_conn;
static tick_t ticks[TEMPLATES];
static int64_t next_u = FIRST_U, order_count, probe_at_ns;
static int is_measuring;
static char req_id[64], link_id[64];
static int pongs;

/* --- frames --- */

static void put_digits(char* at, int64_t value, int width) {
    for (int i = width - 1; i >= 0; i--, value /= 10) at[i] = (char)('0' + value % 10);
}

static size_t put_side(char* out, int sign, int count) {
    size_t n = 0;
    out[n++] = '[';
    for (int i = 0; i < count; i++) {
        int distance = i < count / 2 ? i : rand() % 50; /* in ticks of 0.1; half of them at the touch */
        int px = 618000 + sign * (1 + distance);
        int qty = distance > 4 && rand() % 4 == 0 ? 0 : 1 + rand() % 9999;
        n += (size_t)sprintf(out + n, "%s[\"%d.%d0\",\"%d.%03d\"]", i ? "," : "", px / 10, px % 10, qty / 1000, qty % 1000);
    }
    out[n++] = ']';
    return n;
}

static void make_tick(tick_t* tick) {
    static char text[16384];
    size_t n = (size_t)sprintf(text, "{\"topic\":\"orderbook.50.BTCUSDT\",\"type\":\"delta\",\"ts\":");
    tick->ts_at = n;
    n += (size_t)sprintf(text + n, "0000000000000,\"data\":{\"s\":\"BTCUSDT\",\"b\":");
    n += put_side(text + n, -1, levels / 2);
    n += (size_t)sprintf(text + n, ",\"a\":");
    n += put_side(text + n, 1, levels / 2);
    n += (size_t)sprintf(text + n, ",\"u\":");
    tick->u_at = n;
    n += (size_t)sprintf(text + n, "0000000000,\"seq\":");
    tick->seq_at = n;
    n += (size_t)sprintf(text + n, "0000000000},\"cts\":");
    tick->cts_at = n;
    n += (size_t)sprintf(text + n, "0000000000000}");
    tick->size = ws_encode(tick->frame, WS_TEXT, text, n, 0);
    size_t head = tick->size - n;
    tick->u_at += head, tick->seq_at += head, tick->ts_at += head, tick->cts_at += head;
}

static tick_t* next_tick(void) {
    tick_t* tick = &ticks[next_u % TEMPLATES];
    int64_t utc_ms = clock_ns(CLOCK_REALTIME) / 1000000;
    put_digits(tick->frame + tick->u_at, ++next_u, 10);
    put_digits(tick->frame + tick->seq_at, next_u, 10);
    put_digits(tick->frame + tick->ts_at, utc_ms, 13);
    put_digits(tick->frame + tick->cts_at, utc_ms, 13);
    return tick;
}

static void say(ws_conn* conn, const char* text) { ws_send(conn->fd, WS_TEXT, text, strlen(text), 0); }

static void send_snapshot(ws_conn* conn, int depth) {
    static char text[32768];
    int64_t utc_ms = clock_ns(CLOCK_REALTIME) / 1000000;
    size_t n = (size_t)sprintf(text, "{\"topic\":\"orderbook.%d.BTCUSDT\",\"type\":\"snapshot\",\"ts\":%lld,"
                               "\"data\":{\"s\":\"BTCUSDT\"", depth, (long long)utc_ms);
    for (int side = -1; side <= 1; side += 2) {
        n += (size_t)sprintf(text + n, ",\"%s\":[", side < 0 ? "b" : "a");
        for (int i = 0; i < depth; i++) {
            int px = 618000 + side * (1 + i);
            n += (size_t)sprintf(text + n, "%s[\"%d.%d0\",\"1.000\"]", i ? "," : "", px / 10, px % 10);
        }
        n += (size_t)sprintf(text + n, "]");
    }
    sprintf(text + n, ",\"u\":%lld,\"seq\":%lld},\"cts\":%lld}", (long long)next_u, (long long)next_u, (long long)utc_ms);
    say(conn, text);
}

/* The value of a JSON string field, "" when absent. */
static void field(const char* text, const char* name, char* out, size_t size) {
    char mark[32];
    snprintf(mark, sizeof mark, "\"%s\":\"", name);
    const char* at = strstr(text, mark);
    size_t n = 0;
    if (at)
        for (at += strlen(mark); *at && *at != '"' && n + 1 < size; at++) out[n++] = *at;
    out[n] = 0;
}

static void answer_order(void) {
    static char text[1024];
    if (!private_conn) return;
    sprintf(text, "{\"reqId\":\"%s\",\"retCode\":0,\"retMsg\":\"OK\",\"op\":\"order.create\",\"data\":{\"orderId\":"
            "\"o-%lld\",\"orderLinkId\":\"%s\"},\"retExtInfo\":{},\"header\":{\"X-Bapi-Limit\":\"1000000\","
            "\"X-Bapi-Limit-Status\":\"999999\"},\"connId\":\"c\"}", req_id, (long long)order_count, link_id);
    say(trade, text);
    sprintf(text, "{\"id\":\"1\",\"topic\":\"order\",\"creationTime\":%lld,\"data\":[{\"category\":\"linear\",\"symbol\":"
            "\"BTCUSDT\",\"orderId\":\"o-%lld\",\"orderLinkId\":\"%s\",\"side\":\"Buy\",\"orderType\":\"Limit\",\"price\":"
            "\"61800.10\",\"qty\":\"0.001\",\"timeInForce\":\"IOC\",\"orderStatus\":\"Cancelled\",\"cumExecQty\":\"0\","
            "\"cancelType\":\"UNKNOWN\",\"rejectReason\":\"EC_NoImmediateQtyToFill\",\"updatedTime\":\"%lld\"}]}",
            (long long)(clock_ns(CLOCK_REALTIME) / 1000000), (long long)order_count, link_id,
            (long long)(clock_ns(CLOCK_REALTIME) / 1000000));
    say(private_conn, text);
}

/* --- what clients say --- */

/* 1 when it was an order. */
static int handle(ws_conn* conn, ws_frame* frame) {
    static char text[8192];
    size_t n = frame->size < sizeof text - 1 ? frame->size : sizeof text - 1;
    memcpy(text, frame->payload, n);
    text[n] = 0;
    if (frame->opcode == WS_PONG) pongs++;
    if (frame->opcode == WS_PING) ws_send(conn->fd, WS_PONG, frame->payload, frame->size, 0);
    if (frame->opcode == WS_CLOSE) ws_send(conn->fd, WS_CLOSE, frame->payload, frame->size, 0);
    if (frame->opcode != WS_TEXT) return 0;
    if (strstr(text, "\"op\":\"order.create\"")) {
        order_count++;
        field(text, "reqId", req_id, sizeof req_id);
        field(text, "orderLinkId", link_id, sizeof link_id);
        if (!is_measuring) answer_order();
        return 1;
    }
    char ack[256], id[32];
    field(text, "req_id", id, sizeof id);
    if (strstr(text, "\"op\":\"auth\"")) {
        say(conn, conn == trade ? "{\"retCode\":0,\"retMsg\":\"OK\",\"op\":\"auth\",\"connId\":\"c\"}"
                                : "{\"success\":true,\"ret_msg\":\"\",\"op\":\"auth\",\"conn_id\":\"c\"}");
    } else if (strstr(text, "\"op\":\"subscribe\"")) {
        sprintf(ack, "{\"success\":true,\"ret_msg\":\"\",\"conn_id\":\"c\",\"req_id\":\"%s\",\"op\":\"subscribe\"}", id);
        say(conn, ack);
        if (strstr(text, "orderbook.50.")) send_snapshot(market = conn, 50);
        if (strstr(text, "orderbook.1.")) send_snapshot(probe = conn, 1);
    } else if (strstr(text, "\"op\":\"ping\"")) {
        say(conn, "{\"success\":true,\"ret_msg\":\"pong\",\"conn_id\":\"c\",\"req_id\":\"ping\",\"op\":\"pong\"}");
    }
    return 0;
}

static void forget(ws_conn* conn) {
    close(conn->fd);
    conn->fd = -1;
    if (conn == market) market = NULL;
    if (conn == probe) probe = NULL;
    if (conn == trade) trade = NULL;
    if (conn == private_conn) private_conn = NULL;
}

/* Read one connection without waiting; the number of orders in it. */
static int serve(ws_conn* conn) {
    int orders = 0;
    ws_frame frame;
    ssize_t n = ws_fill(conn);
    if (n < 0) {
        forget(conn);
        return 0;
    }
    if (!conn->is_open) {
        if (!ws_answer_handshake(conn)) return 0;
        if (strstr(conn->path, "/private")) private_conn = conn;
        if (strstr(conn->path, "/trade")) trade = conn;
    }
    while (conn->fd >= 0 && ws_next(conn, &frame)) {
        orders += handle(conn, &frame);
        ws_drop(conn, &frame);
    }
    return orders;
}

static void accept_one(void) {
    int fd = accept(listen_fd, NULL, NULL);
    if (fd < 0) return;
    set_nodelay(fd);
    if (conn_count == MAX_CONNS) die("too many connections");
    ws_conn* conn = &conns[conn_count++];
    conn->fd = fd;
}

/* The patient way: everything, sleeping in poll. */
static int serve_all(int timeout_ms) {
    struct pollfd fds[MAX_CONNS + 1];
    ws_conn* of[MAX_CONNS + 1];
    int count = 1, orders = 0;
    fds[0] = (struct pollfd){listen_fd, POLLIN, 0};
    for (int i = 0; i < conn_count; i++)
        if (conns[i].fd >= 0) of[count] = &conns[i], fds[count++] = (struct pollfd){conns[i].fd, POLLIN, 0};
    if (poll(fds, (nfds_t)count, timeout_ms) <= 0) return 0;
    if (fds[0].revents) accept_one();
    for (int i = 1; i < count; i++)
        if (fds[i].revents) orders += serve(of[i]);
    return orders;
}

static void repeat_probe(void) {
    int64_t now = now_ns();
    if (now < probe_at_ns) return;
    probe_at_ns = now + 1000000000;
    if (probe) send_snapshot(probe, 1);
    for (int i = 0; i < conn_count; i++)
        if (conns[i].fd >= 0) serve(&conns[i]);
}

/* --- measuring --- */

/* Tell the fate of the order and wait until the client has taken it in. */
static void settle(void) {
    if (!private_conn) return;
    answer_order();
    pongs = 0;
    ws_send(trade->fd, WS_PING, "b", 1, 0);
    ws_send(private_conn->fd, WS_PING, "b", 1, 0);
    int64_t until = now_ns() + NO_ORDER_NS;
    while (pongs < 2 && now_ns() < until) {
        serve(trade);
        if (private_conn) serve(private_conn);
        if (!trade || !private_conn) die("the client has gone");
    }
    repeat_probe();
}

/* One round: ns from before the send until the whole order was here, or 0 when none came. */
static int64_t round_trip(void) {
    if (!market || !trade) die("the client has gone");
    tick_t* tick = next_tick();
    size_t total;
    int64_t start = now_ns();
    send_all(market->fd, tick->frame, tick->size);
    for (unsigned spin = 1;; spin++) {
        ssize_t n = ws_fill(trade);
        if (n < 0) die("the client has gone");
        if (n > 0 && ws_is_whole(trade, &total)) {
            int64_t end = now_ns();
            ws_frame frame;
            int orders = 0;
            while (ws_next(trade, &frame)) {
                orders += handle(trade, &frame);
                ws_drop(trade, &frame);
            }
            if (orders) return end - start;
        }
        if (spin % 64 == 0 && now_ns() - start > NO_ORDER_NS) return 0;
    }
}

static int by_value(const void* a, const void* b) {
    int64_t x = *(const int64_t*)a, y = *(const int64_t*)b;
    return (x > y) - (x < y);
}

static void measure(const char* name, int warm_up, int rounds, int64_t pace_ns, const char* end) {
    int64_t* times = malloc(sizeof(int64_t) * (size_t)(rounds + 1));
    int64_t count = 0, lost = 0, next = now_ns();
    for (int i = 0; i < warm_up + rounds; i++) {
        while (pace_ns && now_ns() < next) {}
        next = now_ns() + pace_ns;
        int64_t took = round_trip();
        if (took) settle();
        if (i < warm_up) continue;
        if (took)
            times[count++] = took;
        else
            lost++;
    }
    qsort(times, (size_t)count, sizeof times[0], by_value);
    printf("\"%s\":{\"count\":%lld,\"lost\":%lld", name, (long long)count, (long long)lost);
    static const struct { const char* name; double at; } points[] = {
        {"min", 0}, {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
    for (size_t i = 0; count && i < sizeof points / sizeof points[0]; i++) {
        int64_t at = (int64_t)((double)count * points[i].at);
        printf(",\"%s\":%lld", points[i].name, (long long)times[at < count ? at : count - 1]);
    }
    printf("}%s", end);
    free(times);
}

static void listen_on_loopback(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listen_fd, (struct sockaddr*)&address, sizeof address) < 0 || listen(listen_fd, 16) < 0) die("listen");
    getsockname(listen_fd, (struct sockaddr*)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
}

int main(int argc, char** argv) {
    if (argc < 7) return 64;
    pin(atoi(argv[1]));
    levels = atoi(argv[2]);
    int warm_up = atoi(argv[3]), closed = atoi(argv[4]), paced = atoi(argv[5]);
    srand(1);
    for (int i = 0; i < TEMPLATES; i++) make_tick(&ticks[i]);
    listen_on_loopback();
    int64_t deadline = now_ns() + 60000000000, tick_at = 0;
    for (int answered = 0; answered < 20;) {
        answered += serve_all(5);
        if (now_ns() > deadline) die("no client traded within 60 s");
        if (market && trade && now_ns() > tick_at) {
            tick_at = now_ns() + 20000000;
            tick_t* tick = next_tick();
            send_all(market->fd, tick->frame, tick->size);
        }
        repeat_probe();
    }
    while (serve_all(50)) {}
    is_measuring = 1;
    printf("{");
    measure("closed", warm_up, closed, 0, ",");
    measure("paced", warm_up / 10, paced, (int64_t)atoi(argv[6]) * 1000, ",");
    printf("\"orders\":%lld}\n", (long long)order_count);
    fflush(stdout);
    is_measuring = 0;
    for (;;) {
        serve_all(100);
        repeat_probe();
    }
}

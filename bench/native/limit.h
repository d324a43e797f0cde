/* The shortest client there can be: recv, spin, send the same order. What no engine on this machine can beat.

   Usage: limit PORT CPU. Ends when the venue closes. Built by bench/loopback.py. */
#include "ws.h"

static const char ORDER[] =
    "{\"reqId\":\"19aab5d1c00-%d\",\"header\":{\"X-BAPI-TIMESTAMP\":\"1763800000000\",\"X-BAPI-RECV-WINDOW\":\"5000\"},"
    "\"op\":\"order.create\",\"args\":[{\"category\":\"linear\",\"symbol\":\"BTCUSDT\",\"side\":\"Buy\","
    "\"orderType\":\"Limit\",\"qty\":\"0.001\",\"price\":\"61800.1\",\"timeInForce\":\"IOC\","
    "\"orderLinkId\":\"tw0000000000000001\",\"positionIdx\":0,\"smpType\":\"CancelMaker\"}]}";

int main(int argc, char** argv) {
    static ws_conn market, trade;
    static char order[1024];
    static const char subscribe[] = "{\"req_id\":\"1\",\"op\":\"subscribe\",\"args\":[\"orderbook.50.BTCUSDT\"]}";
    if (argc < 3) return 64;
    int port = atoi(argv[1]);
    pin(atoi(argv[2]));
    ws_connect_to(&trade, port, "/v5/trade");
    ws_connect_to(&market, port, "/v5/public/linear");
    ws_send(market.fd, WS_TEXT, subscribe, sizeof subscribe - 1, 1);
    size_t n = ws_encode(order, WS_TEXT, ORDER, sizeof ORDER - 1, 1);
    for (;;) {
        ssize_t got = ws_fill(&market);
        if (got < 0) return 0;
        size_t total;
        while (got > 0 && ws_is_whole(&market, &total)) {
            if (memmem(market.in, total < 160 ? total : 160, "\"type\":\"delta\"", 14)) send_all(trade.fd, order, n);
            ws_frame frame = {.total = total};
            ws_drop(&market, &frame);
        }
    }
}

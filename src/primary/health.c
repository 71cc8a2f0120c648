// SPDX-License-Identifier: MIT
#include "health.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "steer.h"

enum { PATIENCE_MS = 5000, REST_MS = 200, STATUS_LINE_MIN = 12, ANSWER_MAX = 1 << 20 };  // "HTTP/1.1 200"

struct health {
    struct primary *primary;  // borrowed
    struct worker *worker;    // borrowed
    uint64_t token;           // of its process
    uv_tcp_t tcp;
    uv_timer_t patience;
    uv_connect_t connect;
    uv_write_t write;
    int open_handles;
    bool concluded;
    char request[1200], answer[4096];
    size_t len;
};

static void on_closed(uv_handle_t *handle) {
    struct health *health = handle->data;
    if (--health->open_handles > 0) return;
    free(health);
}

static void conclude(struct health *health, bool ready) {
    if (health->concluded) return;
    health->concluded = true;
    health->primary->health = NULL;
    steer_probe_end(&health->primary->pool.listeners);
    pool_on_health(&health->primary->pool, health->worker, health->token, ready);
    primary_wake(health->primary);
}

static void finish(struct health *health, bool ready) {
    if (uv_is_closing((uv_handle_t *)&health->tcp)) return;
    conclude(health, ready);
    uv_close((uv_handle_t *)&health->tcp, on_closed);
    uv_close((uv_handle_t *)&health->patience, on_closed);
}

static void on_impatient(uv_timer_t *timer) { finish(timer->data, false); }

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    struct health *health = handle->data;
    (void)suggested;
    // What follows the first line is read to its end, so that the server does not see a reset; the place of its start is reused.
    size_t at = health->len < STATUS_LINE_MIN ? health->len : STATUS_LINE_MIN;
    *out = uv_buf_init(health->answer + at, (unsigned)(sizeof health->answer - at));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes) {
    struct health *health = stream->data;
    (void)bytes;
    if (n > 0) health->len += (size_t)n;
    bool known = health->len >= STATUS_LINE_MIN;
    if (known) conclude(health, memcmp(health->answer, "HTTP/1.", 7) == 0 && memcmp(health->answer + 8, " 2", 2) == 0);
    if (known) uv_timer_start(&health->patience, on_impatient, REST_MS, 0);  // a server that does not close: we do
    if (n < 0 || health->len > ANSWER_MAX) finish(health, false);
}

static void on_written(uv_write_t *write, int status) {
    if (status != 0) finish(write->data, false);
}

static void on_connected(uv_connect_t *connect, int status) {
    struct health *health = connect->data;
    uv_buf_t request = uv_buf_init(health->request, (unsigned)strlen(health->request));
    if (status == 0) status = uv_write(&health->write, (uv_stream_t *)&health->tcp, &request, 1, on_written);
    if (status == 0) status = uv_read_start((uv_stream_t *)&health->tcp, on_alloc, on_read);
    if (status != 0) finish(health, false);
}

// Where it listens on every address, it is asked on the loopback one.
static struct sockaddr_storage where_to(const struct record_address *at) {
    struct sockaddr_storage to = at->at.storage;
    struct sockaddr_in *in = (struct sockaddr_in *)&to;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&to;
    if (to.ss_family == AF_INET && in->sin_addr.s_addr == htonl(INADDR_ANY)) in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (to.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr)) in6->sin6_addr = in6addr_loopback;
    return to;
}

static int connect_from_own_port(struct health *health, int row) {
    const struct record *record = health->primary->pool.record;
    struct sockaddr_storage to = where_to(&record->address[record->socket[row].address]), from = {.ss_family = to.ss_family};
    int len = sizeof from, r = uv_tcp_bind(&health->tcp, (struct sockaddr *)&from, 0);
    if (r == 0) r = uv_tcp_getsockname(&health->tcp, (struct sockaddr *)&from, &len);
    if (r != 0) return r;
    steer_probe(&health->primary->pool.listeners, row, ntohs(((struct sockaddr_in *)&from)->sin_port));  // at the same place in both families
    return uv_tcp_connect(&health->connect, &health->tcp, (struct sockaddr *)&to, on_connected);
}

bool health_begin(void *arg, struct worker *worker, int row) {
    struct primary *primary = arg;
    struct health *health = primary->health != NULL ? NULL : calloc(1, sizeof *health);
    if (health == NULL) return false;
    *health = (struct health){.primary = primary, .worker = worker, .token = worker->record->token, .open_handles = 2};
    primary->health = health;
    snprintf(health->request, sizeof health->request, "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: pando\r\nConnection: close\r\n\r\n",
             pool_launch_of(&primary->pool, worker)->ready_path);
    uv_tcp_init(primary->loop, &health->tcp);
    uv_timer_init(primary->loop, &health->patience);
    health->tcp.data = health->patience.data = health->connect.data = health->write.data = health;
    uv_timer_start(&health->patience, on_impatient, PATIENCE_MS, 0);
    if (connect_from_own_port(health, row) != 0) finish(health, false);
    return true;
}

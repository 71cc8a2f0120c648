// SPDX-License-Identifier: MIT
// The state table, pair by pair, and a server on real socket pairs.
#include "test.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn.h"

static void every_pair_of_states_is_as_the_picture_says(void **state) {
    (void)state;
    static const char *const picture[CONN_STATE_COUNT] = {
        [CONN_IDLE] = "head flush closed",
        [CONN_HEAD] = "active flush closed",
        [CONN_ACTIVE] = "idle discard flush handoff closed",
        [CONN_DISCARD] = "idle flush closed",
        [CONN_FLUSH] = "linger closed",
        [CONN_LINGER] = "closed",
        [CONN_HANDOFF] = "closed",
        [CONN_CLOSED] = "",
    };
    for (int from = 0; from < CONN_STATE_COUNT; from++)
        for (int to = 0; to < CONN_STATE_COUNT; to++)
            assert_int_equal(conn_may_move((enum conn_state)from, (enum conn_state)to), strstr(picture[from], conn_state_name[to]) != NULL);
}

static pando_exchange *kept;

static void keep(pando_exchange *x, void *arg) {
    (void)arg;
    pando_exchange_hold(x);
    kept = x;
}

static void answer(pando_exchange *x, void *arg) {
    (void)arg;
    assert_int_equal(pando_exchange_add_header(x, PANDO_STR("A\n"), PANDO_STR("b")), -EINVAL);
    assert_int_equal(pando_exchange_add_header(x, PANDO_STR("A"), PANDO_STR("b\r\nC: d")), -EINVAL);
    assert_int_equal(pando_exchange_add_header(x, PANDO_STR("Transfer-Encoding"), PANDO_STR("chunked")), -EINVAL);
    assert_int_equal(pando_exchange_set_status(x, 99, NULL), -EINVAL);
    assert_int_equal(pando_exchange_set_status(x, 200, "a\nb"), -EINVAL);
    assert_int_equal(pando_exchange_end(x, "hi", 2), 0);
    assert_int_equal(pando_exchange_write(x, "x", 1), -EPIPE);
    assert_int_equal(pando_exchange_end(x, "x", 1), -EPIPE);
}

static pando_server *server_with(pando_request_fn fn, int *out_client) {
    pando_server *server = pando_server_new(&(struct pando_server_options){.on_request = fn}, NULL);
    int ends[2];
    assert_non_null(server);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(pando_server_serve_fd_take(server, ends[0]), 0);
    *out_client = ends[1];
    return server;
}

static void turn(pando_server *server) {
    for (int i = 0; i < 5; i++) uv_run(pando_server_loop(server), UV_RUN_NOWAIT);
}

static void what_a_handler_sets_is_checked_and_an_end_is_final(void **state) {
    (void)state;
    int client;
    pando_server *server = server_with(answer, &client);
    assert_int_equal(write(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27), 27);
    turn(server);
    char out[512];
    ssize_t len = read(client, out, sizeof out - 1);
    out[len > 0 ? len : 0] = '\0';
    assert_non_null(strstr(out, "\r\nContent-Length: 2\r\n\r\nhi"));
    assert_null(strstr(out, "C: d"));
    close(client);
    turn(server);
    assert_int_equal(pando_server_stats(server).connections, 0);
    pando_server_free(server);
}

static void an_exchange_outlives_its_socket(void **state) {
    (void)state;
    int client;
    pando_server *server = server_with(keep, &client);
    assert_int_equal(write(client, "GET /path?q HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", 39), 39);
    turn(server);
    assert_non_null(kept);
    close(client);
    turn(server);
    struct pando_str path = pando_exchange_path(kept), value = pando_exchange_header(kept, "x");
    assert_memory_equal(path.data, "/path", path.len);
    assert_memory_equal(value.data, "y", value.len);
    pando_exchange_abort(kept);
    turn(server);
    assert_int_equal(pando_exchange_end(kept, "x", 1), -EPIPE);
    assert_memory_equal(pando_exchange_path(kept).data, "/path", 5);
    pando_exchange_release(kept);
    kept = NULL;
    pando_server_free(server);
}

static void a_server_that_closes_with_an_exchange_open_is_clean(void **state) {
    (void)state;
    int client;
    pando_server *server = server_with(keep, &client);
    assert_int_equal(write(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27), 27);
    turn(server);
    pando_server_close(server, 0, NULL, NULL);
    pando_exchange_release(kept);
    pando_server_free(server);
    close(client);
}

static void an_idle_connection_costs_little(void **state) {
    (void)state;
    assert_true(sizeof(struct conn) <= 1024);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_of_states_is_as_the_picture_says),
        cmocka_unit_test(what_a_handler_sets_is_checked_and_an_end_is_final),
        cmocka_unit_test(an_exchange_outlives_its_socket),
        cmocka_unit_test(a_server_that_closes_with_an_exchange_open_is_clean),
        cmocka_unit_test(an_idle_connection_costs_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

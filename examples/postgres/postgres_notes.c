// SPDX-License-Identifier: MIT
// Notes in PostgreSQL by libpq's non-blocking calls and pando_wait_fd: the code reads as if it blocked, the worker does not.
// A connection a request from a small pool; a request waits for one by suspending.
// Usage: postgres_notes ADDRESS CONNECTION-STRING
#include <pando/app.h>

#include <libpq-fe.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>

enum { POOL = 4, WAITERS = 1024 };

static const char *connection_string;
static PGconn *idle[POOL];
static int idle_count, open_count, waiter_count;
static pando_ctx *waiters[WAITERS];

static void give_back(void *connection) {
    if (PQstatus(connection) != CONNECTION_OK ||
        PQtransactionStatus(connection) != PQTRANS_IDLE) {  // a handler was cancelled inside a query
        PQfinish(connection);
        open_count--;
    } else {
        idle[idle_count++] = connection;
    }
    if (!waiter_count) return;
    pando_ctx *next = waiters[0];
    for (int i = 1; i < waiter_count; i++) waiters[i - 1] = waiters[i];
    waiter_count--;
    pando_resume(next);
}

static PGconn *open_connection(pando_ctx *ctx) {
    PGconn *connection = PQconnectStart(connection_string);
    open_count++;
    for (int wants = PGRES_POLLING_WRITING; wants != PGRES_POLLING_OK; wants = PQconnectPoll(connection)) {
        bool failed = wants == PGRES_POLLING_FAILED || PQstatus(connection) == CONNECTION_BAD;
        if (failed || pando_wait_fd(ctx, PQsocket(connection), wants == PGRES_POLLING_READING ? POLLIN : POLLOUT, 5000) < 0) {
            fprintf(stderr, "PostgreSQL: %s", PQerrorMessage(connection));
            PQfinish(connection);
            open_count--;
            pando_throw(ctx, 503, "the database is away");
        }
    }
    PQsetnonblocking(connection, 1);
    return connection;
}

static void stop_waiting(pando_ctx *ctx) {
    int to = 0;
    for (int i = 0; i < waiter_count; i++)
        if (waiters[i] != ctx) waiters[to++] = waiters[i];
    waiter_count = to;
}

static PGconn *connection_for(pando_ctx *ctx) {
    while (!idle_count && open_count == POOL) {
        pando_assert(ctx, waiter_count < WAITERS, 503, "too many requests wait for the database");
        waiters[waiter_count++] = ctx;
        if (pando_suspend(ctx)) stop_waiting(ctx), pando_throw(ctx, 503, "gone");
    }
    PGconn *connection = idle_count ? idle[--idle_count] : open_connection(ctx);
    pando_defer(ctx, give_back, connection);
    return connection;
}

static void clear(void *result) { PQclear(result); }

static PGresult *query(pando_ctx *ctx, const char *sql, int count, const char *const *values) {
    PGconn *connection = connection_for(ctx);
    pando_assert(ctx, PQsendQueryParams(connection, sql, count, NULL, values, NULL, NULL, 0), 503, "the database is away");
    while (PQflush(connection) > 0)
        if (pando_wait_fd(ctx, PQsocket(connection), POLLOUT, 5000) < 0) pando_throw(ctx, 503, "the database is slow");
    PGresult *last = NULL;
    for (;;) {
        while (PQisBusy(connection))
            if (pando_wait_fd(ctx, PQsocket(connection), POLLIN, 5000) < 0 || !PQconsumeInput(connection))
                pando_throw(ctx, 503, "the database is slow");
        PGresult *result = PQgetResult(connection);
        if (!result) break;
        pando_defer(ctx, clear, result);
        last = result;
    }
    ExecStatusType status = PQresultStatus(last);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) pando_throw(ctx, 500, "%s", PQresultErrorMessage(last));
    return last;
}

static void list(pando_ctx *ctx) {
    PGresult *rows = query(ctx, "SELECT id, text FROM notes ORDER BY id", 0, NULL);
    json_t *all = json_array();
    for (int i = 0; i < PQntuples(rows); i++)
        json_array_append_new(all, json_pack("{s:s,s:s}", "id", PQgetvalue(rows, i, 0), "text", PQgetvalue(rows, i, 1)));
    pando_body_json_take(ctx, all);
}

static void create(pando_ctx *ctx) {
    const char *text = json_string_value(json_object_get(pando_request_json(ctx, 0), "text"));
    pando_assert(ctx, text, 422, "\"text\" is missing");
    PGresult *row = query(ctx, "INSERT INTO notes (text) VALUES ($1) RETURNING id", 1, &text);
    pando_set_status(ctx, 201);
    pando_body_json(ctx, "{s:s,s:s}", "id", PQgetvalue(row, 0, 0), "text", text);
}

static void nap(pando_ctx *ctx) {  // a slow query: others go on meanwhile
    query(ctx, "SELECT pg_sleep(0.3)", 0, NULL);
    pando_body_text(ctx, "slept");
}

static void finish_pool(void *arg) {
    (void)arg;
    while (idle_count) PQfinish(idle[--idle_count]);
}

int main(int argc, char **argv) {
    connection_string = argc > 2 ? argv[2] : "";
    pando_app *app = pando_app_new(NULL);
    pando_on_free(app, finish_pool, NULL);
    pando_get(app, "/notes", list, NULL);
    pando_post(app, "/notes", create, NULL);
    pando_get(app, "/nap", nap, NULL);
    return pando_app_main(app, argc > 1 ? argv[1] : NULL);
}

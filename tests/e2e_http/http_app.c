// SPDX-License-Identifier: MIT
// What the end-to-end tests talk to: one route a behaviour. http_app ADDRESS [KEY=VALUE of struct pando_server_options...]
#include <pando/app.h>

#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static long number(pando_ctx *ctx, const char *name, long standard) {
    const char *text = pando_query(ctx, name);
    return text ? atol(text) : standard;
}

static void ok(pando_ctx *ctx) { pando_body_text(ctx, "ok"); }
static void none(pando_ctx *ctx) { (void)ctx; }
static void echo(pando_ctx *ctx) {
    struct pando_str body = pando_read_all(ctx, (size_t)number(ctx, "limit", 0));
    pando_body_buffer(ctx, body.data, body.len);
    if (*pando_trailer(ctx, "X-Check")) pando_set(ctx, "X-Check", "%s", pando_trailer(ctx, "X-Check"));
}
static void pipe_through(pando_ctx *ctx) {
    struct pando_str piece;
    while (pando_read(ctx, &piece))
        if (pando_write(ctx, piece.data, piece.len)) return;
}
static void unread(pando_ctx *ctx) { pando_body_text(ctx, "unread"); }
static void slow(pando_ctx *ctx) {
    if (!pando_sleep(ctx, (uint32_t)number(ctx, "ms", 100))) pando_body_text(ctx, "slow");
}
static int cancelled;
static void forever(pando_ctx *ctx) {
    while (!pando_suspend(ctx)) {
    }
    cancelled++;
}
static void show_cancelled(pando_ctx *ctx) { pando_body_printf(ctx, "%d", cancelled); }
static void big(pando_ctx *ctx) {
    size_t len = (size_t)number(ctx, "bytes", 0);
    char *data = pando_alloc(ctx, len);
    memset(data, 'b', len);
    pando_body_static(ctx, (struct pando_str){data, len});
}
static void endless(pando_ctx *ctx) {
    char data[8192];
    memset(data, 'e', sizeof data);
    while (!pando_write(ctx, data, sizeof data)) {
    }
    cancelled++;
}
static void stream(pando_ctx *ctx) {
    for (int i = 0; i < 3; i++)
        if (pando_write(ctx, "part", 4) || pando_sleep(ctx, 10)) return;
}
static void trailers(pando_ctx *ctx) {
    pando_write(ctx, "body", 4);
    pando_exchange_add_trailer(pando_ctx_exchange(ctx), PANDO_STR("X-Sum"), PANDO_STR("42"));
}
static void throw_after_head(pando_ctx *ctx) {
    pando_write(ctx, "half", 4);
    pando_throw(ctx, 500, "too late");
}
static void write_after_end(pando_ctx *ctx) {
    pando_exchange *exchange = pando_ctx_exchange(ctx);
    pando_respond_none(ctx);
    pando_exchange_end(exchange, "end", 3);
    fprintf(stderr, "write after the end: %zd\n", pando_exchange_write(exchange, "more", 4));
}
static void injection(pando_ctx *ctx) {
    int results[] = {pando_set(ctx, "X-A", "a\r\nEvil: 1"),
                     pando_set(ctx, "X\nB", "b"),
                     pando_append(ctx, "X-C", "c\nEvil: 1"),
                     pando_set_cookie(ctx, "a", "b\r\nEvil: 1", NULL),
                     pando_set_message(ctx, "OK\r\nEvil: 1"),
                     pando_attachment(ctx, "a\r\nEvil: 1", NULL),
                     pando_set_type(ctx, "text/plain\r\nEvil: 1"),
                     pando_set_etag(ctx, "a\nEvil: 1"),
                     pando_vary(ctx, "a\r\nEvil"),
                     pando_set(ctx, "X-D", "%c", 0)};
    int redirected = pando_redirect(ctx, "/a\r\nEvil: 1");  // percent-encoded
    const char *text = "";
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) text = pando_printf(ctx, "%s%d ", text, results[i]);
    pando_set_status(ctx, 200);
    pando_body_printf(ctx, "%s%d", text, redirected);
}
static void closed_fd(pando_ctx *ctx) {
    int ends[2];
    if (pipe(ends)) return;
    close(ends[0]);
    close(ends[1]);
    pando_body_printf(ctx, "%d", pando_wait_fd(ctx, ends[0], POLLIN, 1000));
}
static void wait_fd(pando_ctx *ctx) {
    int ends[2];
    if (pipe(ends)) return;
    int late = pando_wait_fd(ctx, ends[0], POLLIN, 30);
    if (write(ends[1], "x", 1) != 1) return;
    int came = pando_wait_fd(ctx, ends[0], POLLIN, 1000);
    pando_body_printf(ctx, "%d %d", late, came);
    close(ends[0]);
    close(ends[1]);
}
static void spin(void *arg) {
    *(int *)arg = 42;
    usleep(20000);
}
static void work(pando_ctx *ctx) {
    int answer = 0;
    pando_work(ctx, spin, &answer);
    pando_body_printf(ctx, "%d", answer);
}
static void no_memory(pando_ctx *ctx) { pando_alloc(ctx, (size_t)1 << 40); }
static int recurse(int depth) {
    volatile char room[4096];
    room[0] = (char)depth;
    return depth ? recurse(depth - 1) + room[0] : 0;
}
static void overflow(pando_ctx *ctx) { pando_body_printf(ctx, "%d", recurse(100000)); }
static void early_hints(pando_ctx *ctx) {
    pando_exchange_inform(pando_ctx_exchange(ctx), 103, PANDO_STR("Link"), PANDO_STR("</a.css>; rel=preload"));
    pando_body_text(ctx, "after hints");
}
static void echo_socket(int fd, struct pando_str early, void *arg) {
    (void)arg;
    if (early.len && write(fd, early.data, early.len) < 0) perror("write");
    if (write(fd, "bye", 3) < 0) perror("write");
    close(fd);
}
static void upgrade(pando_ctx *ctx) {
    pando_exchange *exchange = pando_ctx_exchange(ctx);
    if (!pando_str_is(pando_exchange_upgrade_wanted(exchange), PANDO_STR("echo"))) return pando_body_text(ctx, "no upgrade");
    pando_respond_none(ctx);
    pando_exchange_upgrade(exchange, echo_socket, NULL);
}
static void tunnel(pando_ctx *ctx) {
    if (strcmp(pando_method(ctx), "CONNECT")) return pando_next(ctx);
    pando_respond_none(ctx);
    pando_exchange_upgrade(pando_ctx_exchange(ctx), echo_socket, NULL);
}
static void twice(pando_ctx *ctx) {
    pando_next(ctx);
    pando_next(ctx);
}
static void json(pando_ctx *ctx) { pando_body_json_take(ctx, json_incref(pando_request_json(ctx, 1 << 20))); }
static void form(pando_ctx *ctx) {
    const char *a = pando_form(ctx, "a"), *b = pando_form_at(ctx, "b", 1);
    pando_body_printf(ctx, "%s|%s", a ? a : "-", b ? b : "-");
}
static void upload(pando_ctx *ctx) {
    const struct pando_file *files;
    size_t count = pando_request_multipart(ctx, &(struct pando_multipart_options){.max_file_bytes = 1000000}, &files);
    const char *text = pando_printf(ctx, "%zu:%s", count, pando_form(ctx, "title") ? pando_form(ctx, "title") : "-");
    for (size_t i = 0; i < count; i++) {
        char head[8] = "";
        if (read(files[i].fd, head, 4) < 0) return;
        text = pando_printf(ctx, "%s;%s,%s,%s,%llu,%s", text, files[i].name, files[i].filename, files[i].type,
                            (unsigned long long)files[i].size, head);
    }
    pando_body_text(ctx, text);
}
static void events(pando_ctx *ctx) {
    if (pando_sse_start(ctx)) return;
    pando_sse_comment(ctx, "hello");
    pando_sse_send(ctx, "tick", "1", "one\ntwo");
    pando_sse_send(ctx, NULL, NULL, "three");
}
static void signed_get(pando_ctx *ctx) { pando_body_printf(ctx, "%s", pando_cookie(ctx, "who") ? pando_cookie(ctx, "who") : "nobody"); }
static void signed_set(pando_ctx *ctx) {
    int zeros = (int)number(ctx, "zeros", 0);
    pando_set_cookie(ctx, "who", zeros ? pando_printf(ctx, "%0*d", zeros, 0) : "me", NULL);
    pando_body_text(ctx, "set");
}
static void stats(pando_ctx *ctx) {
    struct pando_server_stats s = pando_server_stats(pando_exchange_server(pando_ctx_exchange(ctx)));
    pando_body_json(ctx, "{s:I,s:I,s:I,s:I,s:I,s:i,s:I,s:I}", "accepted", (json_int_t)s.accepted, "requests", (json_int_t)s.requests,
                    "refused", (json_int_t)s.refused, "reads", (json_int_t)s.reads, "writes", (json_int_t)s.writes, "connections",
                    (int)s.connections, "connection_bytes", (json_int_t)s.connection_bytes, "accept_failures",
                    (json_int_t)s.accept_failures);
}
static void send_file(pando_ctx *ctx) {
    const char *path = pando_query(ctx, "path");
    if (!path || pando_body_file(ctx, path)) pando_throw(ctx, 404, "no such file");
}
static void sendfile_under(pando_ctx *ctx) {
    const char *path = pando_query(ctx, "path");
    if (!path || pando_send(ctx, "/usr/share/common-licenses", path, NULL)) pando_throw(ctx, 404, "no such file");
}
static void spawn_cpu(pando_ctx *ctx) {
    for (uint64_t end = pando_now_ns() + 200000000u; pando_now_ns() < end;) {
    }
    pando_body_text(ctx, "spun");
}

static uint32_t option(int argc, char **argv, const char *name) {
    for (int i = 2; i < argc; i++)
        if (!strncmp(argv[i], name, strlen(name)) && argv[i][strlen(name)] == '=')
            return (uint32_t)strtoul(argv[i] + strlen(name) + 1, NULL, 10);
    return 0;
}

int main(int argc, char **argv) {
    static const char *const keys[] = {"new key", "old key", NULL}, *const old_keys[] = {"old key", NULL};
#define OPTION(name) .name = option(argc, argv, #name)
    struct pando_app_options options = {
        .keys = option(argc, argv, "old_keys") ? old_keys : keys,
        .stack_bytes = option(argc, argv, "stack_bytes"),
        .server = {OPTION(max_header_bytes), OPTION(max_header_count), OPTION(max_body_bytes), OPTION(headers_timeout_ms),
                   OPTION(request_timeout_ms), OPTION(keep_alive_timeout_ms), OPTION(handler_timeout_ms), OPTION(stall_timeout_ms),
                   OPTION(max_requests_per_socket), OPTION(max_connections), OPTION(refuse_underscore_names), OPTION(accept_connect)},
    };
    uint32_t files = option(argc, argv, "files");
    if (files) setrlimit(RLIMIT_NOFILE, &(struct rlimit){files, files});
    pando_app *app = pando_app_new(&options);
    for (int i = 2; i < argc; i++)
        if (!strncmp(argv[i], "static=", 7) &&
            pando_use_static(app, argv[i] + 7, &(struct pando_static_options){.prefix = "/static", .precompressed = true, .max_age_s = 60}))
            return 1;
    if (option(argc, argv, "log"))
        pando_use_logger(app,
                         &(struct pando_logger_options){.format = option(argc, argv, "log") == 2 ? PANDO_LOG_JSON : PANDO_LOG_COMBINED});
    if (option(argc, argv, "cors"))
        pando_use_cors(app, &(struct pando_cors_options){
                                .origins = "https://a.example, https://b.example", .credentials = true, .expose = "X-A", .max_age_s = 600});
    if (option(argc, argv, "accept_connect")) pando_use(app, tunnel, NULL);
    if (option(argc, argv, "security")) pando_use_security(app, NULL);
    if (option(argc, argv, "request_id")) pando_use_request_id(app, option(argc, argv, "request_id") == 2);
    if (option(argc, argv, "etag")) pando_use_etag(app);
#define GET(path, fn) pando_get(app, path, fn, NULL)
#define POST(path, fn) pando_post(app, path, fn, NULL)
    GET("/", ok), GET("/none", none), POST("/echo", echo), POST("/pipe", pipe_through), POST("/unread", unread), GET("/slow", slow),
        GET("/forever", forever), GET("/cancelled", show_cancelled), GET("/big", big);
    GET("/endless", endless), GET("/stream", stream), GET("/trailers", trailers), GET("/throw_after_head", throw_after_head),
        GET("/write_after_end", write_after_end), GET("/injection", injection);
    GET("/closed_fd", closed_fd), GET("/wait_fd", wait_fd), GET("/work", work), GET("/no_memory", no_memory), GET("/overflow", overflow),
        GET("/early_hints", early_hints), GET("/upgrade", upgrade), GET("/twice", twice);
    POST("/json", json), POST("/form", form), POST("/upload", upload), GET("/events", events), GET("/signed_get", signed_get),
        GET("/signed_set", signed_set), GET("/stats", stats), GET("/file", send_file);
    GET("/send", sendfile_under), GET("/spin", spawn_cpu), POST("/", ok);
    return pando_app_main(app, argv[1]);
}

// SPDX-License-Identifier: MIT
// One line an answer, when it is over: Apache's combined format, or JSON. What comes from the client is escaped. A reader that
// stalls costs lines, never the service.
#include "ctx.h"
#include "log.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 4096 };  // PIPE_BUF: such a write is whole or not at all

struct logger {
    struct pando_logger_options options;
    uint64_t dropped;
};

struct entry {
    struct logger *logger;
    pando_ctx *ctx;
    uint64_t start_ns;
    const char *ip, *method, *url, *referrer, *agent;
};

// Quotes, backslashes and everything that is not printable ASCII as \xHH.
static const char *escape(const char *text, char *out, size_t size) {
    size_t to = 0;
    for (; *text && to + 5 < size; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
            out[to++] = (char)c;
        else
            to += (size_t)snprintf(out + to, 5, "\\x%02x", c);
    }
    out[to] = '\0';
    return *out ? out : "-";
}

static size_t combined_line(const struct entry *entry, int64_t bytes, char *line) {
    char url[1500], referrer[700], agent[700], ip[64], date[40], length[24] = "-";
    time_t now = time(NULL);
    struct tm tm;
    strftime(date, sizeof date, "%d/%b/%Y:%H:%M:%S %z", localtime_r(&now, &tm));
    if (bytes >= 0) snprintf(length, sizeof length, "%lld", (long long)bytes);
    return (size_t)snprintf(line, LINE_BYTES, "%s - - [%s] \"%s %s HTTP/1.%d\" %d %s \"%s\" \"%s\"\n", escape(entry->ip, ip, sizeof ip),
                            date, entry->method, escape(entry->url, url, sizeof url), entry->ctx->exchange->head.minor,
                            entry->ctx->exchange->status, length, escape(entry->referrer, referrer, sizeof referrer),
                            escape(entry->agent, agent, sizeof agent));
}

static size_t json_line(const struct entry *entry, int64_t bytes, char *line) {
    char url[1500], referrer[700], agent[700], ip[64], date[40];
    time_t now = time(NULL);
    struct tm tm;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    log_json_escape(entry->url, strnlen(entry->url, 240), url, sizeof url);
    log_json_escape(entry->referrer, strnlen(entry->referrer, 110), referrer, sizeof referrer);
    log_json_escape(entry->agent, strnlen(entry->agent, 110), agent, sizeof agent);
    log_json_escape(entry->ip, strnlen(entry->ip, 10 * 5), ip, sizeof ip);
    return (size_t)snprintf(line, LINE_BYTES,
                            "{\"time\":\"%s\",\"ip\":\"%s\",\"method\":\"%s\",\"url\":\"%s\",\"status\":%d,\"bytes\":%lld,\"ms\":%.3f,"
                            "\"referrer\":\"%s\",\"agent\":\"%s\"%s}\n",
                            date, ip, entry->method, url, entry->ctx->exchange->status, (long long)bytes,
                            (double)(pando_now_ns() - entry->start_ns) / 1e6, referrer, agent,
                            entry->ctx->cancelled ? ",\"aborted\":true" : "");
}

static void on_over(void *at) {
    struct entry *entry = at;
    struct logger *logger = entry->logger;
    const pando_exchange *exchange = entry->ctx->exchange;
    int64_t bytes = exchange->bodyless ? 0 : exchange->declared != UINT64_MAX ? (int64_t)exchange->declared : (int64_t)exchange->written;
    char line[LINE_BYTES];
    size_t len = logger->options.format == PANDO_LOG_JSON ? json_line(entry, bytes, line) : combined_line(entry, bytes, line);
    if (len >= sizeof line) len = sizeof line - 1, line[len - 1] = '\n';
    int fd = logger->options.fd ? logger->options.fd : STDOUT_FILENO;
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    if (poll(&writable, 1, 0) != 1 || write(fd, line, len) < 0) logger->dropped++;
}

static void log_request(pando_ctx *ctx) {
    struct entry *entry = pando_alloc(ctx, sizeof *entry);
    *entry = (struct entry){pando_arg(ctx),
                            ctx,
                            pando_now_ns(),
                            pando_ip(ctx),
                            pando_method(ctx),
                            pando_original_url(ctx),
                            pando_header(ctx, "Referer"),
                            pando_header(ctx, "User-Agent")};
    pando_defer(ctx, on_over, entry);
    pando_next(ctx);
}

static void logger_free(void *at) {
    struct logger *logger = at;
    if (logger->dropped) fprintf(stderr, "pando: the log's reader was slow: %llu lines dropped\n", (unsigned long long)logger->dropped);
    free(logger);
}

void pando_use_logger(pando_app *app, const struct pando_logger_options *options) {
    struct logger *logger = calloc(1, sizeof *logger);
    if (!logger) return;
    if (options) logger->options = *options;
    pando_on_free(app, logger_free, logger);
    pando_use_named(app, "logger", log_request, logger);
}

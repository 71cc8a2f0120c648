// SPDX-License-Identifier: MIT
// A line is built on the stack and leaves in one write, so that lines of several processes do not mix.
#include "log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define LOG_MESSAGE_SIZE 1024
#define LOG_LINE_SIZE 4096

static const char *const log_level_name[LOG_LEVEL_COUNT] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARN] = "warn",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

static struct {
    const char *role, *name;  // borrowed
    enum log_form form;
    enum log_level level;
    log_sink_fn sink;
    void *sink_arg;
} log_state = {.role = "pando", .name = "", .form = LOG_FORM_SHORT, .level = LOG_LEVEL_INFO};

// Length of the well-formed UTF-8 sequence at `text`, 0 when there is none: no overlong forms, surrogates, or beyond U+10FFFF.
static size_t log_utf8_len(const unsigned char *text, size_t len) {
    unsigned char lead = text[0];
    size_t need = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (need == 0 || need > len) return 0;
    for (size_t i = 1; i < need; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    if (lead == 0xe0 && text[1] < 0xa0) return 0;
    if (lead == 0xed && text[1] > 0x9f) return 0;
    if (lead == 0xf0 && text[1] < 0x90) return 0;
    if (lead == 0xf4 && text[1] > 0x8f) return 0;
    return need;
}

// One character of `text` as it stands in a JSON string, into `out` (size 8). Returns how many bytes of `text` it took.
static size_t log_json_escape_one(const unsigned char *text, size_t len, char *out) {
    size_t taken = log_utf8_len(text, len);
    if (taken == 0) {
        strcpy(out, "\xef\xbf\xbd");
        return 1;
    }
    if (text[0] == '"' || text[0] == '\\')
        snprintf(out, 8, "\\%c", text[0]);
    else if (text[0] == '\n')
        strcpy(out, "\\n");
    else if (text[0] == '\t')
        strcpy(out, "\\t");
    else if (text[0] < 0x20)
        snprintf(out, 8, "\\u%04x", text[0]);
    else
        snprintf(out, 8, "%.*s", (int)taken, (const char *)text);
    return taken;
}

size_t log_json_escape(const char *text, size_t len, char *out, size_t size) {
    size_t written = 0;
    for (size_t at = 0; at < len && size > 0;) {
        char one[8];
        at += log_json_escape_one((const unsigned char *)text + at, len - at, one);
        size_t one_len = strlen(one);
        if (one_len >= size - written) break;
        memcpy(out + written, one, one_len);
        written += one_len;
    }
    if (size > 0) out[written] = '\0';
    return written;
}

void log_init(const char *role, const char *name, enum log_form form, enum log_level level) {
    assert(level < LOG_LEVEL_COUNT);
    log_state.role = role;
    log_state.name = name ? name : "";
    log_state.form = form;
    log_state.level = level;
}

void log_set_sink(log_sink_fn sink, void *arg) {
    log_state.sink = sink;
    log_state.sink_arg = arg;
}

bool log_enabled(enum log_level level) { return level <= log_state.level; }

// Names of programs and paths are other people's text: they must not forge a line or speak to the terminal.
static void log_defuse(char *message) {
    for (; *message; message++)
        if ((unsigned char)*message < 0x20 || *message == 0x7f) *message = *message == '\t' ? ' ' : '?';
}

static size_t log_format_text(enum log_level level, const char *message, char *out, size_t size) {
    size_t len = 0;
    char now[32];
    if (log_state.form == LOG_FORM_FULL)
        len = (size_t)snprintf(out, size, "%s %s %s %d ", clock_text(now, sizeof now), log_level_name[level], log_state.role, getpid());
    const char *colon = log_state.name[0] ? ": " : "";
    len += (size_t)snprintf(out + len, size - len, "pando: %s%s%s\n", log_state.name, colon, message);
    return len;
}

static size_t log_format_json(enum log_level level, const char *message, char *out, size_t size) {
    char now[32];
    char name[256];
    log_json_escape(log_state.name, strlen(log_state.name), name, sizeof name);
    size_t len = (size_t)snprintf(out, size, "{\"time\":\"%s\",\"level\":\"%s\",\"role\":\"%s\",\"pid\":%d,\"name\":\"%s\",\"message\":\"",
                                  clock_text(now, sizeof now), log_level_name[level], log_state.role, getpid(), name);
    len += log_json_escape(message, strlen(message), out + len, size - len - sizeof "\"}\n");
    len += (size_t)snprintf(out + len, size - len, "\"}\n");
    return len;
}

static void log_emit(const char *line, size_t len) {
    if (log_state.sink) {
        log_state.sink(log_state.sink_arg, line, len);
        return;
    }
    ssize_t ignored = write(STDERR_FILENO, line, len);  // a full or broken stderr must not stop the service
    (void)ignored;
}

void log_line(enum log_level level, const char *format, ...) {
    if (!log_enabled(level)) return;
    int saved = errno;
    char message[LOG_MESSAGE_SIZE];
    char line[LOG_LINE_SIZE];
    va_list args;
    va_start(args, format);
    if (vsnprintf(message, sizeof message, format, args) < 0) message[0] = '\0';
    va_end(args);
    size_t len;
    if (log_state.form == LOG_FORM_JSON) {
        len = log_format_json(level, message, line, sizeof line);
    } else {
        log_defuse(message);
        len = log_format_text(level, message, line, sizeof line);
    }
    log_emit(line, len);
    errno = saved;
}

// SPDX-License-Identifier: MIT
// Pando's own lines: one an event, a human phrase, then logfmt pairs where they help.
//
// In a terminal:   pando: app: worker 2 (pid 81234) was killed by signal KILL
// Elsewhere:       2026-11-24T16:49:04.123Z warn primary 8123 pando: app: worker 2 ...
// As JSON:         {"time":"...","level":"warn","role":"primary","pid":8123,"name":"app","message":"..."}
// A finished line goes to the sink; without one, to stderr. errno is left alone.
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_COUNT };
enum log_form { LOG_FORM_SHORT, LOG_FORM_FULL, LOG_FORM_JSON };

// Gets one whole line, newline included.
typedef void (*log_sink_fn)(void *arg, const char *line, size_t len);

// `role` ("primary") and `name` (the instance) are borrowed for the life of the process.
void log_init(const char *role, const char *name, enum log_form form, enum log_level level);
void log_set_sink(log_sink_fn sink, void *arg);  // NULL: stderr again
bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                         \
    do {                                                                       \
        if (log_enabled(LOG_LEVEL_DEBUG)) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__); \
    } while (0)

// Appends `text` (len bytes) as the inside of a JSON string to `out`; invalid UTF-8 becomes U+FFFD. Bytes written, NUL not counted.
size_t log_json_escape(const char *text, size_t len, char *out, size_t size);

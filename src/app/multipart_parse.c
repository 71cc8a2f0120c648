// SPDX-License-Identifier: MIT
//   PREAMBLE --delimiter--> AFTER --CRLF--> HEAD --blank line--> DATA --delimiter--> AFTER ... --"--"--> END
// CR occurs in a delimiter only as its first byte, so a failed match falls back to the byte at hand and nothing else.
#include "multipart_parse.h"

#include <string.h>
#include <strings.h>

enum { PREAMBLE, AFTER, AFTER_DASH, AFTER_CR, HEAD, DATA, ENDED, BROKEN };

bool multipart_init(struct multipart *parser, const char *content_type) {
    memset(parser, 0, sizeof *parser);
    const char *at = strcasestr(content_type, "boundary=");
    if (!at) return false;
    at += 9;
    size_t len = *at == '"' ? strcspn(++at, "\"") : strcspn(at, "; \t,");
    if (!len || len > MULTIPART_BOUNDARY_MAX) return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)at[i] < 0x20 || (unsigned char)at[i] > 0x7e) return false;
    memcpy(parser->delimiter, "\r\n--", 4);
    memcpy(parser->delimiter + 4, at, len);
    parser->delimiter_len = len + 4;
    parser->matched = 2;  // the first delimiter needs no CR LF before it
    return true;
}

// "name=value" or name="value" of a header line, where \" and %22 are quotes. True: found and it fits.
static bool parameter(const char *line, const char *name, char *out) {
    size_t name_len = strlen(name), to = 0;
    const char *at = line;
    while ((at = strchr(at, ';'))) {
        at += 1 + strspn(at + 1, " \t");
        if (strncasecmp(at, name, name_len) || at[name_len] != '=') {
            bool quoted = false;
            while (*at && (quoted || *at != ';')) {
                if (*at == '\\' && quoted && at[1])
                    at++;
                else if (*at == '"')
                    quoted = !quoted;
                at++;
            }
            continue;
        }
        at += name_len + 1;
        bool quoted = *at == '"';
        for (at += quoted; *at && (quoted ? *at != '"' : *at != ';' && *at != ' '); at++) {
            if (quoted && *at == '\\' && (at[1] == '"' || at[1] == '\\')) at++;
            if (to == MULTIPART_NAME_MAX - 1) return false;
            if (quoted && !strncmp(at, "%22", 3))
                out[to++] = '"', at += 2;
            else
                out[to++] = *at;
        }
        out[to] = '\0';
        return true;
    }
    return false;
}

static bool parse_head(struct multipart *parser) {
    parser->name[0] = parser->filename[0] = parser->type[0] = '\0';
    parser->has_filename = false;
    bool named = false;
    if (memchr(parser->head, '\0', parser->head_len)) return false;
    parser->head[parser->head_len] = '\0';
    for (char *line = parser->head, *end; *line; line = end + 2) {
        if (!(end = strstr(line, "\r\n"))) return false;
        *end = '\0';
        if (!strncasecmp(line, "content-disposition:", 20)) {
            named = parameter(line, "name", parser->name);
            parser->has_filename = parameter(line, "filename", parser->filename);
        } else if (!strncasecmp(line, "content-type:", 13)) {
            const char *type = line + 13 + strspn(line + 13, " \t");
            size_t len = strlen(type) < MULTIPART_NAME_MAX ? strlen(type) : MULTIPART_NAME_MAX - 1;
            memcpy(parser->type, type, len);
            parser->type[len] = '\0';
        }
    }
    // What a client sends as a path is only its last part, for '/' and '\\'.
    for (const char *at = parser->filename; (at = strpbrk(at, "/\\"));) {
        memmove(parser->filename, at + 1, strlen(at + 1) + 1);
        at = parser->filename;
    }
    return named;
}

static enum multipart_event broken(struct multipart *parser) {
    parser->state = BROKEN;
    return MULTIPART_BAD;
}

// Data up to the delimiter. What had matched and then did not is replayed from the delimiter itself.
static enum multipart_event step_data(struct multipart *parser, const char *data, size_t len, size_t *used, const char **out,
                                      size_t *out_len) {
    if (parser->replay) {
        *out = parser->delimiter;
        *out_len = parser->replay;
        parser->replay = 0;
        return MULTIPART_DATA;
    }
    size_t at = 0;
    if (!parser->matched) {
        const char *cr = memchr(data, '\r', len);
        at = cr ? (size_t)(cr - data) : len;
        if (at) {
            *used = *out_len = at;
            *out = data;
            return MULTIPART_DATA;
        }
    }
    while (at < len && data[at] == parser->delimiter[parser->matched]) {
        at++;
        if (++parser->matched == parser->delimiter_len) {
            *used = at;
            parser->matched = 0;
            parser->state = AFTER;
            return MULTIPART_PART_END;
        }
    }
    *used = at;
    if (at == len) return MULTIPART_MORE;
    parser->replay = parser->matched;
    parser->matched = 0;
    return step_data(parser, NULL, 0, &(size_t){0}, out, out_len);
}

static enum multipart_event step_head(struct multipart *parser, const char *data, size_t len, size_t *used) {
    for (size_t i = 0; i < len; i++) {
        if (parser->head_len == sizeof parser->head - 1) return broken(parser);
        parser->head[parser->head_len++] = data[i];
        *used = i + 1;
        bool blank = parser->head_len >= 4 && !memcmp(parser->head + parser->head_len - 4, "\r\n\r\n", 4);
        if (!blank && !(parser->head_len == 2 && !memcmp(parser->head, "\r\n", 2))) continue;
        parser->head_len -= 2;
        parser->state = DATA;
        parser->matched = 0;
        return parse_head(parser) ? MULTIPART_PART : broken(parser);
    }
    return MULTIPART_MORE;
}

enum multipart_event multipart_step(struct multipart *parser, const char *data, size_t len, size_t *out_used, const char **out_data,
                                    size_t *out_len) {
    *out_used = *out_len = 0;
    *out_data = NULL;
    switch (parser->state) {
        case PREAMBLE:
            for (size_t i = 0; i < len; i++) {
                *out_used = i + 1;
                if (data[i] == parser->delimiter[parser->matched])
                    parser->matched++;
                else
                    parser->matched = data[i] == '\r';
                if (parser->matched < parser->delimiter_len) continue;
                parser->matched = 0;
                parser->state = AFTER;
                return MULTIPART_MORE;
            }
            return MULTIPART_MORE;
        case AFTER:
        case AFTER_DASH:
        case AFTER_CR:
            if (!len) return MULTIPART_MORE;
            *out_used = 1;
            if (parser->state == AFTER) {
                if (*data == '-')
                    parser->state = AFTER_DASH;
                else if (*data == '\r')
                    parser->state = AFTER_CR;
                else if (*data != ' ' && *data != '\t')
                    return broken(parser);
            } else if (parser->state == AFTER_DASH) {
                if (*data != '-') return broken(parser);
                parser->state = ENDED;
                return MULTIPART_END;
            } else {
                if (*data != '\n') return broken(parser);
                parser->state = HEAD;
                parser->head_len = 0;
            }
            return MULTIPART_MORE;
        case HEAD: return step_head(parser, data, len, out_used);
        case DATA: return step_data(parser, data, len, out_used, out_data, out_len);
        case ENDED:
            *out_used = len;  // the epilogue
            return len ? MULTIPART_MORE : MULTIPART_END;
        default: return MULTIPART_BAD;
    }
}

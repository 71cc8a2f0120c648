// SPDX-License-Identifier: MIT
#include "h1_write.h"

#include <stdio.h>
#include <time.h>

static const char *const texts[600] = {
    [100] = "Continue",
    [101] = "Switching Protocols",
    [102] = "Processing",
    [103] = "Early Hints",
    [200] = "OK",
    [201] = "Created",
    [202] = "Accepted",
    [203] = "Non-Authoritative Information",
    [204] = "No Content",
    [205] = "Reset Content",
    [206] = "Partial Content",
    [207] = "Multi-Status",
    [208] = "Already Reported",
    [226] = "IM Used",
    [300] = "Multiple Choices",
    [301] = "Moved Permanently",
    [302] = "Found",
    [303] = "See Other",
    [304] = "Not Modified",
    [305] = "Use Proxy",
    [307] = "Temporary Redirect",
    [308] = "Permanent Redirect",
    [400] = "Bad Request",
    [401] = "Unauthorized",
    [402] = "Payment Required",
    [403] = "Forbidden",
    [404] = "Not Found",
    [405] = "Method Not Allowed",
    [406] = "Not Acceptable",
    [407] = "Proxy Authentication Required",
    [408] = "Request Timeout",
    [409] = "Conflict",
    [410] = "Gone",
    [411] = "Length Required",
    [412] = "Precondition Failed",
    [413] = "Payload Too Large",
    [414] = "URI Too Long",
    [415] = "Unsupported Media Type",
    [416] = "Range Not Satisfiable",
    [417] = "Expectation Failed",
    [418] = "I'm a Teapot",
    [421] = "Misdirected Request",
    [422] = "Unprocessable Entity",
    [423] = "Locked",
    [424] = "Failed Dependency",
    [425] = "Too Early",
    [426] = "Upgrade Required",
    [428] = "Precondition Required",
    [429] = "Too Many Requests",
    [431] = "Request Header Fields Too Large",
    [451] = "Unavailable For Legal Reasons",
    [500] = "Internal Server Error",
    [501] = "Not Implemented",
    [502] = "Bad Gateway",
    [503] = "Service Unavailable",
    [504] = "Gateway Timeout",
    [505] = "HTTP Version Not Supported",
    [506] = "Variant Also Negotiates",
    [507] = "Insufficient Storage",
    [508] = "Loop Detected",
    [509] = "Bandwidth Limit Exceeded",
    [510] = "Not Extended",
    [511] = "Network Authentication Required",
};

const char *h1_status_text(int status) { return status >= 0 && status < 600 ? texts[status] : NULL; }

char *h1_date_text(int64_t second, char *out) {
    static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t time = (time_t)second;
    struct tm tm;
    gmtime_r(&time, &tm);
    char text[80];
    snprintf(text, sizeof text, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon,
             tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    memcpy(out, text, 29);
    out[29] = '\0';
    return out;
}

bool h1_put(struct block *block, const void *data, size_t len) {
    if (len > block_room(block)) return false;
    memcpy(block->data + block->end, data, len);
    block->end += (uint32_t)len;
    return true;
}

bool h1_put_status(struct block *block, int status, struct pando_str reason) {
    if (status == 200 && !reason.data) return h1_put(block, "HTTP/1.1 200 OK\r\n", 17);
    if (!reason.data) reason = pando_str_of(h1_status_text(status));
    if (17 + reason.len > block_room(block)) return false;
    char *at = block->data + block->end;
    memcpy(at, "HTTP/1.1 ", 9);
    at[9] = (char)('0' + status / 100 % 10);
    at[10] = (char)('0' + status / 10 % 10);
    at[11] = (char)('0' + status % 10);
    at[12] = ' ';
    if (reason.len) memcpy(at + 13, reason.data, reason.len);
    memcpy(at + 13 + reason.len, "\r\n", 2);
    block->end += (uint32_t)(15 + reason.len);
    return true;
}

bool h1_put_field(struct block *block, struct pando_str name, struct pando_str value) {
    size_t len = name.len + value.len + 4;
    if (len > block_room(block)) return false;
    char *at = block->data + block->end;
    memcpy(at, name.data, name.len);
    at += name.len;
    *at++ = ':';
    *at++ = ' ';
    if (value.len) memcpy(at, value.data, value.len);
    memcpy(at + value.len, "\r\n", 2);
    block->end += (uint32_t)len;
    return true;
}

bool h1_put_number(struct block *block, const char *prefix, size_t prefix_len, uint64_t value) {
    char digits[24], *at = digits + sizeof digits;
    *--at = '\n';
    *--at = '\r';
    do *--at = (char)('0' + value % 10);
    while (value /= 10);
    size_t len = (size_t)(digits + sizeof digits - at);
    if (prefix_len + len > block_room(block)) return false;
    memcpy(block->data + block->end, prefix, prefix_len);
    memcpy(block->data + block->end + prefix_len, at, len);
    block->end += (uint32_t)(prefix_len + len);
    return true;
}

size_t h1_chunk_head(char *out, size_t len) { return (size_t)snprintf(out, 20, "%zx\r\n", len); }

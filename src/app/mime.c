// SPDX-License-Identifier: MIT
// Extensions to types. Sorted by extension: looked up by bisection (a test checks the order).
#include "mime.h"

#include <strings.h>

#include "ctx.h"

static const struct {
    const char *extension;
    struct pando_str type;
} types[] = {
#define M(extension, type)                       \
    {                                            \
        extension, { "" type, sizeof(type) - 1 } \
    }
    M("7z", "application/x-7z-compressed"),
    M("aac", "audio/x-aac"),
    M("atom", "application/atom+xml"),
    M("avi", "video/x-msvideo"),
    M("avif", "image/avif"),
    M("bin", "application/octet-stream"),
    M("bmp", "image/bmp"),
    M("bz2", "application/x-bzip2"),
    M("c", "text/x-c"),
    M("css", "text/css; charset=utf-8"),
    M("csv", "text/csv; charset=utf-8"),
    M("deb", "application/octet-stream"),
    M("doc", "application/msword"),
    M("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    M("eot", "application/vnd.ms-fontobject"),
    M("epub", "application/epub+zip"),
    M("flac", "audio/x-flac"),
    M("form", "application/x-www-form-urlencoded"),
    M("gif", "image/gif"),
    M("gz", "application/gzip"),
    M("h", "text/x-c"),
    M("heic", "image/heic"),
    M("htm", "text/html; charset=utf-8"),
    M("html", "text/html; charset=utf-8"),
    M("ico", "image/vnd.microsoft.icon"),
    M("ics", "text/calendar; charset=utf-8"),
    M("jar", "application/java-archive"),
    M("jpeg", "image/jpeg"),
    M("jpg", "image/jpeg"),
    M("js", "text/javascript; charset=utf-8"),
    M("json", "application/json; charset=utf-8"),
    M("jsonld", "application/ld+json"),
    M("log", "text/plain; charset=utf-8"),
    M("m4a", "audio/mp4"),
    M("m4v", "video/x-m4v"),
    M("map", "application/json; charset=utf-8"),
    M("markdown", "text/markdown; charset=utf-8"),
    M("md", "text/markdown; charset=utf-8"),
    M("mid", "audio/midi"),
    M("mjs", "text/javascript; charset=utf-8"),
    M("mov", "video/quicktime"),
    M("mp3", "audio/mpeg"),
    M("mp4", "video/mp4"),
    M("mpeg", "video/mpeg"),
    M("odt", "application/vnd.oasis.opendocument.text"),
    M("ogg", "audio/ogg"),
    M("ogv", "video/ogg"),
    M("otf", "font/otf"),
    M("pdf", "application/pdf"),
    M("png", "image/png"),
    M("ppt", "application/vnd.ms-powerpoint"),
    M("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    M("ps", "application/postscript"),
    M("rar", "application/vnd.rar"),
    M("rss", "application/rss+xml"),
    M("rtf", "text/rtf; charset=utf-8"),
    M("sh", "application/x-sh"),
    M("svg", "image/svg+xml"),
    M("tar", "application/x-tar"),
    M("text", "text/plain; charset=utf-8"),
    M("tif", "image/tiff"),
    M("tiff", "image/tiff"),
    M("toml", "application/toml"),
    M("ts", "video/mp2t"),
    M("ttf", "font/ttf"),
    M("txt", "text/plain; charset=utf-8"),
    M("vtt", "text/vtt; charset=utf-8"),
    M("wasm", "application/wasm"),
    M("wav", "audio/wav"),
    M("weba", "audio/webm"),
    M("webm", "video/webm"),
    M("webmanifest", "application/manifest+json; charset=utf-8"),
    M("webp", "image/webp"),
    M("woff", "font/woff"),
    M("woff2", "font/woff2"),
    M("xhtml", "application/xhtml+xml"),
    M("xls", "application/vnd.ms-excel"),
    M("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    M("xml", "text/xml; charset=utf-8"),
    M("yaml", "text/yaml; charset=utf-8"),
    M("yml", "text/yaml; charset=utf-8"),
    M("zip", "application/zip"),
    M("zst", "application/zstd"),
#undef M
};

struct pando_str mime_of_extension(const char *extension, size_t len) {
    size_t low = 0, high = sizeof types / sizeof *types;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strncasecmp(extension, types[middle].extension, len);
        if (!order) order = -(types[middle].extension[len] != '\0');
        if (!order) return types[middle].type;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return (struct pando_str){0};
}

struct pando_str mime_of_name(const char *name) {
    const char *slash = strrchr(name, '/'), *dot = strrchr(slash ? slash : name, '.');
    return dot && dot[1] ? mime_of_extension(dot + 1, strlen(dot + 1)) : (struct pando_str){0};
}

struct pando_str mime_content_type(struct pando_ctx *ctx, const char *type) {
    if (!strchr(type, '/')) {
        const char *dot = strrchr(type, '.');
        if (dot) type = dot + 1;
        return mime_of_extension(type, strlen(type));
    }
    bool has_charset = strcasestr(type, "charset"), is_text = !strncasecmp(type, "text/", 5);
    size_t bare = strcspn(type, "; ");
    bool is_json =
        (bare == 16 && !strncasecmp(type, "application/json", 16)) || (bare == 25 && !strncasecmp(type, "application/manifest+json", 25));
    if (has_charset || !(is_text || is_json)) return pando_str_of(ctx_copy(ctx, type, strlen(type)));
    return pando_str_of(pando_printf(ctx, "%s; charset=utf-8", type));
}

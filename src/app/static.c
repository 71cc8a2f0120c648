// SPDX-License-Identifier: MIT
// Static files. The kernel keeps the path below the root (openat2, RESOLVE_BENEATH); open files are kept for a second in a
// direct-mapped cache, so that a hot file costs neither open nor stat. An answer holds its file until it has been sent.
#include <sys/types.h>
#include "ctx.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fresh.h"
#include "mime.h"
#include "range.h"
#include "static_path.h"

enum { CACHE_SLOTS = 256, CACHE_MS = 1000, PATH_BYTES = 4096, SMALL_BYTES = 16 * 1024 };

struct file {
    int fd;  // owned
    unsigned holds;
    uint64_t size, checked_ms;
    int64_t modified;
    char etag[48], last_modified[32], *path;  // path: owned
    char *content;                            // owned: of a small file, which then leaves in one write with its head; NULL: sendfile
    struct pando_str type;
};

struct static_files {
    int root;  // owned
    struct pando_static_options options;
    struct file *cache[CACHE_SLOTS];  // held
    char cache_control[64];
};

static void file_release(void *at) {
    struct file *file = at;
    if (--file->holds) return;
    close(file->fd);
    free(file->path);
    free(file->content);
    free(file);
}

// Without openat2 (an old container's filter): step by step, following no link at all. `path` has no "..".
static int walk_beneath(int root, const char *path) {
    int at = root;
    for (;;) {
        size_t len = strcspn(path, "/");
        char name[256];
        if (len >= sizeof name) return at == root ? -ENAMETOOLONG : (close(at), -ENAMETOOLONG);
        memcpy(name, path, len);
        name[len] = '\0';
        int next = openat(at, name, (path[len] ? O_PATH | O_DIRECTORY : O_RDONLY | O_NONBLOCK) | O_NOFOLLOW | O_CLOEXEC), error = errno;
        if (at != root) close(at);
        if (next < 0) return error == ELOOP ? -ENOENT : -error;
        if (!path[len]) return next;
        at = next;
        path += len + 1;
    }
}

static int open_beneath(int root, const char *path) {
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) return walk_beneath(root, path);
    return fd < 0 ? -errno : fd;
}

static void load_small(struct file *file) {
    if (!file->size || file->size > SMALL_BYTES || !(file->content = malloc((size_t)file->size))) return;
    if (pread(file->fd, file->content, (size_t)file->size, 0) == (ssize_t)file->size) return;
    free(file->content);  // it is being written: let sendfile see how far it comes
    file->content = NULL;
}

static struct file *file_open(int root, const char *path, int *out_error) {
    int fd = open_beneath(root, path);
    struct stat status;
    *out_error = fd < 0 ? fd : fstat(fd, &status) ? -errno : S_ISREG(status.st_mode) ? 0 : S_ISDIR(status.st_mode) ? -EISDIR : -ENOENT;
    struct file *file = *out_error ? NULL : calloc(1, sizeof *file);
    if (file && !(file->path = strdup(path))) free(file), file = NULL;
    if (!file) {
        if (!*out_error) *out_error = -ENOMEM;
        if (fd >= 0) close(fd);
        return NULL;
    }
    file->fd = fd;
    file->holds = 1;
    file->size = (uint64_t)status.st_size;
    file->modified = status.st_mtim.tv_sec;
    snprintf(file->etag, sizeof file->etag, "\"%llx-%llx.%lx\"", (unsigned long long)file->size, (unsigned long long)file->modified,
             status.st_mtim.tv_nsec);
    h1_date_text(file->modified, file->last_modified);
    file->type = mime_of_name(path);
    load_small(file);
    return file;
}

static unsigned slot_of(const char *path) {
    unsigned hash = 2166136261u;
    for (; *path; path++) hash = (hash ^ (unsigned char)*path) * 16777619u;
    return hash % CACHE_SLOTS;
}

// A held file. A cached one is trusted for a second, then opened anew: it may have been replaced.
static struct file *file_get(struct static_files *files, const char *path, uint64_t now_ms, int *out_error) {
    struct file **slot = &files->cache[slot_of(path)];
    if (*slot && !strcmp((*slot)->path, path) && now_ms - (*slot)->checked_ms < CACHE_MS) return (*slot)->holds++, *slot;
    struct file *file = file_open(files->root, path, out_error);
    if (!file) return NULL;
    file->checked_ms = now_ms;
    if (*slot) file_release(*slot);
    *slot = file;
    file->holds++;
    return file;
}

// RFC 9110 13.2.2: what the client takes for granted comes before what it has.
static bool precondition_fails(pando_ctx *ctx, const struct file *file) {
    const char *match = pando_header(ctx, "If-Match");
    if (*match) return strcmp(match, "*") && !h1_has_token(match, strlen(match), file->etag);
    int64_t date = fresh_parse_date(pando_header(ctx, "If-Unmodified-Since"));
    return date >= 0 && file->modified > date;
}

static bool range_applies(pando_ctx *ctx, const struct file *file) {
    if (strcmp(pando_method(ctx), "GET")) return false;  // RFC 9110 14.2
    const char *condition = pando_header(ctx, "If-Range");
    if (!*condition) return true;
    if (*condition == '"') return !strcmp(condition, file->etag);
    return fresh_parse_date(condition) == file->modified;
}

static void set_body(pando_ctx *ctx, const struct file *file, uint64_t at, uint64_t len) {
    response_body_file(ctx, file->fd, at, len);
    if (!file->content) return;
    ctx->body_kind = BODY_BYTES;
    ctx->body = (struct pando_str){file->content + at, (size_t)len};
}

// Takes over one hold.
static void answer_take(pando_ctx *ctx, struct file *file, const struct static_files *files) {
    pando_defer(ctx, file_release, file);
    if (precondition_fails(ctx, file)) pando_throw(ctx, 412, NULL);
    if (!pando_has(ctx, "ETag")) response_set_static(ctx, PANDO_STR("ETag"), pando_str_of(file->etag));
    if (!pando_has(ctx, "Last-Modified")) response_set_static(ctx, PANDO_STR("Last-Modified"), pando_str_of(file->last_modified));
    if (!pando_has(ctx, "Cache-Control")) response_set_static(ctx, PANDO_STR("Cache-Control"), pando_str_of(files->cache_control));
    if (!pando_has(ctx, "Content-Type") && file->type.data) response_set_static(ctx, PANDO_STR("Content-Type"), file->type);
    response_set_static(ctx, PANDO_STR("Accept-Ranges"), PANDO_STR("bytes"));
    set_body(ctx, file, 0, file->size);
    if (pando_fresh(ctx)) {
        pando_set_status(ctx, 304);
        return;
    }
    const char *header = pando_header(ctx, "Range");
    uint64_t at, len;
    if (!*header || !range_applies(ctx, file)) return;
    switch (range_parse(header, file->size, &at, &len)) {
        case RANGE_NONE: return;
        case RANGE_ONE:
            pando_set(ctx, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)at, (unsigned long long)(at + len - 1),
                      (unsigned long long)file->size);
            pando_set_status(ctx, 206);
            set_body(ctx, file, at, len);
            return;
        case RANGE_UNSATISFIABLE:
            pando_set(ctx, "Content-Range", "bytes */%llu", (unsigned long long)file->size);
            pando_set_status(ctx, 416);
            pando_remove(ctx, "Content-Type");
            pando_body_text(ctx, "Range Not Satisfiable");
            return;
    }
}

static struct file *try_precompressed(pando_ctx *ctx, struct static_files *files, const char *path, uint64_t now) {
    static const struct { const char *coding, *suffix; } ways[] = {{"br", ".br"}, {"gzip", ".gz"}};
    int error;
    if (!files->options.precompressed) return NULL;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct file *file = file_get(files, pando_printf(ctx, "%s%s", path, ways[i].suffix), now, &error);
        if (!file) continue;
        pando_vary(ctx, "Accept-Encoding");
        if (pando_accepts_encodings(ctx, ways[i].coding)) {
            struct pando_str type = mime_of_name(path);
            if (type.data && !pando_has(ctx, "Content-Type")) response_set_static(ctx, PANDO_STR("Content-Type"), type);
            pando_set(ctx, "Content-Encoding", "%s", ways[i].coding);
            return file;
        }
        file_release(file);
    }
    return NULL;
}

static struct file *try_extensions(pando_ctx *ctx, struct static_files *files, const char *path, uint64_t now) {
    const char *list = files->options.extensions;
    int error;
    while (list && *list) {
        list += strspn(list, ", .");
        size_t len = strcspn(list, ",");
        struct file *file = file_get(files, pando_printf(ctx, "%s.%.*s", path, (int)len, list), now, &error);
        if (file) return file;
        list += len;
    }
    return NULL;
}

// 0: answered. -ENOENT: not ours. -EILSEQ: not a path.
static int send_path(pando_ctx *ctx, struct static_files *files, const char *url_path) {
    char path[PATH_BYTES];
    bool folder;
    size_t len = strlen(url_path);
    if (len + 256 > sizeof path) return -ENOENT;
    int error = static_path(url_path, len, files->options.hidden, path, &folder);
    if (error) return error;
    const char *index = files->options.index ? files->options.index : "index.html";
    uint64_t now = server_now_ms(ctx->exchange->server);
    if (folder) {
        if (!*index) return -ENOENT;
        size_t end = strlen(path);
        snprintf(path + end, sizeof path - end, "/%s", index);
    }
    struct file *file = try_precompressed(ctx, files, path, now);
    if (!file) file = file_get(files, path, now, &error);
    if (!file && error == -ENOENT) file = try_extensions(ctx, files, path, now);
    if (file) return answer_take(ctx, file, files), 0;
    if (error == -EISDIR && !folder && *index) {  // a folder without its slash: relative links in it need it
        pando_redirect(ctx, pando_printf(ctx, "%s/%s", pando_path(ctx), pando_search(ctx)));
        pando_set_status(ctx, 301);
        return 0;
    }
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM ? error : -ENOENT;
}

static void set_cache_control(struct static_files *files) {
    snprintf(files->cache_control, sizeof files->cache_control, "max-age=%u%s", files->options.max_age_s,
             files->options.immutable ? ",immutable" : "");
}

static void serve(pando_ctx *ctx) {
    struct static_files *files = pando_arg(ctx);
    const char *method = pando_method(ctx), *path = pando_path(ctx), *prefix = files->options.prefix;
    if (files->options.defer) {
        pando_next(ctx);
        if (pando_has_body(ctx) || ctx->status != 404 || ctx->exchange->head_sent) return;
    }
    size_t skip = prefix ? strlen(prefix) : 0;
    bool ours = (!strcmp(method, "GET") || !strcmp(method, "HEAD")) && !strncmp(path, prefix ? prefix : "", skip) &&
                (!skip || path[skip] == '/' || !path[skip]);
    int error = ours ? send_path(ctx, files, path + skip) : -ENOENT;
    if (error == -EILSEQ) pando_throw(ctx, 400, "failed to decode");
    if (error && error != -ENOENT) pando_throw(ctx, 503, "out of files or memory");
    if (error && !files->options.defer) pando_next(ctx);
}

static void static_free(void *at) {
    struct static_files *files = at;
    for (int i = 0; i < CACHE_SLOTS; i++)
        if (files->cache[i]) file_release(files->cache[i]);
    close(files->root);
    free(files);
}

int pando_use_static(pando_app *app, const char *root, const struct pando_static_options *options) {
    int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    struct static_files *files = calloc(1, sizeof *files);
    if (!files) return close(fd), -ENOMEM;
    if (options) files->options = *options;
    files->root = fd;
    set_cache_control(files);
    pando_on_free(app, static_free, files);
    pando_use_named(app, "static", serve, files);
    return 0;
}

int pando_send(pando_ctx *ctx, const char *root, const char *path, const struct pando_static_options *options) {
    struct static_files *files = calloc(1, sizeof *files);
    if (!files) return -ENOMEM;
    files->root = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (files->root < 0) return free(files), -errno;
    if (options) files->options = *options;
    set_cache_control(files);
    pando_defer(ctx, static_free, files);  // the file keeps a hold of its own until then
    return send_path(ctx, files, path);
}

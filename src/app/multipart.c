// SPDX-License-Identifier: MIT
// A multipart form as it arrives: fields into the arena, files into unnamed temporary files. Nothing of a file is in memory.
#include <sys/types.h>
#include "ctx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "multipart_parse.h"

enum { FILES_MAX = 16, FIELDS_MAX = 256, FIELD_BYTES = 64 * 1024 };
static const uint64_t file_bytes = UINT64_C(64) << 20, total_bytes = UINT64_C(256) << 20;

struct upload {
    pando_ctx *ctx;
    struct pando_multipart_options options;
    struct pando_file *files;
    size_t file_count;
    // the part at hand
    struct pando_file *file;  // NULL: a field
    char *value;
    size_t value_len, value_cap;
};

static void close_fd(void *at) { close(*(int *)at); }

static int open_unnamed(pando_ctx *ctx, const char *directory) {
    if (!directory) directory = getenv("TMPDIR");
    if (!directory) directory = "/tmp";
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
    char *path = pando_printf(ctx, "%s/pando-upload-XXXXXX", directory);  // a file system without O_TMPFILE
    if ((fd = mkostemp(path, O_CLOEXEC)) >= 0) unlink(path);
    return fd;
}

static void begin_part(struct upload *upload, const struct multipart *parser) {
    pando_ctx *ctx = upload->ctx;
    const char *name = ctx_copy(ctx, parser->name, strlen(parser->name));
    upload->file = NULL;
    upload->value_len = upload->value_cap = 0;
    upload->value = NULL;
    if (!parser->has_filename) {
        if (ctx->form->count >= upload->options.max_fields) pando_throw(ctx, 413, "too many form fields");
        pair_add(ctx, ctx->form, name, "");
        return;
    }
    if (upload->file_count == upload->options.max_files) pando_throw(ctx, 413, "too many files");
    int fd = open_unnamed(ctx, upload->options.directory);
    if (fd < 0) pando_throw(ctx, 503, "no room for an upload");
    upload->file = &upload->files[upload->file_count++];
    *upload->file = (struct pando_file){.name = name,
                                        .filename = ctx_copy(ctx, parser->filename, strlen(parser->filename)),
                                        .type = ctx_copy(ctx, parser->type, strlen(parser->type)),
                                        .fd = fd};
    pando_defer(ctx, close_fd, &upload->file->fd);
}

static void add_to_file(struct upload *upload, const char *data, size_t len) {
    if (len > upload->options.max_file_bytes - upload->file->size) pando_throw(upload->ctx, 413, "a file is too large");
    upload->file->size += len;
    while (len) {
        ssize_t written = write(upload->file->fd, data, len);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) pando_throw(upload->ctx, 503, "no room for an upload");
        data += written;
        len -= (size_t)written;
    }
}

static void add_to_field(struct upload *upload, const char *data, size_t len) {
    pando_ctx *ctx = upload->ctx;
    if (len > upload->options.max_field_bytes - upload->value_len) pando_throw(ctx, 413, "a form field is too large");
    if (upload->value_len + len >= upload->value_cap) {
        upload->value_cap = (upload->value_len + len) * 2 + 1;
        char *larger = pando_alloc(ctx, upload->value_cap);
        if (upload->value_len) memcpy(larger, upload->value, upload->value_len);
        upload->value = larger;
    }
    memcpy(upload->value + upload->value_len, data, len);
    upload->value_len += len;
    upload->value[upload->value_len] = '\0';
    ctx->form->items[ctx->form->count - 1].value = upload->value;
}

static void end_part(struct upload *upload) {
    if (upload->file) lseek(upload->file->fd, 0, SEEK_SET);
}

static void fill_defaults(struct pando_multipart_options *o) {
    if (!o->max_file_bytes) o->max_file_bytes = file_bytes;
    if (!o->max_total_bytes) o->max_total_bytes = total_bytes;
    if (!o->max_files) o->max_files = FILES_MAX;
    if (!o->max_fields) o->max_fields = FIELDS_MAX;
    if (!o->max_field_bytes) o->max_field_bytes = FIELD_BYTES;
}

size_t pando_request_multipart(pando_ctx *ctx, const struct pando_multipart_options *options, const struct pando_file **out) {
    if (!ctx->form_read) {
        const char *is = pando_is(ctx, "multipart");
        if (!is || !*is) pando_throw(ctx, 415, "the body is not multipart/form-data");
        struct upload upload = {.ctx = ctx, .options = options ? *options : (struct pando_multipart_options){0}};
        fill_defaults(&upload.options);
        struct multipart *parser = pando_alloc(ctx, sizeof *parser);
        if (!multipart_init(parser, pando_header(ctx, "Content-Type"))) pando_throw(ctx, 400, "the multipart body has no valid boundary");
        upload.files = pando_alloc(ctx, upload.options.max_files * sizeof *upload.files);
        ctx->form = pando_alloc(ctx, sizeof *ctx->form);
        *ctx->form = (struct pair_list){0};
        ctx->form_read = true;
        ctx->files = upload.files;
        pando_exchange_limit_body(ctx->exchange, upload.options.max_total_bytes);
        struct pando_str piece;
        bool over = false;
        while (pando_read(ctx, &piece)) {
            while (piece.len || parser->replay) {
                size_t used, len;
                const char *data;
                switch (multipart_step(parser, piece.data, piece.len, &used, &data, &len)) {
                    case MULTIPART_PART: begin_part(&upload, parser); break;
                    case MULTIPART_DATA: upload.file ? add_to_file(&upload, data, len) : add_to_field(&upload, data, len); break;
                    case MULTIPART_PART_END: end_part(&upload); break;
                    case MULTIPART_END: over = true; break;
                    case MULTIPART_BAD: pando_throw(ctx, 400, "the multipart body is malformed");
                    case MULTIPART_MORE: break;
                }
                piece = (struct pando_str){piece.data + used, piece.len - used};
            }
        }
        if (!over) pando_throw(ctx, 400, "the multipart body ended early");
        ctx->file_count = upload.file_count;
    }
    *out = ctx->files;
    return ctx->file_count;
}

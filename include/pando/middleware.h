// SPDX-License-Identifier: MIT
// What stands beside the core, each in a file of its own. Options are copied, texts in them borrowed. Included by app.h.
#ifndef PANDO_MIDDLEWARE_H
#define PANDO_MIDDLEWARE_H

// static.c: GET and HEAD of files below `root`; everything else goes on to the next middleware.
struct pando_static_options {
    const char *prefix;      // "/assets"; NULL: all
    const char *index;       // NULL: "index.html"; "": none
    const char *extensions;  // "html,htm": tried when the file is not there
    uint32_t max_age_s;      // Cache-Control: max-age
    bool immutable, hidden;  // hidden: serve dot-files
    bool defer;              // first the others, and files only if nobody answered
    bool precompressed;      // .br and .gz beside the file
};
PANDO_API int pando_use_static(pando_app *app, const char *root, const struct pando_static_options *options);  // -errno: no such folder
// Sends one file below `root` as the answer: path as in a URL, decoded once. 0, or -ENOENT (nothing is set).
PANDO_API int pando_send(pando_ctx *ctx, const char *root, const char *path, const struct pando_static_options *options);

// body.c: what a request carries. Each reads the whole body, once; limit 0: max_body_bytes. They throw 400, 413, 415.
PANDO_API struct json_t *pando_request_json(pando_ctx *ctx, size_t limit);  // borrowed by the caller
PANDO_API const char *pando_request_text(pando_ctx *ctx, size_t limit);
PANDO_API const char *pando_form(pando_ctx *ctx, const char *name);  // urlencoded or multipart; NULL: none
PANDO_API const char *pando_form_at(pando_ctx *ctx, const char *name, size_t index);
// multipart.c: files are streamed to unnamed temporary files.
struct pando_file {
    const char *name, *filename, *type;  // field name, the client's file name (last component), its claim of a type
    int fd;                              // owned by the ctx, at offset 0
    uint64_t size;
};
struct pando_multipart_options {
    const char *directory;                            // NULL: $TMPDIR or /tmp
    uint64_t max_file_bytes, max_total_bytes;         // 0: 64 MiB, 256 MiB
    uint32_t max_files, max_fields, max_field_bytes;  // 0: 16, 256, 64 KiB
};
PANDO_API size_t pando_request_multipart(pando_ctx *ctx, const struct pando_multipart_options *options, const struct pando_file **out);

// logger.c: one line an answer
enum pando_log_format { PANDO_LOG_COMBINED, PANDO_LOG_JSON };
struct pando_logger_options {
    enum pando_log_format format;
    int fd;  // 0: stdout. Written without blocking; lines that do not fit are dropped and counted
};
PANDO_API void pando_use_logger(pando_app *app, const struct pando_logger_options *options);

// cors.c
struct pando_cors_options {
    const char *origins;  // "https://a.example, https://b.example"; NULL: any, as "*"
    const char *methods;  // NULL: GET,HEAD,PUT,POST,DELETE,PATCH
    const char *headers;  // NULL: what the client asks for
    const char *expose;
    uint32_t max_age_s;
    bool credentials;  // needs `origins`
};
PANDO_API void pando_use_cors(pando_app *app, const struct pando_cors_options *options);

// security.c: what helmet sets. NULL fields: the usual; "": leave it away.
struct pando_security_options {
    const char *content_security_policy, *strict_transport_security, *frame_options, *referrer_policy, *cross_origin_opener_policy,
        *cross_origin_resource_policy;
};
PANDO_API void pando_use_security(pando_app *app, const struct pando_security_options *options);

// request_id.c: X-Request-Id, the client's when `trust`, else made
PANDO_API void pando_use_request_id(pando_app *app, bool trust);
PANDO_API const char *pando_request_id(pando_ctx *ctx);

// etag.c: an ETag of text and buffer bodies that have none, and 304 where the client has it
PANDO_API void pando_use_etag(pando_app *app);

// sse.c: Server-Sent Events. start sends the head; send waits for a slow client. -EPIPE, -ECANCELED: gone.
PANDO_API int pando_sse_start(pando_ctx *ctx);
PANDO_API int pando_sse_send(pando_ctx *ctx, const char *event, const char *id, const char *data);  // event, id may be NULL
PANDO_API int pando_sse_comment(pando_ctx *ctx, const char *text);                                  // a heartbeat
PANDO_API const char *pando_sse_last_id(pando_ctx *ctx);                                            // Last-Event-ID

#endif

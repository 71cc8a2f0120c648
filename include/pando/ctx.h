// SPDX-License-Identifier: MIT
// What Koa's ctx says about a request and an answer. Included by app.h.
// Text returned is NUL-terminated and lives as long as the ctx; "" when there is none, unless NULL is mentioned.
#ifndef PANDO_CTX_H
#define PANDO_CTX_H

struct json_t;

// ---- request
PANDO_API const char *pando_method(const pando_ctx *ctx);
PANDO_API const char *pando_url(pando_ctx *ctx);           // path and query, as rewritten
PANDO_API const char *pando_original_url(pando_ctx *ctx);  // as sent
PANDO_API const char *pando_path(pando_ctx *ctx);          // not decoded
PANDO_API const char *pando_querystring(pando_ctx *ctx);   // without '?'
PANDO_API const char *pando_search(pando_ctx *ctx);        // with it, "" when empty
PANDO_API void pando_set_method(pando_ctx *ctx, const char *method);
PANDO_API void pando_set_url(pando_ctx *ctx, const char *url);
PANDO_API void pando_set_path(pando_ctx *ctx, const char *path);
PANDO_API void pando_set_querystring(pando_ctx *ctx, const char *query);
PANDO_API const char *pando_query(pando_ctx *ctx, const char *name);                   // decoded, the first; NULL: none
PANDO_API const char *pando_query_at(pando_ctx *ctx, const char *name, size_t index);  // repeated keys in order; NULL past the last
PANDO_API bool pando_query_each(pando_ctx *ctx, size_t index, const char **out_name, const char **out_value);
PANDO_API const char *pando_header(pando_ctx *ctx, const char *name);  // ctx.get: any case, both spellings of Referer; repeated ones joined
PANDO_API const char *pando_host(pando_ctx *ctx);
PANDO_API const char *pando_hostname(pando_ctx *ctx);
PANDO_API const char *pando_protocol(pando_ctx *ctx);
PANDO_API bool pando_secure(pando_ctx *ctx);
PANDO_API const char *pando_origin(pando_ctx *ctx);  // the Origin header, as Koa 3.2
PANDO_API const char *pando_href(pando_ctx *ctx);
PANDO_API const char *pando_ip(pando_ctx *ctx);
PANDO_API size_t pando_ips(pando_ctx *ctx, const char *const **out);
PANDO_API size_t pando_subdomains(pando_ctx *ctx, const char *const **out);
PANDO_API bool pando_fresh(pando_ctx *ctx);
PANDO_API bool pando_idempotent(const pando_ctx *ctx);
PANDO_API const char *pando_request_type(pando_ctx *ctx);  // without parameters
PANDO_API const char *pando_request_charset(pando_ctx *ctx);
PANDO_API int64_t pando_request_length(const pando_ctx *ctx);  // -1: unknown
// Offers as a comma-separated list ("html, json"). The best one as written, the first without a header; NULL: none acceptable.
PANDO_API const char *pando_accepts(pando_ctx *ctx, const char *offers);
PANDO_API const char *pando_accepts_encodings(pando_ctx *ctx, const char *offers);
PANDO_API const char *pando_accepts_charsets(pando_ctx *ctx, const char *offers);
PANDO_API const char *pando_accepts_languages(pando_ctx *ctx, const char *offers);
PANDO_API const char *pando_is(pando_ctx *ctx, const char *types);  // the matching type; "": none; NULL: no body

// ---- request body. PANDO_READ_FAILED never returns from these: they throw 413, 400 or what fits.
PANDO_API bool pando_read(pando_ctx *ctx, struct pando_str *out);         // the next piece, waiting for it; false at the end
PANDO_API struct pando_str pando_read_all(pando_ctx *ctx, size_t limit);  // 0: max_body_bytes. NUL follows
PANDO_API const char *pando_trailer(pando_ctx *ctx, const char *name);    // after the body's end

// ---- answer: status and head
PANDO_API int pando_status(const pando_ctx *ctx);
PANDO_API int pando_set_status(pando_ctx *ctx, int status);  // clears the body for 204, 205, 304
PANDO_API int pando_set_message(pando_ctx *ctx, const char *reason);
// -EINVAL: CR, LF or NUL in it; it is then not set. Ignored (0) when the head is out.
PANDO_API int pando_set(pando_ctx *ctx, const char *name, const char *format, ...) PANDO_PRINTF(3, 4);
PANDO_API int pando_append(pando_ctx *ctx, const char *name, const char *value);
PANDO_API void pando_remove(pando_ctx *ctx, const char *name);
PANDO_API const char *pando_sent_header(pando_ctx *ctx, const char *name);  // response.get
PANDO_API bool pando_has(pando_ctx *ctx, const char *name);
PANDO_API int pando_vary(pando_ctx *ctx, const char *field);
PANDO_API int pando_set_type(pando_ctx *ctx, const char *type);  // "html", ".png", "application/json"; unknown removes it
PANDO_API const char *pando_type(pando_ctx *ctx);                // without parameters
PANDO_API int pando_set_length(pando_ctx *ctx, uint64_t length);
PANDO_API int64_t pando_length(pando_ctx *ctx);  // -1: not known
PANDO_API int pando_set_etag(pando_ctx *ctx, const char *etag);
PANDO_API int pando_set_last_modified(pando_ctx *ctx, int64_t second);
PANDO_API int pando_redirect(pando_ctx *ctx, const char *url);
PANDO_API int pando_back(pando_ctx *ctx, const char *alternative);
PANDO_API int pando_attachment(pando_ctx *ctx, const char *filename, const char *type);  // NULL filename: none; NULL type: "attachment"
PANDO_API bool pando_head_sent(const pando_ctx *ctx);
PANDO_API bool pando_writable(const pando_ctx *ctx);
PANDO_API void pando_flush_headers(pando_ctx *ctx);
PANDO_API void pando_respond_none(pando_ctx *ctx);  // respond = false: the handler uses pando_ctx_exchange itself

// ---- answer: body
PANDO_API void pando_body_text(pando_ctx *ctx, const char *text);  // copied
PANDO_API void pando_body_printf(pando_ctx *ctx, const char *format, ...) PANDO_PRINTF(2, 3);
PANDO_API void pando_body_static(pando_ctx *ctx, struct pando_str text);              // text that stays: not copied
PANDO_API void pando_body_buffer(pando_ctx *ctx, const void *data, size_t len);       // bytes; copied
PANDO_API void pando_body_json_take(pando_ctx *ctx, struct json_t *value);            // written at the end: may still change
PANDO_API void pando_body_json(pando_ctx *ctx, const char *jansson_format, ...);      // json_pack: "{s:i}", "id", 7
PANDO_API void pando_body_stream(pando_ctx *ctx, pando_handler producer, void *arg);  // called at the end; uses pando_write
PANDO_API int pando_body_file(pando_ctx *ctx, const char *path);                      // type by name, sendfile. -errno: not set
PANDO_API void pando_body_null(pando_ctx *ctx);
PANDO_API bool pando_has_body(const pando_ctx *ctx);
PANDO_API struct pando_str pando_body(const pando_ctx *ctx);  // of text and buffers; data NULL otherwise
// Streams: sends the head first; waits while the client is slow. -EPIPE, -ECANCELED: the client has gone, or wants no body (HEAD).
PANDO_API int pando_write(pando_ctx *ctx, const void *data, size_t len);

// ---- cookies
enum pando_same_site { PANDO_SAME_SITE_NONE_SET, PANDO_SAME_SITE_STRICT, PANDO_SAME_SITE_LAX, PANDO_SAME_SITE_NONE };
struct pando_cookie {
    const char *path, *domain, *priority;  // NULL path: "/"; priority: "low", "medium", "high"
    int64_t max_age_s;                     // 0: a session cookie; negative: expire it
    enum pando_same_site same_site;
    bool script_may_read;  // leaves HttpOnly away
    bool secure, partitioned, overwrite;
    bool unsigned_;  // although the app has keys
};
PANDO_API const char *pando_cookie(pando_ctx *ctx, const char *name);  // checked against its signature when the app has keys; NULL: none
PANDO_API const char *pando_cookie_unsigned(pando_ctx *ctx, const char *name);  // not checked
PANDO_API int pando_set_cookie(pando_ctx *ctx, const char *name, const char *value,
                               const struct pando_cookie *options);  // value NULL: expire it

#endif

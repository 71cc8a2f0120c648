// SPDX-License-Identifier: MIT
// The small apps of tests/koa/cases.js in C: the header X-Case chooses one. Same names, same order, same answers.
#include <pando/app.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define CASE(name) static void case_##name(pando_ctx *ctx)

// ---- body and status inference
CASE(nothing) { (void)ctx; }
CASE(text) { pando_body_text(ctx, "hello"); }
CASE(html) { pando_body_text(ctx, "<p>hello</p>"); }
CASE(html_blank) { pando_body_text(ctx, "  \n\t<p>hello</p>"); }
CASE(text_later_html) { pando_body_text(ctx, "a <p>"); }
CASE(empty_text) { pando_body_text(ctx, ""); }
CASE(utf8) { pando_body_text(ctx, "gr\xc3\xbc\xc3\x9f \xe2\x82\xac"); }
CASE(buffer) { pando_body_buffer(ctx, "\x00\x01\xff", 3); }
CASE(json_object) { pando_body_json(ctx, "{s:i,s:[s,b,n]}", "a", 1, "list", "x", 1); }
CASE(json_array) { pando_body_json(ctx, "[i,i]", 1, 2); }
CASE(json_typed) {
    pando_set_type(ctx, "application/vnd.api+json");
    pando_body_json(ctx, "{s:i}", "a", 1);
}
CASE(json_over_text_type) {
    pando_set_type(ctx, "text");
    pando_body_json(ctx, "{s:i}", "a", 1);
}
CASE(text_then_json) {
    pando_body_text(ctx, "longer than the json");
    pando_body_json(ctx, "{s:i}", "a", 1);
}
CASE(json_then_text) {
    pando_body_json(ctx, "{s:i}", "a", 1);
    pando_body_text(ctx, "text");
}
CASE(null_body) { pando_body_null(ctx); }
CASE(null_then_200) {
    pando_body_null(ctx);
    pando_set_status(ctx, 200);
}
CASE(null_304) {
    pando_set_status(ctx, 304);
    pando_body_null(ctx);
}
CASE(null_json) {
    pando_set_type(ctx, "json");
    pando_body_null(ctx);
}
CASE(text_then_null) {
    pando_body_text(ctx, "x");
    pando_body_null(ctx);
}
CASE(status_only_200) { pando_set_status(ctx, 200); }
CASE(status_only_201) { pando_set_status(ctx, 201); }
CASE(status_only_400) { pando_set_status(ctx, 400); }
CASE(status_only_418) { pando_set_status(ctx, 418); }
CASE(status_only_503) { pando_set_status(ctx, 503); }
CASE(status_204) { pando_set_status(ctx, 204); }
CASE(status_205) { pando_set_status(ctx, 205); }
CASE(status_304) { pando_set_status(ctx, 304); }
CASE(text_then_204) {
    pando_body_text(ctx, "x");
    pando_set_status(ctx, 204);
}
CASE(status_then_text) {
    pando_set_status(ctx, 201);
    pando_body_text(ctx, "made");
}
CASE(text_then_status) {
    pando_body_text(ctx, "made");
    pando_set_status(ctx, 202);
}
CASE(status_unknown_text) {
    pando_set_status(ctx, 299);
    pando_body_text(ctx, "x");
}
CASE(message) {
    pando_set_status(ctx, 200);
    pando_set_message(ctx, "Fine");
    pando_body_text(ctx, "x");
}
CASE(message_only) {
    pando_set_status(ctx, 200);
    pando_set_message(ctx, "Fine");
}
CASE(type_first) {
    pando_set_type(ctx, "css");
    pando_body_text(ctx, "a{}");
}
CASE(type_after) {
    pando_body_text(ctx, "<p>");
    pando_set_type(ctx, "text");
}
CASE(type_png) {
    pando_set_type(ctx, ".png");
    pando_body_buffer(ctx, "x", 1);
}
CASE(type_js) {
    pando_set_type(ctx, "js");
    pando_body_text(ctx, "1");
}
CASE(type_full) {
    pando_set_type(ctx, "text/plain");
    pando_body_text(ctx, "1");
}
CASE(type_charset) {
    pando_set_type(ctx, "text/plain; charset=latin1");
    pando_body_text(ctx, "1");
}
CASE(type_unknown) {
    pando_set_type(ctx, "html");
    pando_set_type(ctx, "nosuchtype");
    pando_set_status(ctx, 200);
}
CASE(type_json_text) {
    pando_set_type(ctx, "json");
    pando_body_text(ctx, "{}");
}
CASE(type_get) {
    pando_set_type(ctx, "html");
    pando_body_printf(ctx, "%s", pando_type(ctx));
}
CASE(length_get) {
    pando_body_text(ctx, "12345");
    pando_set(ctx, "X-Length", "%lld", (long long)pando_length(ctx));
}
static void produce(pando_ctx *ctx) {
    pando_write(ctx, "one", 3);
    pando_write(ctx, "two", 3);
}
CASE(stream) { pando_body_stream(ctx, produce, NULL); }
CASE(stream_typed) {
    pando_set_type(ctx, "text");
    pando_body_stream(ctx, produce, NULL);
}
CASE(stream_length) {
    pando_set_length(ctx, 6);
    pando_body_stream(ctx, produce, NULL);
}
CASE(text_then_stream) {
    pando_body_text(ctx, "0123456789");
    pando_body_stream(ctx, produce, NULL);
}
CASE(stream_then_text) {
    pando_body_stream(ctx, produce, NULL);
    pando_body_text(ctx, "text");
}
// ---- headers
CASE(set) {
    pando_set(ctx, "X-A", "1");
    pando_set(ctx, "x-a", "2");
    pando_body_text(ctx, "x");
}
CASE(append) {
    pando_append(ctx, "X-A", "1");
    pando_append(ctx, "X-A", "2");
    pando_body_text(ctx, "x");
}
CASE(removed) {
    pando_set(ctx, "X-A", "1");
    pando_remove(ctx, "x-A");
    pando_body_text(ctx, "x");
}
CASE(vary) {
    pando_vary(ctx, "Accept");
    pando_vary(ctx, "accept");
    pando_vary(ctx, "Origin");
    pando_body_text(ctx, "x");
}
CASE(vary_star) {
    pando_vary(ctx, "Accept");
    pando_vary(ctx, "*");
    pando_vary(ctx, "Origin");
    pando_body_text(ctx, "x");
}
CASE(etag) {
    pando_set_etag(ctx, "abc");
    pando_body_text(ctx, "x");
}
CASE(etag_weak) {
    pando_set_etag(ctx, "W/\"abc\"");
    pando_body_text(ctx, "x");
}
CASE(etag_quoted) {
    pando_set_etag(ctx, "\"abc\"");
    pando_body_text(ctx, "x");
}
CASE(last_modified) {
    pando_set_last_modified(ctx, 1400000000);
    pando_body_text(ctx, "x");
}
CASE(fresh) {
    pando_set_etag(ctx, "abc");
    pando_set_last_modified(ctx, 1400000000);
    pando_set_status(ctx, 200);
    pando_body_text(ctx, pando_fresh(ctx) ? "fresh" : "stale");
}
CASE(redirect) { pando_redirect(ctx, "/login"); }
CASE(redirect_abs) { pando_redirect(ctx, "HTTP://Example.com"); }
CASE(redirect_query) { pando_redirect(ctx, "http://example.com/a b?x=<1>&y=%20"); }
CASE(redirect_utf8) { pando_redirect(ctx, "/gr\xc3\xbc\xc3\x9f"); }
CASE(redirect_301) {
    pando_set_status(ctx, 301);
    pando_redirect(ctx, "/x");
}
CASE(redirect_307) {
    pando_set_status(ctx, 307);
    pando_redirect(ctx, "/x");
}
CASE(redirect_201) {
    pando_set_status(ctx, 201);
    pando_redirect(ctx, "/x");
}
CASE(redirect_typed) {
    pando_set_type(ctx, "json");
    pando_redirect(ctx, "/x");
}
CASE(back) { pando_back(ctx, NULL); }
CASE(back_alt) { pando_back(ctx, "/alt"); }
CASE(attachment) {
    pando_attachment(ctx, NULL, NULL);
    pando_body_text(ctx, "x");
}
CASE(attachment_name) {
    pando_attachment(ctx, "path/to/tobi.png", NULL);
    pando_body_text(ctx, "x");
}
CASE(attachment_space) {
    pando_attachment(ctx, "the plans.pdf", NULL);
    pando_body_text(ctx, "x");
}
CASE(attachment_quote) {
    pando_attachment(ctx, "the \"plans\".txt", NULL);
    pando_body_text(ctx, "x");
}
CASE(attachment_utf8) {
    pando_attachment(ctx, "\xe2\x82\xac rates.txt", NULL);
    pando_body_text(ctx, "x");
}
CASE(attachment_inline) {
    pando_attachment(ctx, "a.html", "inline");
    pando_body_text(ctx, "x");
}
// ---- request
static void show(pando_ctx *ctx, const char *text) { pando_body_printf(ctx, "=%s", text ? text : "undefined"); }
CASE(r_path) { show(ctx, pando_path(ctx)); }
CASE(r_url) { show(ctx, pando_url(ctx)); }
CASE(r_querystring) { show(ctx, pando_querystring(ctx)); }
CASE(r_search) { show(ctx, pando_search(ctx)); }
CASE(r_query) { show(ctx, pando_query(ctx, "a")); }
CASE(r_query_two) { pando_body_printf(ctx, "=%s|%s", pando_query_at(ctx, "a", 0), pando_query_at(ctx, "a", 1)); }
CASE(r_set_path) {
    pando_set_path(ctx, "/new");
    pando_body_printf(ctx, "%s %s", pando_url(ctx), pando_original_url(ctx));
}
CASE(r_set_query) {
    pando_set_querystring(ctx, "z=1");
    pando_body_printf(ctx, "%s %s", pando_url(ctx), pando_query(ctx, "z"));
}
CASE(r_host) { show(ctx, pando_host(ctx)); }
CASE(r_hostname) { show(ctx, pando_hostname(ctx)); }
CASE(r_protocol) { show(ctx, pando_protocol(ctx)); }
CASE(r_origin) { show(ctx, *pando_origin(ctx) ? pando_origin(ctx) : "null"); }
CASE(r_href) { show(ctx, pando_href(ctx)); }
CASE(r_ip) { show(ctx, pando_ip(ctx)); }
CASE(r_ips) {
    const char *const *ips;
    size_t count = pando_ips(ctx, &ips);
    const char *text = "";
    for (size_t i = 0; i < count; i++) text = pando_printf(ctx, "%s%s,", text, ips[i]);
    show(ctx, text);
}
CASE(r_subdomains) {
    const char *const *parts, *text = "";
    size_t count = pando_subdomains(ctx, &parts);
    for (size_t i = 0; i < count; i++) text = pando_printf(ctx, "%s%s,", text, parts[i]);
    show(ctx, text);
}
CASE(r_type) { show(ctx, pando_request_type(ctx)); }
CASE(r_charset) { show(ctx, pando_request_charset(ctx)); }
CASE(r_length) { pando_body_printf(ctx, "=%lld", (long long)pando_request_length(ctx)); }
CASE(r_get) { show(ctx, pando_header(ctx, "x-thing")); }
CASE(r_referrer) { show(ctx, pando_header(ctx, "Referrer")); }
CASE(r_idempotent) { show(ctx, pando_idempotent(ctx) ? "true" : "false"); }
CASE(r_method) { show(ctx, pando_method(ctx)); }
static void show_false(pando_ctx *ctx, const char *text) { show(ctx, text && *text ? text : text ? "false" : "null"); }
static void show_accept(pando_ctx *ctx, const char *text) { show(ctx, text ? text : "false"); }
CASE(accepts_html_json) { show_accept(ctx, pando_accepts(ctx, "html, json")); }
CASE(accepts_json_html) { show_accept(ctx, pando_accepts(ctx, "json, html")); }
CASE(accepts_png) { show_accept(ctx, pando_accepts(ctx, "png, image/webp")); }
CASE(accepts_full) { show_accept(ctx, pando_accepts(ctx, "text/plain, application/xml")); }
CASE(accepts_enc) { show_accept(ctx, pando_accepts_encodings(ctx, "gzip, deflate, identity")); }
CASE(accepts_enc_gz) { show_accept(ctx, pando_accepts_encodings(ctx, "gzip")); }
CASE(accepts_char) { show_accept(ctx, pando_accepts_charsets(ctx, "utf-8, iso-8859-1")); }
CASE(accepts_lang) { show_accept(ctx, pando_accepts_languages(ctx, "en, de, fr")); }
CASE(is_json) { show_false(ctx, pando_is(ctx, "json")); }
CASE(is_text) { show_false(ctx, pando_is(ctx, "text/*")); }
CASE(is_many) { show_false(ctx, pando_is(ctx, "urlencoded, multipart, json")); }
CASE(is_suffix) { show_false(ctx, pando_is(ctx, "+json")); }
// ---- cookies
CASE(cookie_get) { show(ctx, pando_cookie_unsigned(ctx, "a")); }
CASE(cookie_set) {
    pando_set_cookie(ctx, "a", "b", NULL);
    pando_body_text(ctx, "x");
}
CASE(cookie_attributes) {
    pando_set_cookie(ctx, "a", "b",
                     &(struct pando_cookie){.path = "/p",
                                            .domain = "example.com",
                                            .same_site = PANDO_SAME_SITE_LAX,
                                            .script_may_read = true,
                                            .priority = "high",
                                            .partitioned = true});
    pando_body_text(ctx, "x");
}
CASE(cookie_expire) {
    pando_set_cookie(ctx, "a", NULL, NULL);
    pando_body_text(ctx, "x");
}
CASE(cookie_two) {
    pando_set_cookie(ctx, "a", "1", NULL);
    pando_set_cookie(ctx, "b", "2", NULL);
    pando_body_text(ctx, "x");
}
CASE(cookie_overwrite) {
    pando_set_cookie(ctx, "a", "1", NULL);
    pando_set_cookie(ctx, "a", "2", &(struct pando_cookie){.overwrite = true});
    pando_body_text(ctx, "x");
}
// ---- errors
CASE(throw_400) {
    pando_set(ctx, "X-A", "1");
    pando_throw(ctx, 400, "name required");
}
CASE(throw_401) { pando_throw(ctx, 401, NULL); }
CASE(throw_404) { pando_throw(ctx, 404, "no such thing"); }
CASE(throw_500) { pando_throw(ctx, 500, "secret"); }
CASE(throw_503) { pando_throw(ctx, 503, "secret"); }
CASE(throw_headers) {
    pando_throw_with(ctx, "WWW-Authenticate", "Basic");
    pando_throw(ctx, 401, "who");
}
CASE(throw_after_body) {
    pando_body_text(ctx, "<p>");
    pando_set(ctx, "X-A", "1");
    pando_throw(ctx, 409, "conflict");
}
CASE(assertion) {
    pando_assert(ctx, pando_query(ctx, "user"), 401, "User not found");
    pando_body_text(ctx, "ok");
}
// ---- the onion: what is set around next
static void inner(pando_ctx *ctx) { pando_body_printf(ctx, "%s2", pando_body(ctx).data ? pando_body(ctx).data : ""); }
static void outer_append(pando_ctx *ctx) {
    pando_next(ctx);
    pando_body_printf(ctx, "1%s3", pando_body(ctx).data);
}
CASE(next_404) {
    pando_next(ctx);
    pando_set(ctx, "X-Status", "%d", pando_status(ctx));
}
CASE(catch_it) {
    const struct pando_failure *failure = pando_try_next(ctx);
    if (failure) pando_set_status(ctx, 418), pando_body_printf(ctx, "caught %s", failure->message);
}

static const struct {
    const char *name;
    pando_handler fn, then;
} cases[] = {
#define ONE(name) \
    { #name, case_##name, NULL }
    ONE(nothing),
    ONE(text),
    ONE(html),
    ONE(html_blank),
    ONE(text_later_html),
    ONE(empty_text),
    ONE(utf8),
    ONE(buffer),
    ONE(json_object),
    ONE(json_array),
    ONE(json_typed),
    ONE(json_over_text_type),
    ONE(text_then_json),
    ONE(json_then_text),
    ONE(null_body),
    ONE(null_then_200),
    ONE(null_304),
    ONE(null_json),
    ONE(text_then_null),
    ONE(status_only_200),
    ONE(status_only_201),
    ONE(status_only_400),
    ONE(status_only_418),
    ONE(status_only_503),
    ONE(status_204),
    ONE(status_205),
    ONE(status_304),
    ONE(text_then_204),
    ONE(status_then_text),
    ONE(text_then_status),
    ONE(status_unknown_text),
    ONE(message),
    ONE(message_only),
    ONE(type_first),
    ONE(type_after),
    ONE(type_png),
    ONE(type_js),
    ONE(type_full),
    ONE(type_charset),
    ONE(type_unknown),
    ONE(type_json_text),
    ONE(type_get),
    ONE(length_get),
    ONE(stream),
    ONE(stream_typed),
    ONE(stream_length),
    ONE(text_then_stream),
    ONE(stream_then_text),
    ONE(set),
    ONE(append),
    ONE(removed),
    ONE(vary),
    ONE(vary_star),
    ONE(etag),
    ONE(etag_weak),
    ONE(etag_quoted),
    ONE(last_modified),
    ONE(fresh),
    ONE(redirect),
    ONE(redirect_abs),
    ONE(redirect_query),
    ONE(redirect_utf8),
    ONE(redirect_301),
    ONE(redirect_307),
    ONE(redirect_201),
    ONE(redirect_typed),
    ONE(back),
    ONE(back_alt),
    ONE(attachment),
    ONE(attachment_name),
    ONE(attachment_space),
    ONE(attachment_quote),
    ONE(attachment_utf8),
    ONE(attachment_inline),
    ONE(r_path),
    ONE(r_url),
    ONE(r_querystring),
    ONE(r_search),
    ONE(r_query),
    ONE(r_query_two),
    ONE(r_set_path),
    ONE(r_set_query),
    ONE(r_host),
    ONE(r_hostname),
    ONE(r_protocol),
    ONE(r_origin),
    ONE(r_href),
    ONE(r_ip),
    ONE(r_ips),
    ONE(r_subdomains),
    ONE(r_type),
    ONE(r_charset),
    ONE(r_length),
    ONE(r_get),
    ONE(r_referrer),
    ONE(r_idempotent),
    ONE(r_method),
    ONE(accepts_html_json),
    ONE(accepts_json_html),
    ONE(accepts_png),
    ONE(accepts_full),
    ONE(accepts_enc),
    ONE(accepts_enc_gz),
    ONE(accepts_char),
    ONE(accepts_lang),
    ONE(is_json),
    ONE(is_text),
    ONE(is_many),
    ONE(is_suffix),
    ONE(cookie_get),
    ONE(cookie_set),
    ONE(cookie_attributes),
    ONE(cookie_expire),
    ONE(cookie_two),
    ONE(cookie_overwrite),
    ONE(throw_400),
    ONE(throw_401),
    ONE(throw_404),
    ONE(throw_500),
    ONE(throw_503),
    ONE(throw_headers),
    ONE(throw_after_body),
    ONE(assertion),
    ONE(next_404),
    {"onion", outer_append, inner},
    {"catch_throw", case_catch_it, case_throw_400},
    {"catch_none", case_catch_it, case_text},
};

static int find(const char *name) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(cases[i].name, name)) return (int)i;
    return -1;
}

static void first(pando_ctx *ctx) {
    int i = find(pando_header(ctx, "X-Case"));
    if (i < 0) return pando_next(ctx);
    cases[i].fn(ctx);
}

static void second(pando_ctx *ctx) {
    int i = find(pando_header(ctx, "X-Case"));
    if (i < 0) return pando_next(ctx);
    if (cases[i].then) cases[i].then(ctx);
}

// ---- the router, compared with @koa/router
static void show_params(pando_ctx *ctx) {
    pando_body_printf(ctx, "%s %s|%s", (const char *)pando_arg(ctx), pando_param(ctx, "id") ? pando_param(ctx, "id") : "-",
                      pando_param(ctx, "rest") ? pando_param(ctx, "rest") : "-");
}
static void mark(pando_ctx *ctx) {
    pando_append(ctx, "X-Mark", pando_arg(ctx));
    pando_next(ctx);
}

static void add_router(pando_app *app) {
    pando_router *router = pando_router_new(&(struct pando_router_options){.prefix = "/router"});
    pando_router_use(router, NULL, mark, "all");
    pando_router_use(router, "/users", mark, "users");
    pando_route(router, "GET", "/users/:id", mark, "first");
    pando_route(router, "GET", "/users/:id", show_params, "user");
    pando_route(router, "GET", "/", show_params, "root");
    pando_route(router, "POST", "/users", show_params, "create");
    pando_route(router, "PUT", "/users/:id", show_params, "put");
    pando_route(router, "DELETE", "/users/:id", show_params, "delete");
    pando_route(router, "GET", "/files/*rest", show_params, "files");
    pando_route(router, "GET", "/opt{/:id}", show_params, "opt");
    pando_route(router, "GET", "/dash/:id-x", show_params, "dash");
    pando_route(router, "GET", "/static", show_params, "static");
    pando_route(router, "*", "/any", show_params, "any");
    pando_router_redirect(router, "/old", "/router/static", 0);
    pando_router *inner_router = pando_router_new(NULL);
    pando_route(inner_router, "GET", "/deep/:rest", show_params, "deep");
    pando_router_nest_take(router, "/nest/:id", inner_router);
    pando_use_router_take(app, router);
}

int main(int argc, char **argv) {
    bool proxy = argc > 2 && !strcmp(argv[2], "proxy");
    pando_app *app = pando_app_new(&(struct pando_app_options){.proxy = proxy, .max_ips = proxy ? 2 : 0, .silent = true});
    if (argc > 3) pando_use_static(app, argv[3], &(struct pando_static_options){.prefix = NULL});
    pando_use(app, first, NULL);
    pando_use(app, second, NULL);
    add_router(app);
    return pando_app_main(app, argv[1]);
}

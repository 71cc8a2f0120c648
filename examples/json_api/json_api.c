// SPDX-License-Identifier: MIT
// A JSON API: notes kept in memory. Every answer is JSON, failures too.
#include <pando/app.h>

#include <jansson.h>

static json_t *notes;  // id -> {"id", "text"}
static long last_id;

// The outermost middleware turns what is thrown further in into JSON.
static void failures_as_json(pando_ctx *ctx) {
    const struct pando_failure *failure = pando_try_next(ctx);
    if (!failure) return;
    pando_set_status(ctx, failure->status);
    pando_body_json(ctx, "{s:s}", "error", failure->expose ? failure->message : "internal error");
}

static void list(pando_ctx *ctx) {
    json_t *all = json_array(), *note;
    const char *id;
    json_object_foreach(notes, id, note) json_array_append(all, note);
    pando_body_json_take(ctx, all);
}

static json_t *wanted(pando_ctx *ctx) {
    json_t *note = json_object_get(notes, pando_param(ctx, "id"));
    pando_assert(ctx, note, 404, "no note %s", pando_param(ctx, "id"));
    return note;
}

static void show(pando_ctx *ctx) { pando_body_json_take(ctx, json_incref(wanted(ctx))); }

static const char *text_of(pando_ctx *ctx) {
    const char *text = json_string_value(json_object_get(pando_request_json(ctx, 64 * 1024), "text"));
    pando_assert(ctx, text, 422, "\"text\" is missing");
    return text;
}

static void create(pando_ctx *ctx) {
    const char *text = text_of(ctx), *id = pando_printf(ctx, "%ld", ++last_id);
    json_t *note = json_pack("{s:s,s:s}", "id", id, "text", text);
    pando_assert(ctx, note && !json_object_set_new(notes, id, note), 503, "out of memory");
    pando_set_status(ctx, 201);
    pando_set(ctx, "Location", "/notes/%s", id);
    pando_body_json_take(ctx, json_incref(note));
}

static void change(pando_ctx *ctx) {
    json_t *note = wanted(ctx);
    json_object_set_new(note, "text", json_string(text_of(ctx)));
    pando_body_json_take(ctx, json_incref(note));
}

static void delete_note(pando_ctx *ctx) {
    wanted(ctx);
    json_object_del(notes, pando_param(ctx, "id"));
    pando_set_status(ctx, 204);
}

static void free_notes(void *arg) {
    (void)arg;
    json_decref(notes);
}

int main(int argc, char **argv) {
    pando_app *app = pando_app_new(NULL);
    notes = json_object();
    pando_on_free(app, free_notes, NULL);
    pando_use_request_id(app, false);
    pando_use(app, failures_as_json, NULL);
    pando_router *router = pando_router_new(&(struct pando_router_options){.prefix = "/notes"});
    pando_route(router, "GET", "/", list, NULL);
    pando_route(router, "POST", "/", create, NULL);
    pando_route(router, "GET", "/:id", show, NULL);
    pando_route(router, "PUT", "/:id", change, NULL);
    pando_route(router, "DELETE", "/:id", delete_note, NULL);
    pando_use_router_take(app, router);
    return pando_app_main(app, argc > 1 ? argv[1] : NULL);
}

// SPDX-License-Identifier: MIT
// A form with files: they are streamed to disk while they arrive, never held in memory.
#include <pando/app.h>

#include <jansson.h>

static void form(pando_ctx *ctx) {
    pando_body_text(
        ctx,
        "<form method=post enctype=multipart/form-data><input name=title><input type=file name=file multiple><button>Send</button></form>");
}

static void receive(pando_ctx *ctx) {
    const struct pando_file *files;
    size_t count =
        pando_request_multipart(ctx, &(struct pando_multipart_options){.max_file_bytes = 100 << 20, .max_total_bytes = 200 << 20}, &files);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:I}", "field", files[i].name, "name", files[i].filename, "type", files[i].type,
                                              "bytes", (json_int_t)files[i].size));
    const char *title = pando_form(ctx, "title");
    pando_body_json(ctx, "{s:s,s:o}", "title", title ? title : "", "files", list);
}

int main(int argc, char **argv) {
    pando_app *app = pando_app_new(NULL);
    pando_use_logger(app, NULL);
    pando_get(app, "/", form, NULL);
    pando_post(app, "/", receive, NULL);
    return pando_app_main(app, argc > 1 ? argv[1] : NULL);
}

// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "clock.h"
#include "fd.h"
#include "home.h"
#include "str.h"
#include "table.h"

#define STATUS_PATIENCE_S 10
#define STATUS_TEXT_SIZE 32

static void status_add_integer(struct table *table, const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value))
        table_addf(table, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else
        table_add(table, "-");
}

static void status_add_string(struct table *table, const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    table_add(table, text ? text : "-");
}

static void status_add_uptime(struct table *table, const json_t *object) {
    char text[STATUS_TEXT_SIZE];
    double seconds = json_number_value(json_object_get(object, "uptime_s"));
    table_add(table, str_duration(seconds > 0 ? (uint64_t)seconds * CLOCK_S : 0, text, sizeof text));
}

static void status_add_listen(struct table *table, const json_t *instance) {
    scoped_buf text = {0};
    size_t i;
    json_t *address;
    json_array_foreach(json_object_get(instance, "listen"), i, address) if (json_is_string(address))
        buf_printf(&text, "%s%s", text.len ? ", " : "", json_string_value(address));
    table_add(table, text.data ? text.data : "-");
}

static void status_print_instance(const json_t *instance) {
    static const char *const titles[] = {"NAME", "GENERATION", "WORKERS", "READY", "UPTIME", "LISTEN"};
    scoped_table table = TABLE(sizeof titles / sizeof titles[0]);
    for (size_t i = 0; i < table.columns; i++) table_add(&table, titles[i]);
    status_add_string(&table, instance, "name");
    status_add_integer(&table, instance, "generation");
    status_add_integer(&table, instance, "wanted");
    status_add_integer(&table, instance, "ready");
    status_add_uptime(&table, instance);
    status_add_listen(&table, instance);
    table_print(&table);
}

// With one socket a slot there is more to tell.
static const char *const status_steered[] = {"queue", "connections", "total", "rescued", "weight"};

static void status_add_worker(struct table *table, const json_t *worker, bool steered) {
    char text[STATUS_TEXT_SIZE];
    const json_t *cpu = json_object_get(worker, "cpu_percent");
    const json_t *rss = json_object_get(worker, "rss_bytes");
    status_add_integer(table, worker, "slot");
    status_add_integer(table, worker, "pid");
    status_add_string(table, worker, "state");
    status_add_uptime(table, worker);
    status_add_integer(table, worker, "restarts");
    table_addf(table, json_is_number(cpu) ? "%.0f%%" : "-", json_number_value(cpu));
    table_add(table, json_is_integer(rss) ? str_size((uint64_t)json_integer_value(rss), text, sizeof text) : "-");
    status_add_string(table, worker, "last_exit");
    for (size_t i = 0; steered && i < sizeof status_steered / sizeof status_steered[0]; i++)
        status_add_integer(table, worker, status_steered[i]);
}

static void status_print_workers(const json_t *instance) {
    static const char *const titles[] = {"SLOT", "PID", "STATE", "UPTIME", "RESTARTS", "CPU", "RSS", "LAST EXIT",
                                         "QUEUE", "OPEN", "TOTAL", "RESCUED", "WEIGHT"};
    const size_t plain = sizeof titles / sizeof titles[0] - sizeof status_steered / sizeof status_steered[0];
    bool steered = json_object_get(json_array_get(json_object_get(instance, "workers"), 0), "total") != NULL;
    scoped_table table = TABLE(steered ? sizeof titles / sizeof titles[0] : plain);
    for (size_t i = 0; i < table.columns; i++) table_add(&table, titles[i]);
    size_t i;
    json_t *worker;
    json_array_foreach(json_object_get(instance, "workers"), i, worker) status_add_worker(&table, worker, steered);
    table_print(&table);
}

static void status_print_crash_loops(const json_t *instance) {
    size_t i;
    json_t *worker;
    json_array_foreach(json_object_get(instance, "workers"), i, worker) {
        const json_t *deaths = json_object_get(worker, "crash_loop");
        const char *last = json_string_value(json_object_get(worker, "last_line"));
        if (!json_is_integer(deaths)) continue;
        printf("slot %" JSON_INTEGER_FORMAT " is in a crash loop: %" JSON_INTEGER_FORMAT " deaths in a row",
               json_integer_value(json_object_get(worker, "slot")), json_integer_value(deaths));
        if (last && *last) printf("; it last wrote: %s", last);
        putchar('\n');
    }
}

static void status_print_details(const json_t *instance) {
    status_print_instance(instance);
    status_print_workers(instance);
    status_print_crash_loops(instance);
    const char *degraded = json_string_value(json_object_get(instance, "degraded"));
    if (degraded) printf("degraded: %s\n", degraded);
}

static void status_print(const json_t *instances) {
    size_t i;
    json_t *instance;
    json_array_foreach(instances, i, instance) {
        if (i > 0) putchar('\n');
        status_print_details(instance);
    }
}

static json_t *status_ask(struct client *client, const struct cli_verb *verb, int *out_code) {
    client_set_patience(client, STATUS_PATIENCE_S);
    return client_ask(client, verb, json_pack("{s:s}", "verb", "status"), out_code);
}

static int status_one(const struct cli_verb *verb, const struct cli_args *args) {
    scoped_client client = CLIENT_NONE;
    int code = client_open(&client, verb, args->name);
    if (code != CLI_OK) return code;
    scoped_json *status = status_ask(&client, verb, &code);
    if (!status) return code;
    if (args->json) {
        client_print_json(status);
    } else {
        status_print_details(status);
    }
    return CLI_OK;
}

// One that does not answer must not hide the others.
static int status_collect(const struct cli_verb *verb, char *const *names, json_t *instances) {
    int worst = CLI_OK;
    for (; *names; names++) {
        scoped_client client = CLIENT_NONE;
        int code = client_open(&client, verb, *names);
        json_t *status = code == CLI_OK ? status_ask(&client, verb, &code) : NULL;
        if (status)
            json_array_append_new(instances, status);
        else
            worst = code;
    }
    return worst;
}

static int status_all(const struct cli_verb *verb, const struct cli_args *args) {
    char path[HOME_PATH_MAX] = "?";
    char **names = NULL;
    scoped_json *instances = json_array();
    scoped_fd home = client_open_home(verb);
    if (home < 0 && home != -ENOENT) return CLI_FAILED;
    int count = home < 0 ? 0 : client_list_live(home, &names);
    if (count < 0) return cli_complain(verb, CLI_FAILED, "list the instances: %s", strerror(-count));
    int code = names ? status_collect(verb, names, instances) : CLI_OK;
    home_list_free(names);
    if (args->json)
        client_print_json(instances);
    else
        status_print(instances);
    home_path(path, sizeof path, NULL);
    return count > 0 ? code : cli_complain(verb, CLI_NOT_RUNNING, "no instance is running in %s", path);
}

int verb_status(const struct cli_verb *verb, int argc, char **argv) {
    struct cli_args args;
    int code = cli_args_parse(verb, argc, argv, &args);
    if (code != CLI_GO) return code;
    return args.name ? status_one(verb, &args) : status_all(verb, &args);
}

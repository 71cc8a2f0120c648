// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "client.h"
#include "cpus.h"
#include "probe.h"
#include "table.h"

static json_t *info_optional_text(const char *text) { return *text ? json_string(text) : json_null(); }

static json_t *info_cpus(void) {
    struct cpus cpus;
    cpus_read(&cpus, "/proc", "");
    return json_pack("{s:i, s:i, s:i, s:o, s:o, s:o, s:o}", "count", cpus.count, "online", cpus.online, "affinity", cpus.affinity, "cpuset",
                     cpus.cpuset > 0 ? json_integer(cpus.cpuset) : json_null(), "cpuset_source", info_optional_text(cpus.cpuset_source),
                     "quota", cpus.quota > CPUS_NO_LIMIT ? json_real(cpus.quota) : json_null(), "quota_source",
                     info_optional_text(cpus.quota_source));
}

static json_t *info_features(void) {
    struct feature features[FEATURE_MAX];
    size_t count = probe_features(features);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s}", "name", features[i].name, "state", features[i].present ? "present" : "absent", "detail",
                            features[i].detail, "cost", features[i].cost));
    return list;
}

static json_t *info_of_this_machine(void) {
    struct utsname kernel = {0};
    uname(&kernel);
    return json_pack("{s:s, s:s, s:o, s:o}", "version", PANDO_VERSION, "kernel", kernel.release, "cpus", info_cpus(), "features",
                     info_features());
}

// "2      in the cgroup's cpuset (FILE)"; what does not limit is shown as "-".
static void info_print_limit(const json_t *cpus, const char *key, const char *text, const char *source_key) {
    char number[16] = "-";
    const json_t *value = json_object_get(cpus, key);
    const char *source = json_string_value(json_object_get(cpus, source_key));
    if (json_is_number(value)) snprintf(number, sizeof number, "%.4g", json_number_value(value));
    printf("  %-6s %s", number, text);
    printf(source ? " (%s)\n" : "\n", source);
}

static void info_print_cpus(const json_t *cpus) {
    printf("processors: %" JSON_INTEGER_FORMAT ": so many workers does `-w auto` start\n",
           json_integer_value(json_object_get(cpus, "count")));
    info_print_limit(cpus, "online", "online", "");
    info_print_limit(cpus, "affinity", "allowed by affinity", "");
    info_print_limit(cpus, "cpuset", "in the cgroup's cpuset", "cpuset_source");
    info_print_limit(cpus, "quota", "worth of cgroup quota", "quota_source");
}

static const char *info_text(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

// What is absent is worth its cost; what is present at most a value.
static void info_add_feature(struct table *table, const json_t *feature) {
    const char *state = info_text(feature, "state"), *detail = info_text(feature, "detail"), *cost = info_text(feature, "cost");
    bool has_cost = *cost && strcmp(state, "present") != 0;
    table_add(table, info_text(feature, "name"));
    table_add(table, state);
    table_addf(table, "%s%s%s", detail, *detail && has_cost ? "; " : "", has_cost ? cost : "");
}

static void info_print_features(const json_t *features) {
    scoped_table table = TABLE(3);
    size_t i;
    json_t *feature;
    table_add(&table, "FEATURE");
    table_add(&table, "STATE");
    table_add(&table, "WHAT WAS SEEN; WHAT ITS ABSENCE COSTS");
    json_array_foreach(features, i, feature) info_add_feature(&table, feature);
    table_print(&table);
}

static void info_print(const json_t *info) {
    const char *version = info_text(info, "version"), *kernel = info_text(info, "kernel");
    if (*version) printf("pando %s", version);
    if (*version) printf(*kernel ? ", kernel %s\n" : "\n", kernel);
    info_print_cpus(json_object_get(info, "cpus"));
    putchar('\n');
    info_print_features(json_object_get(info, "features"));
}

static json_t *info_of_instance(const struct cli_verb *verb, const char *name, int *out_code) {
    scoped_client client = CLIENT_NONE;
    *out_code = client_open(&client, verb, name);
    if (*out_code != CLI_OK) return NULL;
    return client_ask(&client, verb, json_pack("{s:s}", "verb", "info"), out_code);
}

int verb_info(const struct cli_verb *verb, int argc, char **argv) {
    struct cli_args args;
    int code = cli_args_parse(verb, argc, argv, &args);
    if (code != CLI_GO) return code;
    code = CLI_OK;
    scoped_json *info = args.name ? info_of_instance(verb, args.name, &code) : info_of_this_machine();
    if (!info) return code;
    if (args.json)
        client_print_json(info);
    else
        info_print(info);
    return CLI_OK;
}

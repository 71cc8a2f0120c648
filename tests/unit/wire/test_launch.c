// SPDX-License-Identifier: MIT
#include "launch.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fd.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define WORDS_MAX 32
#define S UINT64_C(1000000000)

static char *const base_environment[] = {"PATH=/bin", "A=1", "A=2", "odd", NULL};

// Parses a line of words separated by single spaces.
static int parse(struct launch *launch, const char *line, struct pando_error *error) {
    char copy[512], *words[WORDS_MAX] = {NULL}, *rest = copy;
    int count = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = *copy ? strsep(&rest, " ") : NULL; word; word = strsep(&rest, " ")) words[count++] = word;
    launch_init(launch);
    error->text[0] = '\0';
    return launch_parse(launch, count, words, base_environment, error);
}

static struct launch parse_ok(const char *line) {
    struct launch launch;
    struct pando_error error;
    int err = parse(&launch, line, &error);
    if (err) fail_msg("%s: %s", line, error.text);
    return launch;
}

static void the_defaults_are_those_of_the_manual(void **state) {
    (void)state;
    struct launch launch = parse_ok("node app.js");
    char cwd[4096];
    assert_string_equal(launch.name, "app");
    assert_int_equal(launch.workers, 0);
    assert_int_equal(launch.ready, LAUNCH_READY_LISTEN);
    assert_true(launch.ready_timeout_ns == 60 * S);
    assert_true(launch.kill_timeout_ns == 30 * S);
    assert_int_equal(launch.stop_signal, SIGTERM);
    assert_int_equal(launch.intercept, LAUNCH_INTERCEPT_AUTO);
    assert_string_equal(launch.directory, getcwd(cwd, sizeof cwd));
    assert_true(launch.nofile_soft > 0 && launch.nofile_hard >= launch.nofile_soft);
    assert_false(launch.detach || launch.fail_fast || launch.pin || launch.has_user);
    assert_null(launch.log_file);
    assert_string_equal(launch.argv[1], "app.js");
    assert_null(launch.argv[2]);
    launch_deinit(&launch);
}

static void worker_counts_are_taken_in_every_spelling(void **state) {
    (void)state;
    static const struct {
        const char *line;
        long workers;
    } cases[] = {
        {"-w 4 x", 4},          {"-w4 x", 4},     {"--workers=4 x", 4}, {"--workers 4 x", 4}, {"-i 4 x", 4},
        {"--instances=4 x", 4}, {"-w auto x", 0}, {"-w max x", 0},      {"-w 0 x", 0},        {"-w 1024 x", 1024},
        {"-w 2 -w 3 x", 3},     {"-dw4 x", 4},    {"-w4 -- -x", 4},     {"-w 4 x -w 5", 4},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct launch launch = parse_ok(cases[i].line);
        assert_int_equal(launch.workers, cases[i].workers);
        launch_deinit(&launch);
    }
}

static void every_option_reaches_its_field(void **state) {
    (void)state;
    struct launch launch = parse_ok(
        "-d -n web-1 -C /tmp --ready fd=5 --ready-timeout 2m --kill-timeout=250ms --stop-signal QUIT --fail-fast --own-port 9000 --pin "
        "--log-format json --log-file pando.log --debug-intercept hand srv --port 80");
    assert_true(launch.detach && launch.fail_fast && launch.pin);
    assert_string_equal(launch.name, "web-1");
    assert_string_equal(launch.directory, "/tmp");
    assert_int_equal(launch.ready, LAUNCH_READY_FD);
    assert_int_equal(launch.ready_fd, 5);
    assert_true(launch.ready_timeout_ns == 120 * S);
    assert_true(launch.kill_timeout_ns == S / 4);
    assert_int_equal(launch.stop_signal, SIGQUIT);
    assert_int_equal(launch.own_port, 9000);
    assert_int_equal(launch.log_format, LAUNCH_LOG_JSON);
    assert_int_equal(launch.log_file[0], '/');
    assert_non_null(strstr(launch.log_file, "/pando.log"));
    assert_int_equal(launch.intercept, LAUNCH_INTERCEPT_HAND);
    assert_string_equal(launch.argv[1], "--port");
    launch_deinit(&launch);
}

static void signs_of_being_ready_are_understood(void **state) {
    (void)state;
    struct launch launch = parse_ok("--ready delay=2s x");
    assert_int_equal(launch.ready, LAUNCH_READY_DELAY);
    assert_true(launch.ready_delay_ns == 2 * S);
    launch_deinit(&launch);
    launch = parse_ok("--ready=notify --no-intercept x");
    assert_int_equal(launch.ready, LAUNCH_READY_NOTIFY);
    assert_int_equal(launch.intercept, LAUNCH_INTERCEPT_NONE);
    launch_deinit(&launch);
}

static void later_variables_win_over_earlier_and_inherited_ones(void **state) {
    (void)state;
    struct launch launch = parse_ok("-e A=3 -e B= --env=A=4=5 -e AB=6 x");
    static const char *const expected[] = {"PATH=/bin", "odd", "B=", "A=4=5", "AB=6"};
    for (size_t i = 0; i < COUNT(expected); i++) assert_string_equal(launch.envp[i], expected[i]);
    assert_null(launch.envp[COUNT(expected)]);
    launch_deinit(&launch);
}

static void an_account_brings_its_groups(void **state) {
    (void)state;
    struct launch launch = parse_ok("-u root x");
    assert_true(launch.has_user);
    assert_int_equal(launch.uid, 0);
    assert_int_equal(launch.gid, 0);
    assert_true(launch.group_count >= 1);
    assert_string_equal(launch.user, "root");
    launch_deinit(&launch);
    launch = parse_ok("-u 54321:65000 x");
    assert_int_equal(launch.uid, 54321);
    assert_int_equal(launch.gid, 65000);
    assert_int_equal(launch.group_count, 1);
    assert_int_equal(launch.groups[0], 65000);
    launch_deinit(&launch);
}

static void mistakes_are_explained(void **state) {
    (void)state;
    static const struct {
        const char *line, *text;
    } cases[] = {
        {"", "no command was given"},
        {"-w 4", "no command was given"},
        {"--", "no command was given"},
        {"-w 0x x", "--workers 0x: not a number: give 1 to 1024, or auto"},
        {"-w 1025 x", "--workers 1025: out of range: give 1 to 1024, or auto"},
        {"-w -1 x", "--workers -1: out of range"},
        {"-i x x", "--instances x: not a number"},
        {"-w", "--workers: needs a value: give --workers N|auto"},
        {"--worker 4 x", "--worker: no such option: did you mean --workers?"},
        {"--serge 2 x", "--serge: no such option: did you mean --surge?"},
        {"--node-clusters x", "--node-clusters: no such option: did you mean --node-cluster?"},
        {"--max-memory 1G x", "--max-memory: no such option"},
        {"-z x", "-z: no such option"},
        {"--pin=yes x", "--pin=yes: --pin takes no value"},
        {"-n ../x x", "--name ../x: not a name"},
        {"-n .x x", "--name .x: not a name"},
        {"--ready soon x", "--ready soon: no such sign of being ready: give listen, notify, message, http=PATH, fd=N or delay=T"},
        {"--ready fd=2 x", "--ready fd=2: not a descriptor"},
        {"--ready delay=x x", "--ready delay=x: not a duration"},
        {"--warm-up 0 --ready http=/ x", "--warm-up 0: out of range: give 1 to 10000"},
        {"--warm-up 9 x", "--warm-up 9: a worker is warmed up by being asked for something: give --ready http=PATH too"},
        {"--ready-timeout 0 x", "--ready-timeout 0: no time at all"},
        {"--kill-timeout 5y x", "--kill-timeout 5y: not a duration: give one such as 250ms"},
        {"--stop-signal FOO x", "--stop-signal FOO: no such signal"},
        {"--own-port 0 x", "--own-port 0: out of range"},
        {"-w 10 --own-port 65530 x", "--own-port 65530: 10 workers need ports up to 65539"},
        {"-e A x", "--env A: not a variable: give KEY=VALUE"},
        {"-e =A x", "--env =A: not a variable"},
        {"-C /no/such x", "--directory /no/such: No such file or directory"},
        {"-C /etc/passwd x", "--directory /etc/passwd: not a folder"},
        {"-u no-such-user x", "--user: user no-such-user: no such user"},
        {"-u root:no-such-group x", "--user: group no-such-group: no such group"},
        {"-u 54321 x", "--user: user 54321 has no account"},
        {"-u : x", "--user :: give USER or USER:GROUP"},
        {"--log-format xml x", "--log-format xml: no such choice: give text|json"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct launch launch;
        struct pando_error error;
        if (parse(&launch, cases[i].line, &error) != -EINVAL) fail_msg("taken: %s", cases[i].line);
        if (strncmp(error.text, cases[i].text, strlen(cases[i].text)) != 0) fail_msg("%s: %s", cases[i].line, error.text);
        launch_deinit(&launch);
    }
}

static void help_is_not_a_mistake(void **state) {
    (void)state;
    struct launch launch;
    struct pando_error error;
    assert_int_equal(parse(&launch, "-w 4 --help", &error), 1);
    launch_deinit(&launch);
    assert_int_equal(parse(&launch, "cmd --help", &error), 0);
    launch_deinit(&launch);
}

static void an_instance_is_called_what_a_person_would_call_it(void **state) {
    (void)state;
    static const struct {
        const char *line, *name;
    } cases[] = {
        {"node app.js", "app"},
        {"/usr/bin/node --inspect -r ./x.js srv/server.min.js", "server.min"},
        {"node -C / dist/web.js", "web"},
        {"-C /tmp node .", "tmp"},
        {"-C / node .", "app"},
        {"node -e code", "node"},
        {"node", "node"},
        {"python3.11 -u -m http.server 80", "http"},
        {"python3 -m uvicorn app:app", "uvicorn"},
        {"python3 -W error serve.py", "serve"},
        {"python3 -c code x.py", "python3"},
        {"ruby -I lib app.rb", "app"},
        {"php -S localhost:80 router.php", "router"},
        {"php artisan serve", "artisan"},
        {"perl -Mstrict web.pl", "web"},
        {"java -Xmx1g -jar target/shop-1.2.jar", "shop-1.2"},
        {"java -cp lib com.example.Main arg", "Main"},
        {"java -m mod/com.example.Main", "Main"},
        {"bash run.sh", "run"},
        {"sh -c echo", "sh"},
        {"deno run -A main.ts", "main"},
        {"bun run index.ts", "index"},
        {"lua5.4 web.lua", "web"},
        {"npm run start", "start"},
        {"npm start", "start"},
        {"npx http-server -p 80", "http-server"},
        {"yarn --cwd x dev", "dev"},
        {"./bin/my-server", "my-server"},
        {"./serve.py", "serve"},
        {"nodemon app.js", "nodemon"},
        {"./we!rd", "we-rd"},
        {"./.hidden", "hidden"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct launch launch = parse_ok(cases[i].line);
        if (strcmp(launch.name, cases[i].name) != 0) fail_msg("%s: %s, not %s", cases[i].line, launch.name, cases[i].name);
        assert_true(launch_name_valid(launch.name));
        launch_deinit(&launch);
    }
}

static void names_are_safe_as_file_names(void **state) {
    (void)state;
    char longest[LAUNCH_NAME_MAX + 2];
    memset(longest, 'a', sizeof longest);
    longest[LAUNCH_NAME_MAX + 1] = '\0';
    assert_false(launch_name_valid(longest));
    longest[LAUNCH_NAME_MAX] = '\0';
    assert_true(launch_name_valid(longest));
    static const char *const bad[] = {"", ".", "..", "a/b", "-x", "a b", "a\n", "\xc3\xa9"};
    for (size_t i = 0; i < COUNT(bad); i++) assert_false(launch_name_valid(bad[i]));
}

static void check_list(char **a, char **b) {
    size_t i = 0;
    for (; a[i] && b[i]; i++) assert_string_equal(a[i], b[i]);
    assert_ptr_equal(a[i], b[i]);
}

static void a_sealed_launch_comes_back_whole(void **state) {
    (void)state;
    struct launch launch =
        parse_ok("-d -w 7 -u 12:34 --log-file /l --own-port 80 --ready fd=9 -e X=\xff\x01\xfe -e Y=\xc3\xa9 caf\xe9 \xff");
    struct launch loaded;
    struct pando_error error;
    launch.home = strdup("/run/pando/\x80");
    launch.nofile_hard = UINT64_MAX;
    scoped_fd fd = launch_seal(&launch);
    assert_true(fd >= 0);
    assert_int_equal(launch_load(&loaded, fd, &error), 0);
    check_list(launch.argv, loaded.argv);
    check_list(launch.envp, loaded.envp);
    assert_string_equal(loaded.name, launch.name);
    assert_string_equal(loaded.home, launch.home);
    assert_string_equal(loaded.directory, launch.directory);
    assert_string_equal(loaded.log_file, "/l");
    assert_string_equal(loaded.user, "12:34");
    assert_int_equal(loaded.workers, 7);
    assert_int_equal(loaded.ready, LAUNCH_READY_FD);
    assert_int_equal(loaded.ready_fd, 9);
    assert_int_equal(loaded.own_port, 80);
    assert_int_equal(loaded.uid, 12);
    assert_int_equal(loaded.group_count, 1);
    assert_int_equal(loaded.groups[0], 34);
    assert_true(loaded.nofile_hard == UINT64_MAX && loaded.nofile_soft == launch.nofile_soft);
    assert_true(loaded.kill_timeout_ns == launch.kill_timeout_ns && loaded.ready_timeout_ns == launch.ready_timeout_ns);
    assert_true(loaded.detach && loaded.has_user && !loaded.pin);
    launch_deinit(&loaded);
    launch_deinit(&launch);
}

// The sealed text of a good launch with the first `from` replaced by `to`; the result of loading that.
static int load_spoilt(const char *from, const char *to) {
    struct launch launch = parse_ok("-w 7 -u 12:34 server");
    struct pando_error error;
    launch.home = strdup("/run/pando");
    scoped_fd good = launch_seal(&launch);
    launch_deinit(&launch);
    char text[8192] = "", spoilt[8192];
    assert_true(pread(good, text, sizeof text - 1, 0) > 0);
    char *found = strstr(text, from);
    if (!found) fail_msg("%s is not in %s", from, text);
    int len = snprintf(spoilt, sizeof spoilt, "%.*s%s%s", (int)(found - text), text, to, found + strlen(from));
    scoped_fd fd = fd_memfd_sealed("launch", spoilt, (size_t)len);
    int err = launch_load(&launch, fd, &error);
    if (!err) launch_deinit(&launch);
    return err;
}

static void a_damaged_launch_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"{", "["},
        {"{\"name\":\"server\",", "{"},
        {"{", "{\"extra\":1,"},
        {"\"server\"", "\"../server\""},
        {"\"workers\":7", "\"workers\":-1"},
        {"\"workers\":7", "\"workers\":1025"},
        {"\"workers\":7", "\"workers\":\"7\""},
        {"\"workers\":7", "\"workers\":7,\"workers\":7"},
        {"\"ready\":\"listen\"", "\"ready\":\"never\""},
        {"\"ready\":\"listen\"", "\"ready\":\"fd\""},
        {"\"intercept\":\"auto\"", "\"intercept\":\"\""},
        {"\"stop_signal\":15", "\"stop_signal\":0"},
        {"\"stop_signal\":15", "\"stop_signal\":99"},
        {"\"own_port\":0", "\"own_port\":65536"},
        {"\"uid\":12", "\"uid\":4294967295"},
        {"\"uid\":12", "\"uid\":-1"},
        {"[34]", "[true]"},
        {"[34]", "[4294967295]"},
        {"\"argv\":[\"server\"]", "\"argv\":[]"},
        {"\"argv\":[\"server\"]", "\"argv\":[\"\"]"},
        {"\"argv\":[\"server\"]", "\"argv\":[\"server\",7]"},
        {"\"argv\":[\"server\"]", "\"argv\":[{\"bytes\":\"6\"}]"},
        {"\"argv\":[\"server\"]", "\"argv\":[{\"bytes\":\"6x\"}]"},
        {"\"argv\":[\"server\"]", "\"argv\":[{\"bytes\":\"6100\"}]"},
        {"\"argv\":[\"server\"]", "\"argv\":{\"bytes\":\"61\"}"},
        {"\"odd\"", "\"od\\u0000d\""},
        {"\"/run/pando\"", "\"run/pando\""},
        {"\"/run/pando\"", "null"},
        {"\"log_file\":null", "\"log_file\":\"relative\""},
        {"\"kill_timeout_ns\":30000000000", "\"kill_timeout_ns\":-5"},
        {"\"kill_timeout_ns\":30000000000", "\"kill_timeout_ns\":99999999999999999999"},
    };
    assert_int_equal(load_spoilt("\"workers\":7", "\"workers\":8"), 0);
    for (size_t i = 0; i < COUNT(cases); i++)
        if (load_spoilt(cases[i].from, cases[i].to) != -EINVAL) fail_msg("accepted: %s", cases[i].to);
    struct launch launch;
    scoped_fd empty = fd_memfd_sealed("launch", "", 0);
    assert_int_equal(launch_load(&launch, empty, NULL), -EINVAL);
    assert_int_equal(launch_load(&launch, -1, NULL), -EBADF);
}

static int help_lines;
static bool help_shows_secrets;

static void count_line(const char *line) {
    help_lines++;
    help_shows_secrets |= strstr(line, "debug-intercept") != NULL;
}

static void the_help_shows_all_but_the_debugging_options(void **state) {
    (void)state;
    launch_print_options(count_line);
    assert_int_equal(help_lines, 32);
    assert_false(help_shows_secrets);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_those_of_the_manual),
        cmocka_unit_test(worker_counts_are_taken_in_every_spelling),
        cmocka_unit_test(every_option_reaches_its_field),
        cmocka_unit_test(signs_of_being_ready_are_understood),
        cmocka_unit_test(later_variables_win_over_earlier_and_inherited_ones),
        cmocka_unit_test(an_account_brings_its_groups),
        cmocka_unit_test(mistakes_are_explained),
        cmocka_unit_test(help_is_not_a_mistake),
        cmocka_unit_test(an_instance_is_called_what_a_person_would_call_it),
        cmocka_unit_test(names_are_safe_as_file_names),
        cmocka_unit_test(a_sealed_launch_comes_back_whole),
        cmocka_unit_test(a_damaged_launch_is_refused),
        cmocka_unit_test(the_help_shows_all_but_the_debugging_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "node_command.h"
#include "node_ipc.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static struct node_message parse(const char *text) {
    struct node_message message;
    if (node_message_parse(&message, text, strlen(text)) != 0) fail_msg("refused: %s", text);
    return message;
}

static void every_message_is_told_from_the_others(void **unused) {
    (void)unused;
    static const struct {
        const char *text;
        enum node_verb verb;
    } cases[] = {
        {"\"ready\"", NODE_USER},
        {"1", NODE_USER},
        {"null", NODE_USER},
        {"[{\"cmd\":\"NODE_CLUSTER\"}]", NODE_USER},
        {"{}", NODE_USER},
        {"{\"cmd\":\"NODE_\"}", NODE_USER},  // longer than five characters, says Node
        {"{\"cmd\":\"node_cluster\"}", NODE_USER},
        {"{\"cmd\":5}", NODE_USER},
        {"{\"cmd\":\"NODE_X\"}", NODE_UNKNOWN},
        {"{\"cmd\":\"NODE_CLUSTER\"}", NODE_UNKNOWN},
        {"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"whatever\",\"seq\":0}", NODE_UNKNOWN},
        {"{\"cmd\":\"NODE_CLUSTER\",\"act\":5,\"seq\":0}", NODE_UNKNOWN},
        {"{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":1}", NODE_HANDLE},
        {"{\"cmd\":\"NODE_HANDLE_ACK\"}", NODE_HANDLE_ACK},
        {"{ \"cmd\" : \"NODE_HANDLE_ACK\" }", NODE_HANDLE_ACK},
        {"{\"cmd\":\"NODE_HANDLE_NACK\"}", NODE_HANDLE_NACK},
        {"{\"cmd\":\"NODE_SOCKET_NOTIFY_CLOSE\",\"key\":\"a\"}", NODE_SOCKET_CLOSED},
        {"{\"cmd\":\"NODE_SOCKET_GET_COUNT\",\"key\":\"a\"}", NODE_SOCKET_COUNT},
        {"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"online\",\"seq\":0}", NODE_ONLINE},
        {"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"close\",\"key\":\"3\",\"seq\":4}", NODE_CLOSE},
        {"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"exitedAfterDisconnect\",\"seq\":4}", NODE_LEAVING},
        {"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"listening\",\"port\":80,\"seq\":4}", NODE_LISTENING},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct node_message message = parse(cases[i].text);
        if (message.verb != cases[i].verb) fail_msg("%s: %d", cases[i].text, message.verb);
        node_message_deinit(&message);
    }
}

static void a_query_says_what_is_wanted(void **unused) {
    (void)unused;
    struct node_message message = parse(
        "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\",\"index\":2,\"data\":{\"ticketKeys\":\"00ff\"},\"address\":\"::1\","
        "\"port\":8080,\"addressType\":6,\"flags\":1,\"seq\":7}");
    assert_int_equal(message.verb, NODE_QUERY);
    assert_int_equal(message.seq, 7);
    assert_int_equal(message.type, NODE_ADDRESS_TCP6);
    assert_string_equal(message.address, "::1");
    assert_int_equal(message.port, 8080);
    assert_int_equal(message.index, 2);
    assert_int_equal(message.flags, 1);
    assert_int_equal(message.fd, NODE_FD_NONE);
    assert_non_null(message.data);
    node_message_deinit(&message);
    message = parse(
        "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\",\"address\":\"/run/"
        "a\",\"port\":-1,\"addressType\":-1,\"readableAll\":true,\"data\":null}");
    assert_int_equal(message.type, NODE_ADDRESS_PATH);
    assert_true(message.readable_all && !message.writable_all && !message.has_seq);
    assert_null(message.data);
    node_message_deinit(&message);
    message = parse("{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\",\"address\":null,\"addressType\":\"udp4\",\"fd\":9,\"seq\":1}");
    assert_int_equal(message.type, NODE_ADDRESS_UDP4);
    assert_null(message.address);
    assert_int_equal(message.fd, 9);
    node_message_deinit(&message);
}

static void numbers_out_of_range_are_absent(void **unused) {
    (void)unused;
    struct node_message message = parse(
        "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\",\"port\":65536,\"addressType\":5,\"fd\":1e10,\"index\":-1,"
        "\"flags\":0.5,\"seq\":99999999999999999999}");
    assert_int_equal(message.type, NODE_ADDRESS_NONE);
    assert_int_equal(message.port, -1);
    assert_int_equal(message.fd, NODE_FD_NONE);
    assert_int_equal(message.index, 0);
    assert_int_equal(message.flags, 0);
    assert_false(message.has_seq);
    node_message_deinit(&message);
}

// What comes for every connection is read without a JSON parser, and must mean the same.
static void the_short_way_and_the_long_way_agree(void **unused) {
    (void)unused;
    static const char *const cases[] = {
        "{\"cmd\":\"NODE_CLUSTER\",\"ack\":0,\"accepted\":true,\"seq\":1}",
        "{\"cmd\":\"NODE_CLUSTER\",\"ack\":123456789012345,\"accepted\":false,\"seq\":77}",
        "{\"cmd\":\"NODE_CLUSTER\",\"ack\":9007199254740992,\"accepted\":true,\"seq\":1}",
        "{\"cmd\":\"NODE_CLUSTER\",\"ack\":4294967296,\"accepted\":true,\"seq\":2,\"more\":1}",
        "{\"cmd\":\"NODE_HANDLE_ACK\"}",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char spaced[200] = " ";
        strcat(spaced, cases[i]);
        struct node_message quick = parse(cases[i]), slow = parse(spaced);
        assert_int_equal(quick.verb, slow.verb);
        assert_int_equal(quick.ack, slow.ack);
        assert_int_equal(quick.accepted, slow.accepted);
        assert_int_equal(quick.seq, slow.seq);
        node_message_deinit(&quick);
        node_message_deinit(&slow);
    }
}

static void what_is_no_json_is_refused(void **unused) {
    (void)unused;
    static const char *const cases[] = {"",        " ",   "{",        "{\"a\":}",
                                        "garbage", "{}x", "\"\xff\"", "{\"cmd\":\"NODE_CLUSTER\",\"ack\":1,\"accepted\":true,\"seq\":1"};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct node_message message;
        if (node_message_parse(&message, cases[i], strlen(cases[i])) != -EBADMSG) fail_msg("accepted: %s", cases[i]);
        node_message_deinit(&message);
    }
    char deep[20000];
    memset(deep, '[', sizeof deep);
    struct node_message message;
    assert_int_equal(node_message_parse(&message, deep, sizeof deep), -EBADMSG);
    node_message_deinit(&message);
}

static void answers_are_spelt_as_node_reads_them(void **unused) {
    (void)unused;
    scoped_buf out = {0};
    node_write_shared(&out, 5, 3, "7", NULL, false);
    assert_string_equal(
        out.data,
        "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{\"cmd\":\"NODE_CLUSTER\",\"errno\":0,\"key\":\"7\",\"ack\":3,"
        "\"data\":null,\"seq\":5}}");
    buf_deinit(&out);
    node_write_shared(&out, 5, 3, "7", "{\"ticketKeys\":\"00\"}", true);
    assert_non_null(strstr(out.data, "\"type\":\"dgram.Native\""));
    assert_non_null(strstr(out.data, "\"data\":{\"ticketKeys\":\"00\"}"));
    buf_deinit(&out);
    node_write_passing(&out, 1, 0, "2", NULL, "::", true, 80);
    assert_string_equal(out.data,
                        "{\"cmd\":\"NODE_CLUSTER\",\"errno\":null,\"key\":\"2\",\"ack\":0,\"data\":null,\"seq\":1,"
                        "\"sockname\":{\"address\":\"::\",\"family\":\"IPv6\",\"port\":80}}");
    buf_deinit(&out);
    node_write_passing(&out, 1, 0, "2", NULL, NULL, false, 0);
    assert_null(strstr(out.data, "sockname"));
    buf_deinit(&out);
    node_write_error(&out, 1, 9, "-1", -EADDRINUSE);
    assert_non_null(strstr(out.data, "\"errno\":-98"));
    buf_deinit(&out);
    node_write_socket_answer(&out, "NODE_SOCKET_COUNT", "k\"ey", true);
    assert_string_equal(out.data, "{\"cmd\":\"NODE_SOCKET_COUNT\",\"key\":\"k\\\"ey\",\"count\":0}");
    char connection[192];
    size_t len = node_write_connection(connection, sizeof connection, "63", UINT64_C(9007199254740991));
    assert_true(len < sizeof connection);
    struct node_message message = parse(connection);
    assert_int_equal(message.verb, NODE_HANDLE);
    assert_string_equal(json_string_value(json_object_get(message.inner, "act")), "newconn");
    node_message_deinit(&message);
}

static void commands_that_can_be_no_worker_are_known(void **unused) {
    (void)unused;
    static const struct {
        char *argv[6];
        enum node_command kind;
    } cases[] = {
        {{"node", "app.js"}, NODE_COMMAND_SCRIPT},
        {{"/usr/bin/node", "--max-old-space-size=100", "-r", "x", "app.js"}, NODE_COMMAND_SCRIPT},
        {{"nodejs", "app.js", "--watch"}, NODE_COMMAND_SCRIPT},
        {{"node", "app.js", "-e"}, NODE_COMMAND_SCRIPT},
        {{"node", "-e", "1"}, NODE_COMMAND_NO_SCRIPT},
        {{"node", "-"}, NODE_COMMAND_NO_SCRIPT},
        {{"node"}, NODE_COMMAND_NO_SCRIPT},
        {{"node", "-p", "1"}, NODE_COMMAND_NO_SCRIPT},
        {{"npm", "start"}, NODE_COMMAND_WRAPPER},
        {{"/usr/bin/npx", "x"}, NODE_COMMAND_WRAPPER},
        {{"yarn", "start"}, NODE_COMMAND_WRAPPER},
        {{"node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "start"}, NODE_COMMAND_WRAPPER},
        {{"node", "--watch", "app.js"}, NODE_COMMAND_WRAPPER},
        {{"node", "--watch-path=x", "app.js"}, NODE_COMMAND_WRAPPER},
        {{"node", "--run", "start"}, NODE_COMMAND_WRAPPER},
        {{"sh", "-c", "cd x && exec npm start"}, NODE_COMMAND_WRAPPER},
        {{"bash", "-lc", "(yarn start)"}, NODE_COMMAND_WRAPPER},
        {{"sh", "-c", "node app.js # not npmx"}, NODE_COMMAND_OTHER},
        {{"./start.sh", "npm"}, NODE_COMMAND_OTHER},
        {{"python3", "app.py"}, NODE_COMMAND_OTHER},
        {{""}, NODE_COMMAND_OTHER},
        {{"npm/"}, NODE_COMMAND_OTHER},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (node_command_kind(cases[i].argv) != cases[i].kind)
            fail_msg("%s %s: %d", cases[i].argv[0], cases[i].argv[1], node_command_kind(cases[i].argv));
        bool refused = cases[i].kind == NODE_COMMAND_WRAPPER || cases[i].kind == NODE_COMMAND_NO_SCRIPT;
        assert_int_equal(node_command_refusal(cases[i].argv) != NULL, refused);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_is_told_from_the_others),
        cmocka_unit_test(a_query_says_what_is_wanted),
        cmocka_unit_test(numbers_out_of_range_are_absent),
        cmocka_unit_test(the_short_way_and_the_long_way_agree),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(answers_are_spelt_as_node_reads_them),
        cmocka_unit_test(commands_that_can_be_no_worker_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

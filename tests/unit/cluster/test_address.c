// SPDX-License-Identifier: MIT
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "address.h"

static struct record_address inet(const char *host, int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct record_address out;
    inet_pton(AF_INET, host, &at.sin_addr);
    assert_int_equal(address_from(&out, (struct sockaddr *)&at, sizeof at, SOCK_STREAM, false), 0);
    return out;
}

static struct record_address inet6(const char *host, int port, bool v6only) {
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_flowinfo = 77};
    struct record_address out;
    inet_pton(AF_INET6, host, &at.sin6_addr);
    assert_int_equal(address_from(&out, (struct sockaddr *)&at, sizeof at, SOCK_STREAM, v6only), 0);
    return out;
}

static void the_same_address_is_the_same_key_whatever_its_padding(void **unused) {
    (void)unused;
    struct record_address a = inet("127.0.0.1", 3000), b;
    struct sockaddr_in at = a.at.in;
    memset(at.sin_zero, 0xff, sizeof at.sin_zero);
    assert_int_equal(address_from(&b, (struct sockaddr *)&at, sizeof at, SOCK_STREAM, false), 0);
    assert_true(address_equal(&a, &b));
}

static void a_dual_stack_socket_is_another_key_than_one_for_ipv6_alone(void **unused) {
    (void)unused;
    struct record_address dual = inet6("::", 3000, false), alone = inet6("::", 3000, true), again = inet6("::", 3000, false);
    struct record_address one = inet6("::1", 3000, false), only = inet6("::1", 3000, true);
    assert_false(address_equal(&dual, &alone));
    assert_true(address_equal(&one, &only));  // the kernel sets the option itself when it binds such an address
    assert_true(address_equal(&dual, &again));
}

static void port_host_and_family_tell_addresses_apart(void **unused) {
    (void)unused;
    struct record_address a = inet("0.0.0.0", 80), b = inet("0.0.0.0", 81), c = inet("127.0.0.1", 80), d = inet6("::", 80, true);
    assert_false(address_equal(&a, &b));
    assert_false(address_equal(&a, &c));
    assert_false(address_equal(&a, &d));
}

static void addresses_are_written_as_people_write_them(void **unused) {
    (void)unused;
    char text[ADDRESS_TEXT_SIZE];
    struct record_address v4 = inet("0.0.0.0", 80), v6 = inet6("::1", 3000, false);
    assert_string_equal(address_text(&v4, text, sizeof text), "0.0.0.0:80");
    assert_string_equal(address_text(&v6, text, sizeof text), "[::1]:3000");
    v4.type = SOCK_DGRAM;
    assert_string_equal(address_text(&v4, text, sizeof text), "udp 0.0.0.0:80");
}

static void unix_addresses_are_paths_or_abstract_names(void **unused) {
    (void)unused;
    char text[ADDRESS_TEXT_SIZE];
    struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "/run/app.sock"};
    struct record_address out;
    assert_int_equal(address_from(&out, (struct sockaddr *)&at, sizeof at, SOCK_STREAM, false), 0);
    assert_string_equal(address_text(&out, text, sizeof text), "/run/app.sock");
    assert_int_equal(address_port(&out), -1);
    memcpy(at.sun_path, "\0app", 4);
    assert_int_equal(address_from(&out, (struct sockaddr *)&at, offsetof(struct sockaddr_un, sun_path) + 4, SOCK_STREAM, false), 0);
    assert_string_equal(address_text(&out, text, sizeof text), "@app");
}

static void short_long_and_foreign_addresses_are_refused(void **unused) {
    (void)unused;
    struct sockaddr_storage at = {.ss_family = AF_INET};
    struct record_address out;
    for (socklen_t len = 0; len < sizeof(struct sockaddr_in); len++)
        assert_int_not_equal(address_from(&out, (struct sockaddr *)&at, len, SOCK_STREAM, false), 0);
    at.ss_family = AF_INET6;
    for (socklen_t len = 0; len < sizeof(struct sockaddr_in6); len++)
        assert_int_not_equal(address_from(&out, (struct sockaddr *)&at, len, SOCK_STREAM, false), 0);
    at.ss_family = AF_PACKET;
    assert_int_not_equal(address_from(&out, (struct sockaddr *)&at, sizeof at, SOCK_STREAM, false), 0);
    at.ss_family = AF_INET;
    assert_int_not_equal(address_from(&out, (struct sockaddr *)&at, sizeof at + 1, SOCK_STREAM, false), 0);
}

static void the_key_of_an_open_socket_is_that_of_its_bind(void **unused) {
    (void)unused;
    struct record_address wanted = inet("127.0.0.1", 0), got;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, &wanted.at.any, wanted.len), 0);
    assert_int_equal(address_of_socket(&got, fd), 0);
    address_set_port(&wanted, address_port(&got));
    assert_true(address_equal(&wanted, &got));
    close(fd);
}

static void multicast_is_recognised(void **unused) {
    (void)unused;
    struct record_address a = inet("224.0.0.251", 5353), b = inet6("ff02::fb", 5353, false), c = inet("127.0.0.1", 5353);
    assert_true(address_is_multicast(&a));
    assert_true(address_is_multicast(&b));
    assert_false(address_is_multicast(&c));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_address_is_the_same_key_whatever_its_padding),
        cmocka_unit_test(a_dual_stack_socket_is_another_key_than_one_for_ipv6_alone),
        cmocka_unit_test(port_host_and_family_tell_addresses_apart),
        cmocka_unit_test(addresses_are_written_as_people_write_them),
        cmocka_unit_test(unix_addresses_are_paths_or_abstract_names),
        cmocka_unit_test(short_long_and_foreign_addresses_are_refused),
        cmocka_unit_test(the_key_of_an_open_socket_is_that_of_its_bind),
        cmocka_unit_test(multicast_is_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

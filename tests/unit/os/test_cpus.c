// SPDX-License-Identifier: MIT
// Recorded trees (trees/CASE/proc/self/{cgroup,mountinfo} and trees/CASE/sys/fs/cgroup) against what they allow.
#include "cpus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define CGROUP "/sys/fs/cgroup"

static int smaller(int a, int b) { return b > 0 && b < a ? b : a; }

// `count` depends on this machine as well, so it is compared with what the parts allow.
static void check(const char *tree, double quota, const char *quota_source, int cpuset, const char *cpuset_source) {
    char root[512], proc[600];
    snprintf(root, sizeof root, "%s/%s", TREES, tree);
    snprintf(proc, sizeof proc, "%s/proc", root);
    struct cpus cpus;
    cpus_read(&cpus, proc, root);
    assert_true(cpus.quota > quota - 1e-9 && cpus.quota < quota + 1e-9);
    assert_string_equal(cpus.quota_source, quota_source);
    assert_int_equal(cpus.cpuset, cpuset);
    assert_string_equal(cpus.cpuset_source, cpuset_source);
    int rounded = (int)(quota + 0.999);
    assert_int_equal(cpus.count, smaller(smaller(smaller(cpus.online, cpus.affinity), cpuset), rounded));
}

static void a_v2_host_without_limit_has_no_quota(void **state) {
    (void)state;
    check("v2_host", CPUS_NO_LIMIT, "", 8, CGROUP "/cpuset.cpus.effective");
}

static void a_v2_container_has_the_quota_of_cpu_max(void **state) {
    (void)state;
    check("v2_docker", 1.5, CGROUP "/cpu.max", 4, CGROUP "/cpuset.cpus.effective");
}

static void a_smaller_quota_of_a_parent_wins(void **state) {
    (void)state;
    check("v2_nested", 1.2, CGROUP "/machine.slice/cpu.max", 4, CGROUP "/machine.slice/web.service/cpuset.cpus.effective");
    check("v1_nested", 1.5, CGROUP "/cpu/a/cpu.cfs_quota_us", 0, "");
}

static void the_part_of_the_path_above_the_mount_is_cut_off(void **state) {
    (void)state;
    check("v2_mount_root", 2.5, CGROUP "/cpu.max", 0, "");
}

static void a_cgroup_above_the_namespace_is_found_where_the_mount_shows_it(void **state) {
    (void)state;
    check("v2_namespace_same_ancestor", 0.7, CGROUP "/cpu.max", 0, "");
    check("v2_namespace_sibling_in_sight", 0.6, CGROUP "/sibling/cpu.max", 0, "");
}

static void a_mount_that_begins_above_the_namespace_limits_by_its_root(void **state) {
    (void)state;
    check("v2_namespace_mount_above", 3.5, CGROUP "/cpu.max", 0, "");
}

static void a_cgroup_out_of_sight_does_not_limit(void **state) {
    (void)state;
    check("v2_namespace_out_of_sight", CPUS_NO_LIMIT, "", 0, "");
}

static void a_v1_container_has_half_a_processor_and_counts_one(void **state) {
    (void)state;
    check("v1_docker", 0.5, CGROUP "/cpu,cpuacct/cpu.cfs_quota_us", 3, CGROUP "/cpuset/cpuset.effective_cpus");
}

static void a_v1_quota_of_minus_one_is_none(void **state) {
    (void)state;
    check("v1_no_quota", CPUS_NO_LIMIT, "", 0, "");
}

static void a_hybrid_reads_each_controller_where_it_is(void **state) {
    (void)state;
    check("hybrid", CPUS_NO_LIMIT, "", 2, CGROUP "/cpuset/cpuset.effective_cpus");
}

static void an_empty_v1_cpuset_takes_its_parents(void **state) {
    (void)state;
    check("cpuset_with_a_gap", CPUS_NO_LIMIT, "", 3, CGROUP "/cpuset/jobs/cpuset.cpus");
}

static void malformed_files_do_not_limit(void **state) {
    (void)state;
    check("malformed", CPUS_NO_LIMIT, "", 0, "");
    check("zero_period", CPUS_NO_LIMIT, "", 0, "");
}

static void missing_files_do_not_limit(void **state) {
    (void)state;
    check("no_mountinfo", CPUS_NO_LIMIT, "", 0, "");
    check("no_files", CPUS_NO_LIMIT, "", 0, "");
    check("no_such_tree", CPUS_NO_LIMIT, "", 0, "");
}

static void a_deep_kubernetes_path_is_read_and_its_source_keeps_the_end(void **state) {
    (void)state;
    struct cpus cpus;
    cpus_read(&cpus, TREES "/kubernetes/proc", TREES "/kubernetes");
    assert_true(cpus.quota > 2.09 && cpus.quota < 2.11);
    assert_int_equal(cpus.cpuset, 64);
    assert_int_equal(strlen(cpus.quota_source), CPUS_SOURCE_SIZE - 1);
    assert_memory_equal(cpus.quota_source, "...", 3);
    assert_non_null(strstr(cpus.quota_source, "abcdef.scope/cpu.max"));
}

static void escapes_in_a_mount_point_are_undone(void **state) {
    (void)state;
    check("escaped_mount_point", 1.3, "/sys/fs/my c\\g\\12/app/cpu.max", 0, "");
}

static void a_line_too_long_to_hold_is_left_out(void **state) {
    (void)state;
    check("long_overlay_line", 1.4, CGROUP "/app/cpu.max", 0, "");
}

static void this_machine_counts_what_this_process_may_use(void **state) {
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    CPU_SET(cpus_pick(&before, 0), &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    struct cpus cpus;
    cpus_read(&cpus, "/proc", "");
    sched_setaffinity(0, sizeof before, &before);
    assert_int_equal(cpus.affinity, 1);
    assert_int_equal(cpus.count, 1);
    assert_true(cpus.online >= CPU_COUNT(&before));
}

static bool stop_at_once(const char *dir, bool is_v2, void *arg) {
    assert_string_equal(dir, TREES "/v2_nested" CGROUP "/machine.slice/web.service/worker");
    assert_true(is_v2);
    ++*(int *)arg;
    return false;
}

static void the_walk_begins_at_the_own_cgroup_and_stops_when_told(void **state) {
    (void)state;
    int calls = 0;
    cpus_cgroup_each(TREES "/v2_nested/proc", TREES "/v2_nested", "memory", stop_at_once, &calls);
    assert_int_equal(calls, 1);
}

// By its own cgroup and those above it; a process that is gone, and a kernel that does not say, are 0.
static void throttling_of_another_process_is_counted(void **state) {
    (void)state;
    assert_int_equal(cpus_throttled(TREES "/v2_nested/proc", TREES "/v2_nested", 4711), 37);
    assert_int_equal(cpus_throttled(TREES "/v1_nested/proc", TREES "/v1_nested", 4711), 11);
    assert_int_equal(cpus_throttled(TREES "/v2_nested/proc", TREES "/v2_nested", 4712), 0);
    assert_int_equal(cpus_throttled(TREES "/no_mountinfo/proc", TREES "/no_mountinfo", getpid()), 0);
}

static void lists_of_processors_are_counted(void **state) {
    (void)state;
    static const struct {
        const char *list;
        int count;
    } cases[] = {
        {"0", 1},   {"0-3,8", 5}, {"0-1,4\n", 3},    {"0-8191", 8192}, {"1,1,0-1", 2},
        {"", 0},    {"\n", 0},    {"3-1", 0},        {"0-", 0},        {"-1", 0},
        {"0,", 0},  {"0,,1", 0},  {"0-8192", 0},     {"x", 0},         {"0-3:2/4", 0},
        {"0 1", 0}, {"0-1-2", 0}, {"4294967296", 0}, {"0\n1", 0},      {"99999999999999999999999", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) assert_int_equal(cpus_count_list(cases[i].list), cases[i].count);
}

static void picks_go_round_the_set(void **state) {
    (void)state;
    cpu_set_t set;
    CPU_ZERO(&set);
    assert_int_equal(cpus_pick(&set, 0), -1);
    CPU_SET(1, &set);
    CPU_SET(4, &set);
    CPU_SET(1023, &set);
    static const int expected[] = {1, 4, 1023, 1, 4, 1023, 1};
    for (int k = 0; k < 7; k++) assert_int_equal(cpus_pick(&set, k), expected[k]);
    assert_int_equal(cpus_pick(&set, -1), 1023);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_v2_host_without_limit_has_no_quota),
        cmocka_unit_test(a_v2_container_has_the_quota_of_cpu_max),
        cmocka_unit_test(a_smaller_quota_of_a_parent_wins),
        cmocka_unit_test(the_part_of_the_path_above_the_mount_is_cut_off),
        cmocka_unit_test(a_cgroup_above_the_namespace_is_found_where_the_mount_shows_it),
        cmocka_unit_test(a_mount_that_begins_above_the_namespace_limits_by_its_root),
        cmocka_unit_test(a_cgroup_out_of_sight_does_not_limit),
        cmocka_unit_test(a_v1_container_has_half_a_processor_and_counts_one),
        cmocka_unit_test(a_v1_quota_of_minus_one_is_none),
        cmocka_unit_test(a_hybrid_reads_each_controller_where_it_is),
        cmocka_unit_test(an_empty_v1_cpuset_takes_its_parents),
        cmocka_unit_test(malformed_files_do_not_limit),
        cmocka_unit_test(missing_files_do_not_limit),
        cmocka_unit_test(a_deep_kubernetes_path_is_read_and_its_source_keeps_the_end),
        cmocka_unit_test(escapes_in_a_mount_point_are_undone),
        cmocka_unit_test(a_line_too_long_to_hold_is_left_out),
        cmocka_unit_test(this_machine_counts_what_this_process_may_use),
        cmocka_unit_test(the_walk_begins_at_the_own_cgroup_and_stops_when_told),
        cmocka_unit_test(throttling_of_another_process_is_counted),
        cmocka_unit_test(lists_of_processors_are_counted),
        cmocka_unit_test(picks_go_round_the_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

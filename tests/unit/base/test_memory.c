#include <stdio.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "tests/unit/support.h"

struct rig {
    char *directory;
    const char *cgroup, *root;
};

static void rig_open(struct rig *rig, const char *membership)
{
    rig->directory = temp_dir_new();
    rig->cgroup = in_dir(rig->directory, "cgroup");
    rig->root = in_dir(rig->directory, "root");
    write_text(rig->cgroup, membership);
    mkdir(rig->root, 0755);
    mkdir(in_dir(rig->root, "a"), 0755);
    mkdir(in_dir(rig->root, "a/b"), 0755);
}

static void test_memory_is_limited_by_the_nearest_group_and_all_above_it(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, "3:cpu:/x\n0::/a/b\n");
    assert_int_equal(memory_limit_of(rig.cgroup, rig.root, 1000), 1000);
    write_text(in_dir(rig.root, "a/b/memory.max"), "max\n");
    assert_int_equal(memory_limit_of(rig.cgroup, rig.root, 1000), 1000);
    write_text(in_dir(rig.root, "a/memory.max"), "700\n");
    assert_int_equal(memory_limit_of(rig.cgroup, rig.root, 1000), 700);
    write_text(in_dir(rig.root, "memory.max"), "600\n");
    assert_int_equal(memory_limit_of(rig.cgroup, rig.root, 1000), 600);
    write_text(in_dir(rig.root, "a/b/memory.max"), "500\n");
    assert_int_equal(memory_limit_of(rig.cgroup, rig.root, 1000), 500);
    assert_int_equal(memory_limit_of(rig.cgroup, rig.root, 400), 400);
    assert_int_equal(memory_limit_of(rig.cgroup, rig.root, 0), 500);
    temp_dir_remove(rig.directory);
}

static void test_memory_without_groups_is_the_machine_s(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, "1:memory:/a\n");
    write_text(in_dir(rig.root, "a/memory.max"), "7\n");
    assert_int_equal(memory_limit_of(rig.cgroup, rig.root, 1000), 1000);
    assert_int_equal(memory_limit_of("/nonexistent", rig.root, 1000), 1000);
    assert_int_equal(memory_limit_of("/nonexistent", rig.root, 0), 0);
    assert_true(memory_limit() > 1 << 20);
    temp_dir_remove(rig.directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_limited_by_the_nearest_group_and_all_above_it),
        cmocka_unit_test(test_memory_without_groups_is_the_machine_s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A saved model in a temporary directory, for the tests of model/files/checkpoint.h. */
#ifndef LSTMD_TESTS_UNIT_FILES_CHECKPOINT_SUPPORT_H
#define LSTMD_TESTS_UNIT_FILES_CHECKPOINT_SUPPORT_H

#include <jansson.h>

#include "model/files/checkpoint.h"

/* A small model, its directory, and what was saved there. */
struct checkpoint_fixture {
    char *directory; /* temporary */
    char *path;      /* of the model directory in it */
    struct network network;
    struct vocabulary *vocabulary;
};
int checkpoint_setup(void **state);
int checkpoint_teardown(void **state);
#define CHECKPOINT_TEST(name) cmocka_unit_test_setup_teardown(name, checkpoint_setup, checkpoint_teardown)

extern const struct architecture small_architecture; /* the fixture's */

/* A vocabulary of the text's characters and, unless NULL, one label. */
struct vocabulary *make_character_vocabulary(const char *text, const char *label);
void make_initialised_network(struct network *network, struct architecture architecture, uint32_t vocabulary_size);

/* Saves the fixture's model again. */
void save_fixture(const struct checkpoint_fixture *f, const json_t *training, const json_t *extra);
/* Loading gives the fixture's parameters, bit for bit. */
void assert_fixture_loads(const struct checkpoint_fixture *f);

json_t *read_json_file(const char *path);
void write_json_file(const char *path, json_t *json); /* steals json */

#endif

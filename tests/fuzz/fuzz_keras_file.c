/* Reads any bytes as a whole file of Keras. `lstmd import` reads them in a process of its own, because the HDF5 library
 * may crash on them. The program must answer within its limits, with a whole model or with one sentence, and must
 * leave nothing else behind. HDF5 bytes without "model_weights" become the weights of an archive.
 *
 * libFuzzer cannot see into the other process. This file tells it the sentence. A new sentence counts as new code.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "model/files/checkpoint.h"
#include "model/interop/hdf5.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/interop/zip_support.h"

#define MAX_ANSWER ((size_t)1 << 20)
#define MAX_CUT    ((size_t)4096)

static char program[PATH_MAX];
static int home;            /* the current directory at the start */
static const char *scratch; /* a file system in memory, if there is one */

/* ---- a directory per file ---- */

static void write_whole(const char *name, const void *data, size_t size, size_t zeros)
{
    const int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    REQUIRE(fd >= 0 && write(fd, data, size) == (ssize_t)size && ftruncate(fd, (off_t)(size + zeros)) == 0);
    close(fd);
}

static void enter_directory(char directory[PATH_MAX])
{
    static const char tokens[] = "a\nb\nc\nd\ne\nf\n";
    snprintf(directory, PATH_MAX, "%s/fuzz_keras_file.XXXXXX", scratch);
    REQUIRE(mkdtemp(directory) && chdir(directory) == 0);
    write_whole("tokens", tokens, sizeof tokens - 1, 0);
}

/* Removes the expected files. Then the directory must be empty. */
static void leave_directory(const char *directory)
{
    static const char *const names[] = {
        "m/config.json", "m/vocabulary.json", "m/model.safetensors", "file", "tokens", "output", "answer"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(names[i]);
    rmdir("m");
    REQUIRE(fchdir(home) == 0 && rmdir(directory) == 0);
}

/* ---- the file ---- */

static void write_archive(const uint8_t *weights, size_t size)
{
    static unsigned char archive[ZIP_SUPPORT_MAX];
    static const char metadata[] = "{\"keras_version\": \"3.9.2\"}";
    static const char config[] =
        "{\"class_name\": \"Sequential\", \"config\": {\"layers\": ["
        "{\"class_name\": \"SimpleRNN\", \"config\": {\"name\": \"r\", \"units\": 3, \"activation\": \"linear\"}},"
        "{\"class_name\": \"Dense\", \"config\": {\"name\": \"d\", \"units\": 6, \"activation\": \"softmax\"}}]}}";
    const struct made_entry entries[] = {
        {.name = "metadata.json", .data = metadata, .size = sizeof metadata - 1},
        {.name = "config.json", .data = config, .size = sizeof config - 1},
        {.name = "model.weights.h5", .data = weights, .size = size},
    };
    write_whole("file", archive, make_zip(entries, 3, archive), 0);
}

/* lstmd refuses an HDF5 file that is shorter than it says (tests/unit/interop/test_keras.c). Zeros at the end let the
 * reader look into a file that lost a piece. */
static void write_file(const uint8_t *data, size_t size)
{
    static const char group[] = "model_weights";
    static uint8_t padded[ZIP_SUPPORT_MAX / 2];
    const bool hdf5 = hdf5_recognise(data, size) && size + MAX_CUT <= sizeof padded;
    if (!hdf5 || memmem(data, size, group, sizeof group - 1)) {
        write_whole("file", data, size, hdf5 ? MAX_CUT : 0);
        return;
    }
    memcpy(padded, data, size);
    memset(padded + size, 0, MAX_CUT);
    write_archive(padded, size + MAX_CUT);
}

/* ---- the program ---- */

/* The program is beside the directory of the tests. */
static void set_up(void)
{
    static const char place[] = "../../lstmd";
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - sizeof place);
    REQUIRE(n > 0);
    program[n] = '\0';
    memcpy(strrchr(program, '/') + 1, place, sizeof place);
    REQUIRE(access(program, X_OK) == 0);
    home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(home >= 0);
    scratch = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    /* The HDF5 library leaks memory on errors. The leak ends with the process. */
    REQUIRE(setenv("ASAN_OPTIONS", "detect_leaks=0:abort_on_error=1", 1) == 0);
}

/* Returns the exit code of the program. answer: its stderr. */
static int import(void)
{
    static char *const arguments[] = {"lstmd",  "import",       "file",   "--out",         "m", "--vocabulary",
                                      "tokens", "--max-memory", "512MiB", "--max-seconds", "2", NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status;
    REQUIRE(posix_spawn_file_actions_init(&actions) == 0);
    REQUIRE(posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "output", O_WRONLY | O_CREAT, 0600) == 0);
    REQUIRE(posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "answer", O_WRONLY | O_CREAT, 0600) == 0);
    REQUIRE(posix_spawn(&child, program, &actions, NULL, arguments, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR); /* libFuzzer's clock */
    REQUIRE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void check_model(void)
{
    struct model model;
    struct error err = {0};
    REQUIRE(model_load(&model, "m", &err));
    model_close(&model);
}

/* Tells whether a sanitizer's report comes from the library. The first known name in the list of callers decides. */
static bool is_of_the_library(const char *report)
{
    const char *library = strstr(report, " H5"), *ours = strstr(report, "model/interop");
    return library && (!ours || library < ours);
}

/* Tells libFuzzer the sentence. Sentences that differ only in numbers are equal. */
static void count_sentence(const char *text)
{
    __attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[4096];
    uint32_t sum = 2166136261u; /* FNV-1a */
    for (; *text; text++)
        if (*text < '0' || *text > '9') sum = (sum ^ (unsigned char)*text) * 16777619u;
    counters[sum % sizeof counters] = 1;
}

/* Checks for one sentence. Only a sanitizer's report on the library may come before it. */
static void check_refusal(char *answer, size_t n)
{
    const char *report = strstr(answer, "Sanitizer: ");
    REQUIRE(n > 0 && answer[n - 1] == '\n' && !strstr(answer, "runtime error: "));
    answer[n - 1] = '\0';
    if (report) {
        REQUIRE(is_of_the_library(report));
        answer = strrchr(answer, '\n') + 1;
    }
    REQUIRE(strncmp(answer, "lstmd: ", 7) == 0 && !strchr(answer, '\n'));
    REQUIRE(access("m", F_OK) != 0);
    count_sentence(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char directory[PATH_MAX], *answer;
    size_t n;
    if (program[0] == '\0') set_up();
    enter_directory(directory);
    write_file(data, size);
    const int code = import();
    REQUIRE(file_read("answer", MAX_ANSWER, &answer, &n, NULL));
    REQUIRE(code == 0 || code == 1);
    if (code == 0)
        check_model();
    else
        check_refusal(answer, n);
    free(answer);
    leave_directory(directory);
    return 0;
}

/* lstmd import: makes a model directory from a model that another program saved.
 *
 * A forked process in a sandbox reads the file, because third-party parsers read untrusted bytes there. The sandbox
 * lets it write only to an aside directory of --out. This process then reads that directory strictly and publishes it.
 */
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sandbox.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/inspect.h"
#include "model/files/checkpoint.h"
#include "model/interop/import.h"

#ifndef __has_feature /* clang's way of saying what gcc defines */
#define __has_feature(feature) 0
#endif
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ || __has_feature(address_sanitizer) ||                 \
    __has_feature(thread_sanitizer)
#define LIMIT_MEMORY false /* sanitizers take terabytes of address space */
#else
#define LIMIT_MEMORY true
#endif
#define LOOK_NS    100000000            /* how often the size of the output is checked */
#define MIN_MEMORY ((uint64_t)64 << 20) /* the program and its libraries take half of it */

struct flags {
    const char *file, *out, *vocabulary, *vocabulary_from_text, *architecture, *weights;
    int vocabulary_order, token_level, activation, sandbox;
    bool lower, scaled_ids;
    int64_t window;
    uint64_t max_memory;
    double max_seconds;
};

static const char *const orders[] = {"sorted", "frequency", NULL};
static const char *const levels[] = {"auto", "char", "word", NULL};
static const char *const activations[] = {"auto", "tanh", "relu", NULL};
static const enum activation activation_of[] = {ACTIVATION_DEFAULT, ACTIVATION_TANH, ACTIVATION_RELU};

static const struct option rows[] = {
    {"file", OPTION_TEXT, offsetof(struct flags, file), NULL, 1, 4095, NULL, NULL, "The file to read."},
    {"out", OPTION_TEXT, offsetof(struct flags, out), NULL, 1, 4095, NULL, NULL,
     "The model directory to write; lstmd replaces an existing model."},
    {"vocabulary", OPTION_TEXT, offsetof(struct flags, vocabulary), NULL, 1, 4095, NULL, NULL,
     "The tokens by id: a Keras Tokenizer, a list or a map, as JSON or pickle, or a text with a token per line."},
    {"vocabulary_from_text", OPTION_TEXT, offsetof(struct flags, vocabulary_from_text), NULL, 1, 4095, NULL, NULL,
     "The training text of the model; lstmd numbers its tokens again."},
    {"vocabulary_order", OPTION_CHOICE, offsetof(struct flags, vocabulary_order), "sorted", 0, 0, orders, NULL,
     "How that text's tokens were numbered: sorted(set(text)), or by frequency from 1 (Keras Tokenizer)."},
    {"lower", OPTION_BOOL, offsetof(struct flags, lower), "false", 0, 0, NULL, NULL,
     "Training converted that text to lower case first."},
    {"token_level", OPTION_CHOICE, offsetof(struct flags, token_level), "auto", 0, 0, levels, NULL,
     "Unit of a token; auto: char if every token of the vocabulary is one character, else word."},
    {"architecture", OPTION_TEXT, offsetof(struct flags, architecture), NULL, 1, 4095, NULL, NULL,
     "The result of Keras's model.to_json(), for a file of save_weights()."},
    {"weights", OPTION_TEXT, offsetof(struct flags, weights), NULL, 1, 4095, NULL, NULL,
     "The weights of a TensorFlow.js model; FILE is its model.json. Join several shards into one file first."},
    {"scaled_ids", OPTION_BOOL, offsetof(struct flags, scaled_ids), "false", 0, 0, NULL, NULL,
     "A step's input is one number, the token's id divided by the number of tokens."},
    {"window", OPTION_INT, offsetof(struct flags, window), "0", 0, NETWORK_MAX_WINDOW, NULL, "tokens",
     "Predict every token from a window of the last N tokens, as in training; 0: carry the state on."},
    {"activation", OPTION_CHOICE, offsetof(struct flags, activation), "auto", 0, 0, activations, NULL,
     "Activation of nn.RNN, which a state_dict does not name; auto: the file's activation, else tanh."},
    {"max_memory", OPTION_SIZE, offsetof(struct flags, max_memory), "0", 0, 1e14, NULL, "bytes",
     "Most memory (address space) of the import, and most bytes that it writes; above that it fails. Use it for files "
     "of strangers. 64MiB or more; 0: no limit."},
    {"max_seconds", OPTION_REAL, offsetof(struct flags, max_seconds), "0", 0, 86400, NULL, "s",
     "Most processor time of the import; 0: no limit."},
    {"sandbox", OPTION_CHOICE, offsetof(struct flags, sandbox), "auto", 0, 0, sandbox_choices, NULL,
     "Reads the file without access to network, programs and other files; auto: as far as the kernel allows it."},
};

static const struct command_line line = {
    .usage = "lstmd import FILE --out DIR [--vocabulary FILE | --vocabulary-from-text FILE] [flags]",
    .description =
        "Makes a model directory from a file of Keras (.h5, .keras; also TensorFlow.js) or PyTorch (.pt, .pth,\n"
        ".safetensors), or says why the model would not give the same probabilities. lstmd recognises the kind of\n"
        "file by its content, and runs no code of the file. Without --vocabulary it uses a vocabulary in the file\n"
        "itself (tokens, char2int, ...).",
    .table = {rows, sizeof rows / sizeof rows[0], NULL, NULL},
    .operands = (const char *const[]){"file", NULL},
    .required = (const char *const[]){"file", "out", NULL},
};

static bool check_flags(const struct flags *flags, struct error *err)
{
    if (flags->vocabulary && flags->vocabulary_from_text)
        return error_set(err, ERROR_USAGE, "--vocabulary and --vocabulary-from-text exclude each other");
    if (!flags->vocabulary_from_text && (flags->lower || flags->vocabulary_order != INTEROP_ORDER_SORTED))
        return error_set(err, ERROR_USAGE, "--lower and --vocabulary-order belong to --vocabulary-from-text");
    return true;
}

static bool set_limit(int resource, uint64_t most, const char *flag, struct error *err)
{
    const struct rlimit limit = {most, most + 1}; /* one more: SIGXCPU, which says why, comes before SIGKILL */
    if (most == 0 || setrlimit((__rlimit_resource_t)resource, &limit) == 0) return true;
    return error_set_errno(err, errno, "could not set the limit of --%s", flag);
}

/* Lets the system limit the libraries' parsers: lstmd cannot count what they use. */
static bool set_limits(const struct flags *flags, struct error *err)
{
    if (flags->max_memory > 0 && flags->max_memory < MIN_MEMORY)
        return error_set(err, ERROR_USAGE, "--max-memory must be 64MiB or more (or 0: no limit)");
    /* No output file is larger than the memory it comes from. */
    return set_limit(RLIMIT_FSIZE, flags->max_memory, "max-memory", err) &&
           set_limit(RLIMIT_AS, LIMIT_MEMORY ? flags->max_memory : 0, "max-memory", err) &&
           set_limit(RLIMIT_CPU, (uint64_t)ceil(flags->max_seconds), "max-seconds", err);
}

/* ---- the process that reads ---- */

#define MADE "model" /* the name of the model in the process's own directory */

static bool enter_sandbox(const struct flags *flags, const char *aside, struct error *err)
{
    /* The C library reads /usr/lib/locale, the JSON library /dev/urandom. */
    const struct sandbox_path paths[] = {
        {flags->file, SANDBOX_READ},
        {flags->vocabulary, SANDBOX_READ},
        {flags->vocabulary_from_text, SANDBOX_READ},
        {flags->architecture, SANDBOX_READ},
        {flags->weights, SANDBOX_READ},
        {"/usr/lib/locale", SANDBOX_READ},
        {"/dev/urandom", SANDBOX_READ},
        {aside, SANDBOX_WRITE},
    };
    return flags->sandbox == SANDBOX_OFF || sandbox_enter(paths, sizeof paths / sizeof *paths, err);
}

static bool make_model(const struct flags *flags, const char *directory, struct error *err)
{
    const struct interop_options options = {
        .architecture = flags->architecture,
        .weights = flags->weights,
        .scaled_ids = flags->scaled_ids,
        .vocabulary = flags->vocabulary,
        .vocabulary_text = flags->vocabulary_from_text,
        .order = (enum interop_order)flags->vocabulary_order,
        .lower = flags->lower,
        .level = (enum interop_level)flags->token_level,
        .window = (uint32_t)flags->window,
        .rnn_activation = activation_of[flags->activation],
    };
    const char *slash = strrchr(flags->file, '/');
    return interop_import(flags->file, slash ? slash + 1 : flags->file, &options, directory, NULL, err);
}

/* Runs in the forked process and returns its exit code. The process dies with its parent. */
static int read_apart(const struct flags *flags, const struct directory_publish *scratch, const char *made,
                      pid_t parent)
{
    struct error err = {0}, lacking = {0};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) return 1;
    const bool complete = enter_sandbox(flags, scratch->aside, &lacking);
    if (!complete && flags->sandbox == SANDBOX_REQUIRE) {
        error_add_context(&lacking, "there is no sandbox to read a stranger's file in");
        return command_fail(&lacking);
    }
    if (!make_model(flags, made, &err)) return command_fail(&err);
    if (!complete) fprintf(stderr, "note: " SANDBOX_LACKING ": %s\n", lacking.message);
    return 0;
}

#define MADE_TO_HARM "the file is damaged, or made to do harm"

/* Explains the signal that ended the process. */
static bool explain_signal(const struct flags *flags, int number, struct error *err)
{
    if (number == SIGXCPU)
        return error_set(err, ERROR_TOO_LARGE,
                         "%s: reading it took more than %g s of the processor, the limit of "
                         "--max-seconds",
                         flags->file, flags->max_seconds);
    return error_set(err, ERROR_CORRUPT, "%s: the process that read it died (%s): " MADE_TO_HARM, flags->file,
                     strsignal(number));
}

/* ---- how much it writes ---- */

static uint64_t written; /* bytes; a static, because nftw() passes no context to its function */

static int add_size(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)path, (void)place;
    if (type == FTW_F) written += (uint64_t)info->st_blocks * 512;
    return 0;
}

static bool writes_too_much(const char *directory, uint64_t most)
{
    written = 0;
    return most > 0 && nftw(directory, add_size, 16, FTW_PHYS) == 0 && written > most;
}

/* Waits for the end of the reading process and checks how much it writes in total: the system limits only single files.
 * SIGCHLD is blocked. False: it wrote too much and was killed. */
static bool wait_for(pid_t child, int *status, const char *directory, uint64_t most)
{
    const struct timespec look = {.tv_nsec = LOOK_NS};
    bool good = true;
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    for (pid_t waited = 0; waited == 0 || (waited < 0 && errno == EINTR);) {
        waited = waitpid(child, status, WNOHANG);
        if (waited == 0 && good && writes_too_much(directory, most)) good = kill(child, SIGKILL) != 0;
        if (waited == 0) sigtimedwait(&ended, NULL, &look);
    }
    return good && !writes_too_much(directory, most);
}

/* The exit code of the reading process: 0, or 1 after it has said why. In that process *apart is true. */
static bool read_file(const struct flags *flags, const struct directory_publish *scratch, const char *made, bool *apart,
                      int *exit_code, struct error *err)
{
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, NULL); /* for wait_for() */
    const pid_t parent = getpid(), child = fork();
    int status = 0;
    if (child < 0) return error_set_errno(err, errno, "could not start a process to read %s", flags->file);
    *apart = child == 0;
    if (*apart) {
        *exit_code = read_apart(flags, scratch, made, parent);
        return true;
    }
    if (!wait_for(child, &status, scratch->aside, flags->max_memory))
        return error_set(err, ERROR_TOO_LARGE,
                         "%s: reading it wrote more than %" PRIu64 " bytes, the limit of --max-memory", flags->file,
                         flags->max_memory);
    if (WIFSIGNALED(status)) return explain_signal(flags, WTERMSIG(status), err);
    *exit_code = WEXITSTATUS(status);
    if (*exit_code <= 1) return true;
    return error_set(err, ERROR_CORRUPT, "%s: the process that read it ended with the exit code %d: " MADE_TO_HARM,
                     flags->file, *exit_code);
}

/* ---- the process that publishes ---- */

/* Reports a broken result without details: lstmd's own code leaves a sound model or fails, so somebody else took over
 * the reading process. */
static bool refuse_made(const struct flags *flags, enum error_code problem, struct error *err)
{
    if (problem == ERROR_NO_MEMORY)
        return error_set(err, problem, "%s: out of memory for what was made of it", flags->file);
    return error_set(err, ERROR_CORRUPT, "%s: the process that read it left no sound model: " MADE_TO_HARM,
                     flags->file);
}

/* Reads the result as strictly as every model before it is published. */
static bool import_publish(const struct flags *flags, const char *made, struct error *err)
{
    struct model model;
    struct error problem = {0};
    const bool sound = model_load(&model, made, &problem);
    model_close(&model);
    if (!sound) return refuse_made(flags, problem.code, err);
    const bool replaces = access(flags->out, F_OK) == 0;
    return checkpoint_copy(made, flags->out, err) && command_note_replaced(flags->out, replaces);
}

static bool print_imported(const char *directory, struct error *err)
{
    struct model model;
    size_t i;
    const json_t *note;
    const bool ok = model_load(&model, directory, err) && inspect_print(&model, false, err);
    const json_t *imported = ok ? json_object_get(json_object_get(model.config, "training"), "imported") : NULL;
    json_array_foreach(json_object_get(imported, "notes"), i, note)
        fprintf(stderr, "note: %s\n", json_string_value(note));
    model_close(&model);
    return ok;
}

static bool import_run(const struct flags *flags, int *exit_code, struct error *err)
{
    struct directory_publish scratch;
    bool apart = false;
    if (!check_flags(flags, err) || !set_limits(flags, err)) return false;
    command_make_parent(flags->out);
    if (!directory_publish_begin(&scratch, flags->out, err)) return false;
    char *made = path_join(scratch.aside, MADE, err);
    bool ok = made && read_file(flags, &scratch, made, &apart, exit_code, err);
    if (ok && !apart && *exit_code == 0) ok = import_publish(flags, made, err) && print_imported(flags->out, err);
    free(made);
    if (apart)
        directory_publish_leave(&scratch);
    else
        directory_publish_abort(&scratch);
    return ok;
}

int cmd_import(int argc, char **argv)
{
    struct arena arena = {0};
    struct flags flags;
    int exit_code;
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        struct error err = {0};
        if (!import_run(&flags, &exit_code, &err)) exit_code = command_fail(&err);
    }
    arena_free(&arena);
    return exit_code;
}

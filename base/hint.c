#include "base/hint.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/distance.h"

enum {
    RANK_SAME,    /* the same name */
    RANK_SYNONYM, /* another word for it */
    RANK_NEAR,    /* few letters differ; one more for each of these */
};

/* One line: words for one thing, ours and those of other programs (OpenAI, llama.cpp, Ollama, char-rnn, Keras, PyTorch
 * Lightning), in the form that is compared. */
#define SYNONYMS_MAX 12
static const char *const synonyms[][SYNONYMS_MAX] = {
    {"length", "maxtokens", "maxnewtokens", "maxcompletiontokens", "npredict", "numpredict", "maxlength", "numtokens"},
    {"prompt", "text", "input", "inputs", "messages", "query", "primetext", "starttext", "content"},
    {"n", "numreturnsequences", "numsamples", "numcompletions"},
    {"stop", "stopsequences", "stopstrings", "stoppingstrings", "stoptokens"},
    {"logprobs", "toplogprobs", "nprobs"},
    {"temperature", "temp", "randomness"},
    {"repetitionpenalty", "repeatpenalty"},
    {"repetitionwindow", "repeatlastn"},
    {"ignoreeos", "ignoreeostoken"},
    {"minlength", "mintokens", "minnewtokens"},
    {"includestop", "includestopstrinoutput"},
    {"logitbias", "bias", "tokenbias"},
    {"cacheprompt", "cache", "usecache"},
    {"stream", "streaming"},
    {"session", "sessionid", "conversation", "conversationid"},
    {"model", "modelname", "modelid", "modelpath", "path"},
    {"regex", "guidedregex", "grammar", "pattern", "guidedgrammar"},
    {"choices", "guidedchoice"},
    {"seed", "randomseed", "randomstate", "manualseed"},
    {"lr", "learningrate", "stepsize", "baselr", "initiallr"},
    {"hidden", "rnnsize", "hiddensize", "hiddenunits", "hiddendim", "units", "numunits", "nhidden", "nhid", "lstmsize"},
    {"layers", "numlayers", "nlayers", "nlayer", "depth"},
    {"embedding", "embeddingsize", "embeddingdim", "embsize", "embdim", "embedsize", "wordvecsize", "emsize"},
    {"bptt", "seqlength", "seqlen", "sequencelength", "maxseqlen", "blocksize", "timesteps", "unroll", "contextlength"},
    {"batch", "batchsize", "bs", "minibatch"},
    {"epochs", "maxepochs", "numepochs", "nepochs", "numtrainepochs"},
    {"validation", "valfrac", "validationsplit", "valsplit", "validfrac", "validationfraction", "valfraction"},
    {"validationdata", "valdata", "validdata", "validationfile", "evaldata", "validation", "validationset"},
    {"validateevery", "evalevery", "evalvalevery", "valinterval", "evalinterval"},
    {"clip", "gradclip", "gradientclip", "clipnorm", "maxgradnorm", "gradientclipval"},
    {"dropout", "drop", "droprate", "dropoutprob", "dropoutrate"},
    {"cell", "rnntype", "celltype", "rnn"},
    {"optimizer", "optim", "optimiser"},
    {"rmsdecay", "decayrate"},
    {"decayfactor", "lrdecay", "learningratedecay", "gamma"},
    {"decayevery", "lrdecayevery", "learningratedecayafter"},
    {"minimumrate", "minlr", "minlearningrate", "etamin"},
    {"warmup", "warmupsteps", "lrwarmup"},
    {"patience", "earlystopping", "earlystoppingpatience"},
    {"maxvocabulary", "vocabsize", "maxvocab", "vocabularysize", "numwords", "maxvocabsize"},
    {"mincount", "minfrequency", "minfreq"},
    {"tieweights", "tied", "tie", "tieembeddings"},
    {"threads", "numthreads", "nthreads", "workers", "numworkers"},
    {"data", "datadir", "dataset", "corpus", "traindata", "trainfile", "inputtxt", "input", "inputfile", "textfile"},
    {"out", "output", "outputdir", "savedir", "checkpointdir", "outdir", "modeldir"},
    {"initfrom", "pretrained", "finetune", "warmstart"},
    {"resume", "restore", "continue", "resumefrom"},
    {"listen", "host", "bind", "address"},
    {"generate", "sample", "complete"},
    {"eval", "evaluate", "evaluation", "test"},
    {"serve", "server", "run", "start", "daemon"},
    {"inspect", "info", "show", "describe"},
    {"import", "convert"},
};

/* Names of things that lstmd does not have in any form. */
#define ABSENT_NAMES_MAX 10
static const struct {
    const char *names[ABSENT_NAMES_MAX], *remark;
} absent[] = {
    {{"gpu", "gpus", "device", "cuda", "gpuid", "usegpu", "numgpus", "ngpulayers", "gpuindex"},
     "lstmd computes on the processor alone; there is no GPU to choose"},
    {{"tools", "toolchoice", "functions", "functioncall", "responseformat"},
     "lstmd continues texts; it calls no tools and follows no format"},
    {{"/v1/chat/completions", "/v1/chat", "/chat/completions", "/chat", "/api/chat", "/v1/messages", "/v1/responses"},
     "lstmd does not chat; POST /v1/completions continues a prompt"},
};

/* Writes the name in lower case, without "-", "_" and ".". */
static void hint_fold(const char *name, size_t n, char out[HINT_NAME_SIZE])
{
    size_t size = 0;
    for (size_t i = 0; i < n && name[i] && size < HINT_NAME_SIZE - 1; i++)
        if (!strchr("-_. ", name[i])) out[size++] = (char)tolower((unsigned char)name[i]);
    out[size] = '\0';
}

static bool is_among(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count && names[i]; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

static bool are_synonyms(const char *a, const char *b)
{
    for (size_t i = 0; i < sizeof synonyms / sizeof *synonyms; i++)
        if (is_among(synonyms[i], SYNONYMS_MAX, a) && is_among(synonyms[i], SYNONYMS_MAX, b)) return true;
    return false;
}

void hint_begin(struct hint *hint, const char *typed)
{
    *hint = (struct hint){.rank = SIZE_MAX};
    hint_fold(typed, strlen(typed), hint->typed);
    for (size_t i = 0; i < sizeof absent / sizeof *absent && !hint->remark; i++)
        if (is_among(absent[i].names, ABSENT_NAMES_MAX, hint->typed)) hint->remark = absent[i].remark;
}

/* How near the name is to the typed one; SIZE_MAX: not near. */
static size_t rank_of(const char *typed, const char *name)
{
    const size_t distance = text_distance(typed, name), letters = strlen(typed);
    if (letters == 0) return SIZE_MAX;
    if (distance == 0) return RANK_SAME;
    if (are_synonyms(typed, name)) return RANK_SYNONYM;
    return distance < letters && distance <= (letters > 3 ? letters / 3 : 1) ? RANK_NEAR + distance : SIZE_MAX;
}

void hint_try(struct hint *hint, const char *name)
{
    char section[HINT_NAME_SIZE], last[HINT_NAME_SIZE], whole[HINT_NAME_SIZE];
    const char *dot = strrchr(name, '.');
    hint_fold(name, dot ? (size_t)(dot - name) : 0, section);
    hint_fold(dot ? dot + 1 : name, SIZE_MAX, last);
    hint_fold(name, SIZE_MAX, whole);
    const size_t n = strlen(section);
    size_t rank;
    if (n > 0 && strncmp(hint->typed, section, n) == 0) { /* the section is right: compare only the rest */
        rank = rank_of(hint->typed + n, last);
    } else {
        rank = rank_of(hint->typed, whole);
        const size_t alone = dot ? rank_of(hint->typed, last) : SIZE_MAX;
        if (alone < rank) rank = alone + 1;
    }
    if (rank >= hint->rank) return;
    hint->rank = rank;
    hint->found = name;
}

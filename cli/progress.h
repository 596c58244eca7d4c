/* Shows a training run: on a terminal one line that is redrawn, otherwise a plain line every few seconds. Validations,
 * samples and notes have lines of their own. All output goes to one stream, standard error.
 */
#ifndef LSTMD_CLI_PROGRESS_H
#define LSTMD_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "model/train/trainer.h"

struct progress {
    FILE *out;
    bool terminal;
    bool drawn;             /* the last line on the terminal is the bar */
    double told_seconds;    /* the run's time at the last plain line */
    uint64_t samples_epoch; /* the epoch whose samples have their heading */
};

void progress_open(struct progress *progress, FILE *out);
void progress_note(struct progress *progress, const char *text);
void progress_show(struct progress *progress, const struct trainer_progress *now);
void progress_validation(struct progress *progress, const struct trainer_validation *validation);
void progress_sample(struct progress *progress, const struct trainer_sample *sample);
/* Leaves the cursor at the start of an empty line. */
void progress_close(struct progress *progress);

/* The line with the bar, at most `width` columns: the least important pieces are left out first. Returns its length. */
size_t progress_bar(const struct trainer_progress *now, size_t width, char *line, size_t size);

#endif

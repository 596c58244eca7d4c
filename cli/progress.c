#include "cli/progress.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/utf8.h"

#define PLAIN_SECONDS   5.0
#define DEFAULT_COLUMNS 80
#define MAX_COLUMNS     250
#define PIECE_SIZE      48
#define BAR_MINIMUM     10
#define BAR_MAXIMUM     40

static void format_duration(double seconds, char *out, size_t size)
{
    unsigned long s = seconds > 0 && seconds < 1e9 ? (unsigned long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(out, size, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%lu:%02lu", s / 60, s % 60);
}

static void format_speed(double speed, char *out, size_t size)
{
    if (speed >= 1e6)
        snprintf(out, size, "%.2fM chars/s", speed / 1e6);
    else if (speed >= 1e3)
        snprintf(out, size, "%.1fk chars/s", speed / 1e3);
    else
        snprintf(out, size, "%.0f chars/s", speed);
}

/* The pieces to the right of the bar, the most important first. */
#define PIECES 6
static void format_pieces(const struct trainer_progress *now, char pieces[PIECES][PIECE_SIZE])
{
    char eta[24];
    format_duration(now->eta_seconds, eta, sizeof eta);
    snprintf(pieces[0], PIECE_SIZE, "%.3f nats/char", now->nats_per_character);
    snprintf(pieces[1], PIECE_SIZE, "ETA %s", eta);
    snprintf(pieces[2], PIECE_SIZE, "%.3f bits/char", now->bits_per_character);
    format_speed(now->characters_per_second, pieces[3], PIECE_SIZE);
    snprintf(pieces[4], PIECE_SIZE, "lr %.2g", now->rate);
    snprintf(pieces[5], PIECE_SIZE, "norm %.2f", now->gradient_norm);
}

static size_t draw_bar(double fraction, size_t cells, char *out)
{
    size_t full = (size_t)(fraction * (double)cells + 0.5);
    out[0] = '[';
    for (size_t i = 0; i < cells; i++) out[1 + i] = i < full ? '#' : '.';
    out[1 + cells] = ']';
    out[2 + cells] = 0;
    return cells + 2;
}

size_t progress_bar(const struct trainer_progress *now, size_t width, char *line, size_t size)
{
    char pieces[PIECES][PIECE_SIZE], head[PIECE_SIZE], bar[BAR_MAXIMUM + 3];
    format_pieces(now, pieces);
    int n = snprintf(head, sizeof head, "epoch %llu/%llu %3.0f%%", (unsigned long long)now->epoch,
                     (unsigned long long)now->epochs, 100 * now->fraction);
    size_t used = (size_t)n, shown = 0;
    while (shown < PIECES && used + 1 + strlen(pieces[shown]) <= width) used += 1 + strlen(pieces[shown++]);
    /* Pieces after the loss and the time make room for the bar; these two stay. */
    while (shown > 2 && used + 3 + BAR_MINIMUM > width) used -= 1 + strlen(pieces[--shown]);
    size_t room = width > used + 3 ? width - used - 3 : 0, cells = room < BAR_MAXIMUM ? room : BAR_MAXIMUM;
    bar[0] = 0;
    if (cells >= BAR_MINIMUM) draw_bar(now->fraction, cells, bar);

    size_t at = (size_t)snprintf(line, size, "%s%s%s", head, bar[0] ? " " : "", bar);
    for (size_t i = 0; i < shown && at < size; i++) at += (size_t)snprintf(line + at, size - at, " %s", pieces[i]);
    if (at >= size) at = size - 1;
    if (at > width) at = width;
    line[at] = 0;
    return at;
}

/* One column stays free: a line that fills the terminal would wrap. */
static size_t progress_columns(const struct progress *progress)
{
    struct winsize window = {0};
    size_t width = DEFAULT_COLUMNS;
    if (ioctl(fileno(progress->out), TIOCGWINSZ, &window) == 0 && window.ws_col > 1) width = window.ws_col;
    return (width < MAX_COLUMNS ? width : MAX_COLUMNS) - 1;
}

static void clear_line(struct progress *progress)
{
    if (progress->drawn) fputs("\r\033[K", progress->out);
    progress->drawn = false;
}

void progress_open(struct progress *progress, FILE *out)
{
    *progress = (struct progress){.out = out, .terminal = isatty(fileno(out)) == 1};
}

void progress_note(struct progress *progress, const char *text)
{
    clear_line(progress);
    fprintf(progress->out, "%s\n", text);
    fflush(progress->out);
}

static void show_plain(struct progress *progress, const struct trainer_progress *now)
{
    char pieces[PIECES][PIECE_SIZE];
    if (now->seconds - progress->told_seconds < PLAIN_SECONDS && progress->told_seconds > 0) return;
    progress->told_seconds = now->seconds;
    format_pieces(now, pieces);
    fprintf(progress->out, "epoch %llu/%llu step %llu/%llu %.0f%%", (unsigned long long)now->epoch,
            (unsigned long long)now->epochs, (unsigned long long)now->step, (unsigned long long)now->steps,
            100 * now->fraction);
    for (size_t i = 0; i < PIECES; i++) fprintf(progress->out, ", %s", pieces[i]);
    fputc('\n', progress->out);
    fflush(progress->out);
}

void progress_show(struct progress *progress, const struct trainer_progress *now)
{
    if (!progress->terminal) {
        show_plain(progress, now);
        return;
    }
    char line[MAX_COLUMNS + 1];
    progress_bar(now, progress_columns(progress), line, sizeof line);
    fprintf(progress->out, "\r%s\033[K", line);
    fflush(progress->out);
    progress->drawn = true;
}

void progress_validation(struct progress *progress, const struct trainer_validation *validation)
{
    const struct evaluation *e = validation->evaluation;
    clear_line(progress);
    fprintf(progress->out, "epoch %llu, step %llu: %s %.4f nats/char, %.4f bits/char, perplexity %.3f",
            (unsigned long long)validation->epoch, (unsigned long long)validation->step,
            validation->held_out ? "validation" : "training", e->nats_per_character, e->bits_per_character,
            e->perplexity);
    if (validation->held_out && validation->train_nats_per_character > 0)
        fprintf(progress->out, "; training %.4f nats/char", validation->train_nats_per_character);
    fputs(validation->best ? " *best*\n" : "\n", progress->out);
    fflush(progress->out);
}

/* Writes text without characters that move the cursor or break the indentation. */
static void write_text(FILE *out, const char *text)
{
    size_t n = strlen(text);
    char *clean = malloc(3 * n + 1);
    if (!clean) return;
    n = utf8_sanitize(text, n, clean);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)clean[i];
        if (c == '\n')
            fputs("\n       ", out);
        else
            fputc(c < ' ' || c == 127 ? ' ' : c, out);
    }
    free(clean);
}

void progress_sample(struct progress *progress, const struct trainer_sample *sample)
{
    clear_line(progress);
    if (progress->samples_epoch != sample->epoch) {
        progress->samples_epoch = sample->epoch;
        fprintf(progress->out, "samples of epoch %llu, by temperature", (unsigned long long)sample->epoch);
        if (*sample->prompt) {
            fputs(", continuing:\n       ", progress->out);
            write_text(progress->out, sample->prompt);
        }
        fputc('\n', progress->out);
    }
    fprintf(progress->out, "  %3.1f: ", sample->temperature);
    write_text(progress->out, sample->text);
    fputc('\n', progress->out);
    fflush(progress->out);
}

void progress_close(struct progress *progress)
{
    clear_line(progress);
    fflush(progress->out);
}

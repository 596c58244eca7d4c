#include "cli/bench_report.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/version.h"
#include "cli/bench_limits.h"
#include "model/kernels/kernels.h"

struct bench_row *bench_report_add(struct bench_report *report, const char *name, const char *unit)
{
    if (report->count == BENCH_MAX_ROWS) return NULL;
    struct bench_row *row = &report->rows[report->count++];
    *row = (struct bench_row){.unit = unit};
    snprintf(row->name, sizeof row->name, "%s", name);
    return row;
}

/* ---- the machine ---- */

static void processor_name(char *out, size_t size)
{
    char line[256];
    snprintf(out, size, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        snprintf(out, size, "%s", colon + 1 + strspn(colon + 1, " "));
        out[strcspn(out, "\n")] = '\0';
        break;
    }
    if (file) fclose(file);
}

struct machine {
    char date[CLOCK_UTC_SIZE], processor[128], caches[96], load[16];
};

static struct machine describe_machine(const struct bench_report *report)
{
    struct machine machine;
    struct bench_level levels[BENCH_LEVELS];
    char name[96];
    bench_levels(levels);
    clock_utc_text(machine.date);
    processor_name(name, sizeof name);
    snprintf(machine.processor, sizeof machine.processor, "%s, %ld cores", name, sysconf(_SC_NPROCESSORS_ONLN));
    snprintf(machine.caches, sizeof machine.caches, "L1 %zu KiB, L2 %zu KiB, L3 %zu KiB", levels[0].cache >> 10,
             levels[1].cache >> 10, levels[2].cache >> 10);
    snprintf(machine.load, sizeof machine.load, "%.2f", report->load);
    return machine;
}

/* ---- text ---- */

static void print_number(FILE *out, double value)
{
    if (value <= 0)
        fprintf(out, " %10s", "-");
    else
        fprintf(out, value < 1000 ? " %10.1f" : " %10.0f", value);
}

static void print_row(const struct bench_report *report, const struct bench_row *row, FILE *out)
{
    const double value = bench_median(&row->values), limit = bench_median(&row->limits);
    fprintf(out, "%-40s %-8s", row->name, row->unit);
    print_number(out, value);
    fprintf(out, " %4.0f%%", 100 * bench_spread(&row->values));
    print_number(out, limit);
    if (limit > 0)
        fprintf(out, " %6.2f", bench_ratio(&row->values, &row->limits));
    else
        fprintf(out, " %6s", "-");
    for (size_t i = 0; i < report->peer_count; i++) print_number(out, bench_median(&row->peers[i]));
    fputc('\n', out);
}

void bench_report_print(const struct bench_report *report, FILE *out)
{
    const struct machine machine = describe_machine(report);
    fprintf(out, "%s, %s\n", machine.date, version_full);
    fprintf(out, "%s; %s; load before: %s\n", machine.processor, machine.caches, machine.load);
    fprintf(out, "kernels %s\n", report->kernels->name);
    for (size_t i = 0; i < report->peer_count; i++)
        fprintf(out, "%s: %s\n", report->peers[i].name, report->peers[i].description);
    fprintf(out,
            "medians of %zu repetitions and of their ratios, the limit and the peers measured in turns with lstmd\n\n",
            report->repetitions);
    fprintf(out, "%-40s %-8s %10s %5s %10s %6s", "", "unit", "value", "+-", "limit", "ratio");
    for (size_t i = 0; i < report->peer_count; i++) fprintf(out, " %10s", report->peers[i].name);
    fputc('\n', out);
    for (size_t i = 0; i < report->count; i++) print_row(report, &report->rows[i], out);
}

/* ---- JSON ---- */

static double report_round(double value)
{
    return round(value * 1e4) / 1e4;
}

static json_t *row_json(const struct bench_report *report, const struct bench_row *row)
{
    const double value = bench_median(&row->values), limit = bench_median(&row->limits);
    json_t *peers = json_object(), *ratios = json_object();
    for (size_t i = 0; i < report->peer_count; i++) {
        const double peer = bench_median(&row->peers[i]), ratio = bench_ratio(&row->values, &row->peers[i]);
        if (peer <= 0) continue;
        json_object_set_new(peers, report->peers[i].name, json_real(report_round(peer)));
        json_object_set_new(ratios, report->peers[i].name, json_real(report_round(ratio)));
    }
    return json_pack("{s:s, s:s, s:f, s:f, s:o, s:o, s:o, s:o}", "name", row->name, "unit", row->unit, "value",
                     report_round(value), "spread", report_round(bench_spread(&row->values)), "limit",
                     limit > 0 ? json_real(report_round(limit)) : json_null(), "ratio_to_limit",
                     limit > 0 ? json_real(report_round(bench_ratio(&row->values, &row->limits))) : json_null(),
                     "peers", peers, "ratio_to_peers", ratios);
}

static json_t *machine_json(const struct bench_report *report)
{
    const struct machine machine = describe_machine(report);
    json_t *peers = json_object();
    for (size_t i = 0; i < report->peer_count; i++)
        json_object_set_new(peers, report->peers[i].name, json_string(report->peers[i].description));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "date", machine.date, "version", version_full, "processor",
                     machine.processor, "caches", machine.caches, "load", machine.load, "kernels",
                     report->kernels->name, "peers", peers);
}

bool bench_report_print_json(const struct bench_report *report, FILE *out, struct error *err)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < report->count; i++) json_array_append_new(rows, row_json(report, &report->rows[i]));
    json_t *all = json_pack("{s:o, s:I, s:o}", "machine", machine_json(report), "repetitions",
                            (json_int_t)report->repetitions, "rows", rows);
    if (!all) return error_set_no_memory(err, sizeof *report, "the report");
    json_dumpf(all, out, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    fputc('\n', out);
    json_decref(all);
    return true;
}

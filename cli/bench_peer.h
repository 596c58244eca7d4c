/* A peer: another program that trains and steps the same shapes. `lstmd bench` measures both in turns.
 *
 * /bin/sh starts a peer once; for each line that it reads, it writes one line to standard output. Its first line says
 * what it is: "PyTorch 1.13.0, OpenBLAS ...";
 *   "train LAYERS HIDDEN VOCABULARY BATCH WINDOW THREADS SECONDS" -> characters per second, or "skip REASON";
 *   "step LAYERS HIDDEN VOCABULARY BATCH THREADS SECONDS" -> the same, of all sequences together, where each step draws
 *   a character per sequence at temperature 1 and feeds it back;
 *   "product N THREADS SECONDS" -> floating-point operations per second of single-precision products of N x N matrices,
 *   each thread with its own;
 *   it ends at the end of its input.
 * A peer that skips "train" is asked for products instead. Its column then says how many characters per second training
 * would reach if it consisted of these products alone.
 */
#ifndef LSTMD_CLI_BENCH_PEER_H
#define LSTMD_CLI_BENCH_PEER_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/error.h"
#include "cli/bench_tasks.h"

#define BENCH_MAX_PEERS 8

struct bench_peer {
    char name[32];
    char description[200];
    pid_t pid; /* 0: not running, or no program; bench_peer_train() and its like then give no figures */
    FILE *requests, *answers;
};

/* A column that lstmd fills itself, without a program. */
void bench_peer_name(struct bench_peer *peer, const char *name, const char *description);

/* assignment: "NAME=COMMAND". Close with bench_peer_close(), also after a failure. */
bool bench_peer_open(struct bench_peer *peer, const char *assignment, struct error *err);
void bench_peer_close(struct bench_peer *peer);

/* *rate: characters (bench_peer_product: operations) per second, or 0 if the peer has no figure for this shape. Peers
 * use float32 only. */
bool bench_peer_train(struct bench_peer *peer, const struct bench_shape *shape, size_t threads, double seconds,
                      double *rate, struct error *err);
bool bench_peer_step(struct bench_peer *peer, const struct bench_step_shape *shape, double seconds, double *rate,
                     struct error *err);
bool bench_peer_product(struct bench_peer *peer, size_t size, size_t threads, double seconds, double *rate,
                        struct error *err);

#endif

/* Constants of the vector exponential, found by a weighted minimax fit of (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2
 * (relative error of e^r below 4e-9 before rounding). Cody and Waite's two-part ln 2; n is rounded by adding 1.5 *
 * 2^23.
 */
#ifndef LSTMD_MODEL_KERNELS_CONSTANTS_H
#define LSTMD_MODEL_KERNELS_CONSTANTS_H

#define EXP_C0 0x1.fffffcp-2f
#define EXP_C1 0x1.555492p-3f
#define EXP_C2 0x1.5558f2p-5f
#define EXP_C3 0x1.1239e2p-7f
#define EXP_C4 0x1.6a2434p-10f

#define EXP_LOG2E      0x1.715476p+0f
#define EXP_LN2_HIGH   0x1.62e400p-1f /* 16 bits: n * it is exact */
#define EXP_LN2_LOW    0x1.7f7d1cp-20f
#define EXP_ROUND      0x1.8p+23f
#define EXP_ROUND_BITS 0x4B400000
#define EXP_MAXIMUM    88.0f  /* e^88 is finite */
#define EXP_MINIMUM    -87.0f /* 2^n is still normal */
#define TANH_MAXIMUM   9.1f   /* tanh rounds to 1 from here */

#endif

#include "base/version.h"

/* Both macros are given by the Makefile, for this file alone. */
const char version_number[] = LSTMD_VERSION;
const char version_revision[] = LSTMD_REVISION;
const char version_full[] = "lstmd " LSTMD_VERSION " (" LSTMD_REVISION ")";

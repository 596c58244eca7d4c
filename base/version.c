#include "base/version.h"

/* The Makefile defines both macros, for this file only. */
const char version_number[] = LSTMD_VERSION;
const char version_revision[] = LSTMD_REVISION;
const char version_full[] = "lstmd " LSTMD_VERSION " (" LSTMD_REVISION ")";

/* The program's version texts. The version is the first line of VERSION; the revision is the git commit it was built
 * from ("0e0e601", "0e0e601-dirty" with uncommitted changes) or "unknown". Only version.c is recompiled when they
 * change.
 */
#ifndef LSTMD_BASE_VERSION_H
#define LSTMD_BASE_VERSION_H

extern const char version_number[];   /* "0.1.0" */
extern const char version_revision[]; /* without spaces */
extern const char version_full[];     /* "lstmd 0.1.0 (0e0e601)" */

#endif

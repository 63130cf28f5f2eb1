/*
 * Records, for every file that the process syncs, the length that had been reached when the sync was asked for. Test-only: the harness loads
 * it into the server with LD_PRELOAD and cuts the files back to these lengths, which is what a power cut may leave of them.
 *
 * One line for each record in $SUNDIAL_SYNC_RECORD:  "N inode" a file was created or emptied,  "S inode length" a sync has completed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int record_fd = -1;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("SUNDIAL_SYNC_RECORD");
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    if (path && real_open) record_fd = real_open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void record(char kind, unsigned long long inode, long long length) {
    char line[64];
    if (record_fd < 0) return;
    int size = snprintf(line, sizeof line, "%c %llu %lld\n", kind, inode, length);
    /* A lost record only makes the cut harsher. */
    if (write(record_fd, line, (size_t)size) < 0) return;
}

static void opened(int fd, int flags) {
    struct stat at;
    if (fd < 0 || !(flags & (O_CREAT | O_TRUNC))) return;
    if (fstat(fd, &at) == 0 && S_ISREG(at.st_mode) && at.st_size == 0) record('N', at.st_ino, 0);
}

static int synced(int fd, const char *name) {
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    struct stat at;
    int regular = fstat(fd, &at) == 0 && S_ISREG(at.st_mode);
    int result = real(fd);
    if (result == 0 && regular) record('S', at.st_ino, at.st_size);
    return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }

#define OPEN(name)                                                       \
    int name(const char *path, int flags, ...) {                         \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);   \
        va_list rest;                                                    \
        va_start(rest, flags);                                           \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                    \
        int fd = real(path, flags, mode);                                \
        opened(fd, flags);                                               \
        return fd;                                                       \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                     \
    int name(int folder, const char *path, int flags, ...) {             \
        int (*real)(int, const char *, int, ...) = dlsym(RTLD_NEXT, #name); \
        va_list rest;                                                    \
        va_start(rest, flags);                                           \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                    \
        int fd = real(folder, path, flags, mode);                        \
        opened(fd, flags);                                               \
        return fd;                                                       \
    }
OPENAT(openat)
OPENAT(openat64)

/* Makes fsync and fdatasync slow, as a tired disk is: LD_PRELOAD of one process. How slow is in the file that
 * PATHGRADE_SLOW_SYNC names, in milliseconds; it is read each time, so that it can be changed meanwhile. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void wait_as_told(void)
{
    const char *path = getenv("PATHGRADE_SLOW_SYNC");
    FILE *file = path ? fopen(path, "re") : NULL;
    long ms = 0;

    if (!file)
        return;
    if (fscanf(file, "%ld", &ms) != 1)
        ms = 0;
    fclose(file);
    if (ms > 0) {
        struct timespec pause = {ms / 1000, ms % 1000 * 1000000L};
        nanosleep(&pause, NULL);
    }
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");

    wait_as_told();
    return real(fd);
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");

    wait_as_told();
    return real(fd);
}

/* For LD_PRELOAD: each binary message of a WebSocket server goes out 30 ms late. Pongs and text do not, so that the clocks'
 * offset is measured as before. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>
#include <time.h>

ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    static ssize_t (*real)(int, const void *, size_t, int);
    if (!real) real = (ssize_t(*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send");
    /* RFC 6455, 5.2: the last frame of a message, a binary one, and without a mask. */
    if (length > 1 && ((const unsigned char *)bytes)[0] == 0x82) {
        struct timespec delay = {.tv_nsec = 30000000};
        nanosleep(&delay, NULL);
    }
    return real(fd, bytes, length, flags);
}

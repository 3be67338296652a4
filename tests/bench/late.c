/* For LD_PRELOAD: each binary message of a WebSocket server goes out 30 ms late. Pongs and text do not, so that the clocks'
 * offset is measured as before. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/uio.h>
#include <time.h>

ssize_t writev(int fd, const struct iovec *parts, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real) real = (ssize_t(*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");
    /* RFC 6455, 5.2: the last frame of a message, a binary one, and without a mask. */
    if (count > 0 && parts[0].iov_len > 1 && ((const unsigned char *)parts[0].iov_base)[0] == 0x82) {
        struct timespec delay = {.tv_nsec = 30000000};
        nanosleep(&delay, NULL);
    }
    return real(fd, parts, count);
}

/* What each entry point of a library beside libcuda begins with: the call is counted and may be refused, the library is
   locked, and misuse is logged. The library has a `mutex`. */
#pragma once

#include <dlfcn.h>
#include <pthread.h>

#include "scene.h"

static int violation(const char *function, int code, const char *what) {
    scene_log("violation", "function=%s code=%d what=\"%s\"", function, code, what);
    return code;
}

#define REQUIRE(condition, code, what)                            \
    do {                                                          \
        if (!(condition)) return violation(__func__, code, what); \
    } while (0)

static void unlock(pthread_mutex_t **held) {
    pthread_mutex_unlock(*held);
}

/* Counts the call, gives `code` where no device may be seen, and locks the library until the scope ends. */
#define BEGIN_OR(code)                                                \
    int refusal;                                                      \
    if (scene_refuses(__func__, code, &refusal)) return refusal;      \
    __attribute__((cleanup(unlock), unused)) pthread_mutex_t *held = (pthread_mutex_lock(&mutex), &mutex)

static void *cuda_symbol(const char *name) {
    void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    void *symbol = library ? dlsym(library, name) : NULL;
    if (library) dlclose(library);
    return symbol;
}

/* The context that is current on this thread, or NULL. */
static void *current(void) {
    void *(*look)(void) = (void *(*)(void))cuda_symbol("standin_current_context");
    return look ? look() : NULL;
}

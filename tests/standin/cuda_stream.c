/* Streams and events: all work is done when its call returns, so they only keep their handles and times. */
#include "cuda.h"

/* The null stream, the legacy one (1) and the thread's own (2) are not handed out. */
bool is_stream(const char *function, void *stream) {
    return (uintptr_t)stream <= 2 || object_of(function, OBJECT_STREAM, stream);
}

#define WANT_EVENT(event)                                                     \
    do {                                                                      \
        if (!object_of(__func__, OBJECT_EVENT, event)) return INVALID_HANDLE; \
    } while (0)

API int cuStreamCreate(struct object **stream, unsigned flags) {
    BEGIN_IN_CONTEXT();
    if (!stream || flags > 1) return INVALID_VALUE;
    *stream = object_new(OBJECT_STREAM, context);
    return CUDA_SUCCESS;
}

API int cuStreamCreateWithPriority(struct object **stream, unsigned flags, int priority) {
    BEGIN_IN_CONTEXT();
    (void)priority;
    if (!stream || flags > 1) return INVALID_VALUE;
    *stream = object_new(OBJECT_STREAM, context);
    return CUDA_SUCCESS;
}

API int cuStreamDestroy_v2(struct object *stream) {
    BEGIN();
    struct object *object = object_of(__func__, OBJECT_STREAM, stream);
    if (!object) return INVALID_HANDLE;
    object_free(object);
    return CUDA_SUCCESS;
}

API int cuStreamSynchronize(void *stream) {
    BEGIN_IN_CONTEXT();
    WANT_STREAM(stream);
    return CUDA_SUCCESS;
}

API int cuStreamQuery(void *stream) {
    BEGIN_IN_CONTEXT();
    WANT_STREAM(stream);
    return CUDA_SUCCESS;
}

API int cuStreamIsCapturing(void *stream, int *status) {
    BEGIN_IN_CONTEXT();
    WANT_STREAM(stream);
    if (!status) return INVALID_VALUE;
    *status = 0;
    return CUDA_SUCCESS;
}

API int cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    BEGIN_IN_CONTEXT();
    (void)flags;
    WANT_STREAM(stream);
    WANT_EVENT(event);
    return CUDA_SUCCESS;
}

API int cuEventCreate(struct object **event, unsigned flags) {
    BEGIN_IN_CONTEXT();
    (void)flags;
    if (!event) return INVALID_VALUE;
    *event = object_new(OBJECT_EVENT, context);
    return CUDA_SUCCESS;
}

API int cuEventDestroy_v2(struct object *event) {
    BEGIN();
    struct object *object = object_of(__func__, OBJECT_EVENT, event);
    if (!object) return INVALID_HANDLE;
    object_free(object);
    return CUDA_SUCCESS;
}

API int cuEventRecord(struct object *event, void *stream) {
    BEGIN_IN_CONTEXT();
    WANT_STREAM(stream);
    WANT_EVENT(event);
    event->recorded_ns = clock_ns();
    return CUDA_SUCCESS;
}

API int cuEventSynchronize(void *event) {
    BEGIN();
    WANT_EVENT(event);
    return CUDA_SUCCESS;
}

API int cuEventQuery(void *event) {
    BEGIN();
    WANT_EVENT(event);
    return CUDA_SUCCESS;
}

API int cuEventElapsedTime(float *ms, struct object *from, struct object *to) {
    BEGIN();
    WANT_EVENT(from);
    WANT_EVENT(to);
    if (!ms) return INVALID_VALUE;
    if (!from->recorded_ns || !to->recorded_ns)
        return violation(__func__, INVALID_HANDLE, "an event that was not recorded");
    *ms = (float)((double)(int64_t)(to->recorded_ns - from->recorded_ns) / 1e6);
    return CUDA_SUCCESS;
}

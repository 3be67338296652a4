/* The shared core of the stand-in NVIDIA driver: the scene, the state that processes share, and the log.
 *
 * libnvidia-ml.so.1, libnvidia-encode.so.1, libnvcuvid.so.1, libcuda.so.1 and libnvjpeg.so.12 are each built with this core inside. They
 * act out the scene file that the environment variable GSK_STANDIN names; without it every entry point fails as on a host
 * whose driver has no device.
 *
 * # The scene file
 *
 * One statement a line: a word, then values and `key=value` pairs, separated by blanks. A value with blanks stands
 * in double quotes (`name="NVIDIA H200"`). `#` begins a comment. A line that is not understood ends the program
 * (abort, with file and line on standard error): a scene never means less than it says. Replace the file by rename:
 * programs that run take the new one at their next call. Boards are numbered from 0 in the order of their lines;
 * their number must stay as it is while programs run.
 *
 *     driver 550.54.14                    driver version (default 550.54.14)
 *     nvml 12.550.54.14                   NVML version (default "12." and the driver version)
 *     cuda 12040                          CUDA driver version, 1000*major + 10*minor (default 12040)
 *     nvenc-api 12.2                      newest NVENC API that the driver speaks (default 12.2); a program that asks
 *                                         for a newer one gets INVALID_VERSION (15)
 *     log FILE                            the log's path (default: the scene's path and ".log")
 *     limit 3 code=21                     encoder sessions on all `geforce` boards together, foreign ones
 *                                         included; what is beyond gets `code`: 10 or 21 (default 21). Without
 *                                         the line there is no limit.
 *     race insufficient=K                 nvmlDeviceGetEncoderSessions: each process's first K calls that fetch
 *                                         answer INSUFFICIENT_SIZE (7), whatever room they bring
 *     race fewer=N                        ... a call that fetches brings N sessions fewer than the count call said
 *     fault FUNCTION call=N code=C        the N-th call (from 1, counted in each process) of FUNCTION answers C and
 *                                         does nothing. `call=N+`: that one and all after it. FUNCTION is the
 *                                         exported name, nvEnc* as in the API's function list. With `anew=yes` calls
 *                                         are counted from when the process takes this scene up.
 *     hang FUNCTION call=N ms=M           the call blocks M milliseconds, then goes on as usual; without `ms` it
 *                                         blocks for ever. `call=N+` as for a fault.
 *     crash FUNCTION call=N               the call ends its process by SIGSEGV
 *     trace calls                         every call is logged
 *     board KEY=VALUE...                  a GPU:
 *         name="..."                        (required)
 *         uuid=GPU-...                      (default made from the number)
 *         pci=DDDDDDDD:BB:DD.F              (default made from the number)
 *         cc=MAJOR.MINOR                    compute capability (default 8.6)
 *         engines=N                         NVENC engines (default 1). With 0, opening a session answers
 *                                           UNSUPPORTED_DEVICE (2) and nvmlDeviceGetEncoderCapacity NOT_SUPPORTED (3)
 *         geforce=yes|no                    counts under `limit` (default: yes if the name has "GeForce")
 *         codecs=h264,hevc,av1              what its engines encode, as listed by nvEncGetEncodeGUIDs (default
 *                                           h264,hevc)
 *         intra-refresh=yes|no              whether its engines refresh pictures in waves (default yes)
 *         encoder-util=PERCENT decoder-util=PERCENT gpu-util=PERCENT mem-util=PERCENT   (default 0)
 *         capacity=PERCENT                  encoder capacity left, for every codec (default 100)
 *         mem-total=MIB mem-used=MIB        (default 8192 and 0) `mem-used` is what other programs use; what the
 *                                           stand-in's own programs have allocated comes on top
 *         session-mem=MIB                   memory that one encoder session takes (default 0). Where less is free,
 *                                           opening one answers OUT_OF_MEMORY (10), limit or not.
 *         encode-us=MICROSECONDS            time from nvEncEncodePicture to the picture's end, for which
 *                                           nvEncLockBitstream waits (default 0: as long as the work takes)
 *         decoders=N                        NVDEC engines (default 1); with 0, nothing is decoded
 *         decodes=h264,hevc,av1             what they decode (default h264,hevc)
 *         decode-max=WxH                    the largest picture that they decode (default 4096x4096)
 *         mig=none|off|on                   none (default): nvmlDeviceGetMigMode is NOT_SUPPORTED
 *         unsupported=FUNCTION,...          NVML calls that answer NOT_SUPPORTED (3) for this board
 *     foreign KEY=VALUE...                an encoder session of a program that is not here:
 *         board=N pid=PID                   (required; a PID of another namespace may be any number)
 *         codec=h264|hevc|av1|NUMBER        (default h264; 0, 1, 2 as numbers)
 *         size=WxH                          (default 1920x1080)
 *         fps=N latency=MICROSECONDS        (default 60 and 2000)
 *         session=ID                        (default: 1000 and the line's number)
 *     process KEY=VALUE...                a program with memory on a board:
 *         board=N pid=PID mem=MIB           (required)
 *         type=compute|graphics             (default compute)
 *
 * # What the processes share
 *
 * Open encoder sessions and CUDA contexts lie in a file beside the scene (its path and ".state"). Each entry is
 * held by its process with a record lock on one byte of a second file (".alive"), which the kernel drops when the
 * process dies in any way: such entries vanish at the next look. So a kill -9 frees a session as the real driver
 * does, a process that is dead but not yet waited for holds nothing, and a number used again is no one's heir.
 *
 * # The log
 *
 * One line an event, each one write: the event, `pid=`, then what belongs to it.
 *
 *     open pid= session= board=                                  a session is open
 *     refused pid= [board=] code= reason=limit|no-engine|memory|version
 *                                                                ... or is not
 *     initialize pid= session= codec= size=WxH fps=NUM/DEN bitrate= gop= bframes= preset= tuning= aud=
 *                refresh=FRAMES/PERIOD                           ... of intra refresh; 0/0 without
 *     reconfigure pid= session= size=WxH fps=NUM/DEN bitrate= max-bitrate= vbv= reset= idr=
 *     force-idr pid= session= frame=                             a picture that the caller asked to be an IDR
 *     end-of-stream pid= session=
 *     invalidate pid= session= timestamp=
 *     close pid= session= frames=
 *     nvjpeg-open pid=                                           a handle of libnvjpeg
 *     nvjpeg-quality | nvjpeg-huffman | nvjpeg-sampling pid= value=
 *     nvjpeg-close pid=
 *     nvdec-open pid= board= codec= size=WxH surfaces=           a decoder; its size is that of coded pictures
 *     nvdec-unread pid=                                          a picture that the stand-in does not know how to decode
 *                                                                (see nvcuvid.c), and which is grey
 *     nvdec-close pid= pictures=
 *     vanished pid= holder= session=                             the holder died; written by who notices (pid)
 *     copies pid= htod= htod-bytes= dtoh= dtoh-bytes= dtod= dtod-bytes=
 *                                                                a process that used libcuda has ended a context,
 *                                                                returns or exits: calls and bytes of its copies so
 *                                                                far from host to device, from device to host and
 *                                                                within the device. A side is what it is, not what the
 *                                                                call's name says; the arrays of OpenGL's textures are
 *                                                                device memory. To set memory is no copy. Not told
 *                                                                again while it stays the same.
 *     fault pid= function= call= code=
 *     hang pid= function= call=
 *     crash pid= function= call=
 *     call pid= function=                                        with `trace calls`
 *     violation pid= function= code= what="..."                  a call that the real driver refuses as well
 *     leak pid= kind= handle= [session=]                         a handle not given back, at the process's exit or its
 *                                                                session's or context's end. Kinds: session,
 *                                                                input-buffer, bitstream-buffer, registered-resource,
 *                                                                mapped-resource, locked-input, locked-bitstream,
 *                                                                nvml-init, context, primary-context, memory,
 *                                                                host-memory, stream, event, graphics-resource,
 *                                                                module, imported-memory, nvjpeg-handle, nvjpeg-state,
 *                                                                nvjpeg-params, nvdec-parser, nvdec-decoder,
 *                                                                nvdec-frame
 */
#ifndef STANDIN_SCENE_H
#define STANDIN_SCENE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define MIB (1024ull * 1024ull)
#define MAX_BOARDS 16
#define MAX_LINES 256 /* foreign sessions, processes and faults of one scene, each */

enum codec { CODEC_H264, CODEC_HEVC, CODEC_AV1 };
enum mig { MIG_NONE, MIG_OFF, MIG_ON };

struct board {
    char name[96], uuid[80], unsupported[1024];
    uint32_t pci_domain, pci_bus, pci_device;
    int cc_major, cc_minor;
    unsigned engines, codecs;   /* `codecs` is a set of 1 << codec */
    unsigned decoders, decodes; /* as is `decodes` */
    unsigned decode_width, decode_height;
    bool geforce, intra_refresh;
    unsigned encoder_util, decoder_util, gpu_util, mem_util, capacity;
    uint64_t mem_total, mem_used, session_mem; /* bytes */
    uint64_t encode_us;
    enum mig mig;
};

struct foreign {
    unsigned board, pid, codec, width, height, fps, latency_us, session;
};

struct process {
    unsigned board, pid;
    uint64_t mem; /* bytes */
    bool graphics;
};

struct fault {
    char function[64];
    uint64_t call, before; /* `before`: calls that do not count */
    bool onwards, hang, crash, anew;
    int code;   /* of a fault */
    int64_t ms; /* of a hang; -1 for ever */
};

struct scene {
    char driver[64], nvml[80], log[PATH_MAX];
    int cuda;
    unsigned nvenc_major, nvenc_minor;
    int64_t limit; /* -1: none */
    int limit_code;
    uint64_t race_insufficient;
    unsigned race_fewer;
    unsigned boards, foreigns, processes, faults;
    struct board board[MAX_BOARDS];
    struct foreign foreign[MAX_LINES];
    struct process process[MAX_LINES];
    struct fault fault[MAX_LINES];
    bool trace;
    const struct scene *older; /* the one that this took the place of, so that none is lost */
};

/* The scene as it is now, or NULL without GSK_STANDIN. It never changes and is never freed: when the file does,
 * there is another one. */
const struct scene *scene_now(void);

/* The scene's path, with a suffix. */
void scene_path(char path[PATH_MAX], const char *suffix);

/* Begins an entry point: counts the call, hangs if the scene says so. True: answer `*code` and do nothing else,
 * be it a fault's or `absent`, that of a host without a device. */
bool scene_refuses(const char *function, int absent, int *code);

/* One line of the log. `format` may be NULL. */
void scene_log(const char *event, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Nanoseconds of the monotonic clock, which all processes share. */
uint64_t clock_ns(void);

/* A string safely into an array; what does not fit is cut. */
void copy_text(char *into, uint64_t room, const char *text);

#endif

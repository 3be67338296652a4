/* The shared core of the stand-in NVIDIA driver: the scene, the state that processes share, and the log.
 *
 * libnvidia-ml.so.1, libnvidia-encode.so.1 and libcuda.so.1 are each built with this core inside. They act out the
 * scene file that the environment variable GSK_STANDIN names; without it every entry point fails as on a host
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
 *                                         exported name, nvEnc* as in the API's function list.
 *     hang FUNCTION call=N ms=M           the call blocks M milliseconds, then goes on as usual; without `ms` it
 *                                         blocks for ever
 *     board KEY=VALUE...                  a GPU:
 *         name="..."                        (required)
 *         uuid=GPU-...                      (default made from the number)
 *         pci=DDDDDDDD:BB:DD.F              (default made from the number)
 *         cc=MAJOR.MINOR                    compute capability (default 8.6)
 *         engines=N                         NVENC engines (default 1). With 0, opening a session answers
 *                                           UNSUPPORTED_DEVICE (2) and nvmlDeviceGetEncoderCapacity NOT_SUPPORTED (3)
 *         geforce=yes|no                    counts under `limit` (default: yes if the name has "GeForce")
 *         codecs=h264,hevc,av1              what its engines encode, as listed by nvEncGetEncodeGUIDs (default h264,hevc);
 *                                           an encoder can be initialised for h264 only
 *         encoder-util=PERCENT decoder-util=PERCENT gpu-util=PERCENT mem-util=PERCENT   (default 0)
 *         capacity=PERCENT                  encoder capacity left, for every codec (default 100)
 *         mem-total=MIB mem-used=MIB        (default 8192 and 0) `mem-used` is what other programs use; what the
 *                                           stand-in's own programs have allocated comes on top
 *         session-mem=MIB                   memory that one encoder session takes (default 0). Where less is free,
 *                                           opening one answers OUT_OF_MEMORY (10), limit or not.
 *         encode-us=MICROSECONDS            time from nvEncEncodePicture to the picture's end, for which
 *                                           nvEncLockBitstream waits (default 0: as long as the work takes)
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
 *     refused pid= board= code= reason=limit|no-engine|memory    ... or is not
 *     initialize pid= session= size=WxH fps=NUM/DEN bitrate= gop= bframes= preset= tuning= aud=
 *     reconfigure pid= session= size=WxH fps=NUM/DEN bitrate= max-bitrate= vbv= reset= idr=
 *     force-idr pid= session= frame=                             a picture that the caller asked to be an IDR
 *     end-of-stream pid= session=
 *     invalidate pid= session= timestamp=
 *     close pid= session= frames=
 *     vanished pid= session=                                     its process died; written by who notices
 *     fault pid= function= call= code=
 *     hang pid= function= call=
 *     violation pid= function= code= what="..."                  a call that the real driver refuses as well
 *     leak pid= kind= handle= [session=]                         at the process's exit: a handle not given back. Kinds: session,
 *                                                                input-buffer, bitstream-buffer, registered-resource,
 *                                                                mapped-resource, locked-input, locked-bitstream,
 *                                                                nvml-init, context, primary-context, memory,
 *                                                                host-memory, stream, event
 */
#ifndef STANDIN_SCENE_H
#define STANDIN_SCENE_H

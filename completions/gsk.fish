# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_gsk_global_optspecs
    string join \n format= color= json csv q/quiet v/verbose config= print-config h/help V/version
end

function __fish_gsk_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_gsk_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_gsk_using_subcommand
    set -l cmd (__fish_gsk_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c gsk -n "__fish_gsk_needs_command" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_needs_command" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_needs_command" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_needs_command" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_needs_command" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_needs_command" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_needs_command" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_needs_command" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_needs_command" -s V -l version -d 'Print version'
complete -c gsk -n "__fish_gsk_needs_command" -f -a "serve" -d 'Stream a source to browsers: captured and encoded once, watched by many'
complete -c gsk -n "__fish_gsk_needs_command" -f -a "lease" -d 'The machine\'s encoder slots, for programs that are not gsk'
complete -c gsk -n "__fish_gsk_needs_command" -f -a "nvenc-status" -d 'Who holds the encoder sessions, how many there are, and what each worker does and why'
complete -c gsk -n "__fish_gsk_needs_command" -f -a "cleanup" -d 'What dead owners left of encoder slots: says what it is and, where asked to, cleans it up'
complete -c gsk -n "__fish_gsk_needs_command" -f -a "verify-gl" -d 'Proves that OpenGL\'s pixels reach CUDA on this host, byte for byte, or says which step fails and what to do'
complete -c gsk -n "__fish_gsk_needs_command" -f -a "view" -d 'Watch a worker without a browser, and measure what arrives: rates, gaps, latency, joins'
complete -c gsk -n "__fish_gsk_needs_command" -f -a "bench" -d 'Where every millisecond goes, from capture to a viewer\'s hands, and a gate for CI'
complete -c gsk -n "__fish_gsk_needs_command" -f -a "train-nvtx" -d 'Profile a training program with nsys and NVTX ranges, or a built-in training run, and sum up its ranges'
complete -c gsk -n "__fish_gsk_needs_command" -f -a "nsight" -d 'Nsight Streamer: the windows of Nsight Systems or Nsight Compute in a browser, over a folder of reports'
complete -c gsk -n "__fish_gsk_needs_command" -f -a "isaac" -d 'Isaac Sim: headless instances that stream, each with its ports, its GPU and its caches'
complete -c gsk -n "__fish_gsk_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l listen -d 'Address and port to listen on; a port alone means 127.0.0.1 [default: 127.0.0.1:5000]' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l source -d 'What to show: "scene", "-" for standard input, or a .y4m file [default: scene]' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l size -d 'Width and height in pixels, both even, 16 to 8192; raw input needs it [default for the scene: 1280x720]' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l fps -d 'Frames per second, 1 to 240, such as 29.97 [default: 30]' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l pixel-format -d 'How raw frames lie in memory, on standard input or from a program' -r -f -a "rgb24\t''
rgba\t''
bgra\t''
i420\t'Planes Y (w×h), U and V (w/2×h/2)'
nv12\t'Planes Y (w×h) and interleaved UV (w/2×h/2 pairs)'"
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l loop -d 'Start a file again at its end' -r -f -a "true\t''
false\t''"
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l restart -d 'When to start the program again after it has ended [default: never]' -r -f -a "never\t'Not at all: its end is ours'
on-failure\t'After any end but exit code 0'
always\t'After any end'"
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l encoder -d 'Encoder; auto takes the best that works and says why [default: auto]' -r -f -a "auto\t'The first that works of those below, for each codec; JPEG instead of H.264 where that is too slow'
nvenc\t'H.264, HEVC and AV1 by the GPU\'s encoder'
nvjpeg\t'JPEG by the GPU'
openh264\t'H.264 by the CPU'
jpeg\t'JPEG by the CPU'"
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l codec -d 'Video that viewers get who ask for none; hevc and av1 need NVENC, and browsers that cannot decode them get h264 [default: h264]' -r -f -a "h264\t''
hevc\t'By NVENC only'
av1\t'By NVENC only'"
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l bitrate -d 'Bits per second, 100k to 200M [default: 4M]' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l jpeg-quality -d 'Quality of JPEG pictures, 1 to 100, or auto: as the bit rate allows, 40 to 85 [default: auto]' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l gpu -d 'The GPU that draws the scene and encodes, by nvidia-smi\'s index, by UUID or by PCI address [default: the first that can]' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l slots -d 'Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l when-full -d 'What to do while no encoder slot is free [default: refuse]' -r -f -a "refuse\t'Viewers are refused, and told who holds the slots; the worker lives on'
software\t'The CPU encodes until a slot is free'
wait\t'Viewers wait for a slot'"
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l nvenc-preset -d 'NVENC\'s preset: p1 is the fastest, p7 of the best quality [default: p3]' -r -f -a "p1\t''
p2\t''
p3\t''
p4\t''
p5\t''
p6\t''
p7\t''"
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l intra-refresh -d 'Refresh the whole picture every so many frames, a part with each, 2 to 3600; NVENC only [default: never]' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l nvenc-input -d 'What NVENC is given: nv12, converted by gsk to BT.709, or argb, which its engine converts to BT.601 [default: nv12]' -r -f -a "nv12\t'Converted by gsk, by BT.709 to limited range'
argb\t'RGB, which the engine converts itself, by BT.601 to limited range'"
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l token-file -d 'File that holds the access token (or set GSK_TOKEN)' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l allow-host -d 'Host name to accept beside this machine\'s own; may be repeated' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l allow-origin -d 'Origin of pages to accept beside our own, such as https://example.org; may be repeated' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l input -d 'Whose pointer and keys reach the source [default: all]' -r -f -a "all\t'Every viewer\'s'
none\t'Nobody\'s: viewers only watch'"
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l max-viewers -d 'Most viewers at a time, 1 to 10000 [default: 512]' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l instance-id -d 'Name of this worker, 1 to 64 of A-Z, a-z, 0-9, \'.\', \'_\' and \'-\' [default: omega-0]' -r
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand serve" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand serve" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand serve" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and not __fish_seen_subcommand_from run help" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand lease; and not __fish_seen_subcommand_from run help" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand lease; and not __fish_seen_subcommand_from run help" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand lease; and not __fish_seen_subcommand_from run help" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and not __fish_seen_subcommand_from run help" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and not __fish_seen_subcommand_from run help" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and not __fish_seen_subcommand_from run help" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and not __fish_seen_subcommand_from run help" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and not __fish_seen_subcommand_from run help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and not __fish_seen_subcommand_from run help" -f -a "run" -d 'Run an encoder program, such as ffmpeg with h264_nvenc, with one of the machine\'s encoder slots'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and not __fish_seen_subcommand_from run help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from run" -l slots -d 'Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]' -r
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from run" -l wait -d 'How long to wait for a slot where none is free, such as 30s or 5m [default: 0s]' -r
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from run" -l instance-id -d 'Name to be shown to those who ask who holds the slot, 1 to 64 of A-Z, a-z, 0-9, \'.\', \'_\' and \'-\' [default: the program\'s]' -r
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from run" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from run" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from run" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from run" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from run" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from run" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from run" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from run" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from help" -f -a "run" -d 'Run an encoder program, such as ffmpeg with h264_nvenc, with one of the machine\'s encoder slots'
complete -c gsk -n "__fish_gsk_using_subcommand lease; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l workers -d 'Ask as many workers, on consecutive ports, 0 to 1000 [default: 0]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l base-port -d 'Port of the first of --workers [default: 5000]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l host -d 'Where --workers run, a name or an IP address [default: 127.0.0.1]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l worker -d 'Ask this worker too, such as http://render7:5000; may be repeated' -r
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l timeout -d 'How long workers and driver may take, all asked at once, such as 500ms [default: 1.5s]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l slots -d 'Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l watch -d 'Look again every so many seconds, 0.1 to 3600, until Ctrl-C; with JSON it prints one object a line [default: 2]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l probe -d 'First find the machine\'s real limit: open encoder sessions until the driver refuses one, close them all, and keep the answer for all who take slots with this driver; nobody else gets a slot meanwhile'
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand nvenc-status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand cleanup" -l grace -d 'Between SIGTERM and SIGKILL, such as 500ms [default: 2s]' -r
complete -c gsk -n "__fish_gsk_using_subcommand cleanup" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand cleanup" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand cleanup" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand cleanup" -l leases -d 'Clear the records that dead owners left in free slots'
complete -c gsk -n "__fish_gsk_using_subcommand cleanup" -l kill -d 'End the processes that hold slots whose owners are dead: SIGTERM, --grace, SIGKILL'
complete -c gsk -n "__fish_gsk_using_subcommand cleanup" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand cleanup" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand cleanup" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand cleanup" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand cleanup" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand cleanup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l gpu -d 'The GPU, by nvidia-smi\'s index, by UUID or by PCI address [default: CUDA\'s first]' -r
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l timeout -d 'How long the driver may take to initialise, each other step a fifth of it, such as 30s, 1s at least [default: 15s]' -r
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l slots -d 'Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]' -r
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l only -d 'Make only these checks, and those that they need' -r -f -a "driver\t''
nvml\t''
cuda\t''
devices\t''
container\t''
egl-vendor\t''
egl-devices\t''
egl-cuda\t''
context\t''
draw\t''
gl-to-cuda\t''
cuda-to-gl\t''
cycles\t''
capture\t''
nvenc\t''
nvdec\t''
nvjpeg\t''"
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l skip -d 'Leave these checks out, and with them those that need them' -r -f -a "driver\t''
nvml\t''
cuda\t''
devices\t''
container\t''
egl-vendor\t''
egl-devices\t''
egl-cuda\t''
context\t''
draw\t''
gl-to-cuda\t''
cuda-to-gl\t''
cycles\t''
capture\t''
nvenc\t''
nvdec\t''
nvjpeg\t''"
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l bundle -d 'Write what a bug report needs to a new file, a .tar.gz: this answer, nvenc-status, settings, versions, environment and device files' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l exports -d 'Print, for a shell, the variables by which other programs choose the same GPU, and nothing else'
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand verify-gl" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand view" -l via -d 'Which way the pictures come [default: ws, or what URL names]' -r -f -a "ws\t'The WebSocket that the page uses: units with their times'
mp4\t'Fragmented MP4 of H.264, /stream.mp4'
mjpeg\t'Multipart JPEG, /stream.mjpg'"
complete -c gsk -n "__fish_gsk_using_subcommand view" -l codec -d 'What to ask for by /ws [default: the worker\'s own choice]' -r -f -a "h264\t''
hevc\t''
av1\t''
jpeg\t''"
complete -c gsk -n "__fish_gsk_using_subcommand view" -l viewers -d 'As many viewers at once, 1 to 1000 [default: 1]' -r
complete -c gsk -n "__fish_gsk_using_subcommand view" -l decode -d 'Whose frames are decoded [default: first]' -r -f -a "first\t'The first viewer\'s'
all\t'Every viewer\'s, each on a thread of its own'
none\t'Nobody\'s: units are only received'"
complete -c gsk -n "__fish_gsk_using_subcommand view" -l timeout -d 'How long connections and first pictures may take, such as 30s [default: 10s]' -r
complete -c gsk -n "__fish_gsk_using_subcommand view" -l token-file -d 'File that holds the access token (or set GSK_TOKEN)' -r
complete -c gsk -n "__fish_gsk_using_subcommand view" -l seconds -d 'End after so many seconds, counted from when everybody is in [default: never]' -r
complete -c gsk -n "__fish_gsk_using_subcommand view" -l frames -d 'End after so many frames of the first viewer [default: never]' -r
complete -c gsk -n "__fish_gsk_using_subcommand view" -l snapshot -d 'Save a picture, a .png or .jpg: the first, and end; with --seconds, --frames or --record the last' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand view" -l record -d 'Record the first viewer\'s stream: a .mp4 or .h264, or a .mjpeg of JPEG pictures' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand view" -l max-stall -d 'Exit code 1 where nothing came for longer, such as 200ms' -r
complete -c gsk -n "__fish_gsk_using_subcommand view" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand view" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand view" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand view" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand view" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand view" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand view" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand view" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand view" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l source -d 'Pictures: "scene", "noise" (the hardest), "still" (the easiest), or a .y4m file [default: scene]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l size -d '720p, 1080p, 1440p, 4K, or WxH; may be repeated [default: 720p; a file has its own]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l fps -d 'Frames per second, 1 to 240, such as 29.97 [default: 30]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l frames -d 'Frames that count, of each case; of encoders and decoders in up to 20 rounds, 1 to 100000 [default: 200]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l warmup -d 'Frames before them that do not, anew whenever an encoder or decoder is opened, 0 to 10000 [default: 10]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l passes -d 'Run all cases as often, 1 to 1000, and put their samples together: what a machine does from one minute to the next then shows in the intervals [default: 1]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l encoder -d 'Encoder; auto measures each, and streams by the best [default: auto]' -r -f -a "auto\t'The first that works of those below, for each codec; JPEG instead of H.264 where that is too slow'
nvenc\t'H.264, HEVC and AV1 by the GPU\'s encoder'
nvjpeg\t'JPEG by the GPU'
openh264\t'H.264 by the CPU'
jpeg\t'JPEG by the CPU'"
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l codec -d 'Only this codec [default: all; a pipeline has its encoder\'s]' -r -f -a "h264\t''
hevc\t''
av1\t''
jpeg\t''"
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l bitrate -d 'Bits per second, 100k to 200M [default: 4M]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l jpeg-quality -d 'Quality of JPEG pictures, 1 to 100, or auto: as the bit rate allows [default: auto]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l gpu -d 'The GPU that draws the scene and encodes, by nvidia-smi\'s index, by UUID or by PCI address [default: the first that can]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l slots -d 'Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l viewers -d 'Viewers of "network", 1 to 1000 [default: 1]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l streams -d 'The most streams that "density" tries, 1 to 256 [default: 64]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l browser -d 'The Chromium that "glass" watches with [default: chromium, google-chrome or chrome on the PATH]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l target -d 'What a stage may take, of its 95th percentile, such as encode=5; may be repeated [default: capture=2, encode=3, network=10, decode=5, total=20]' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l baseline -d 'Compare with an older run, by ratios with their 95 % intervals' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l save-baseline -d 'Keep this run, samples and all, as JSON for --baseline; may be the same file' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l fail-on -d 'Exit 1 where a rule is broken, such as encode.p99>+10%, encode.p99>+0.5ms or pipeline.p95>20ms; may be repeated' -r
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l plot -d 'Write pictures: latency over time, its distribution, and stages stacked by percentile' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l html -d 'Write all as one page that needs nothing else' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l budget -d 'Exit 1 where a stage misses its target of the budget'
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand bench" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand bench" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand bench" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l output-dir -d 'Folder of reports, traces and manifests, made where it is not [default: profiling_output]' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l nsys -d 'The nsys to use: a file, a folder, or a name on the PATH [default: NSYS_PATH, the PATH, where it is installed]' -r
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l no-nsys -d 'Run without nsys; of the built-in run gsk then collects the ranges itself' -r -f -a "true\t''
false\t''"
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l cublas -d 'Trace cuBLAS too' -r -f -a "true\t''
false\t''"
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l cudnn -d 'Trace cuDNN too' -r -f -a "true\t''
false\t''"
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l capture-range -d 'Collect only between cudaProfilerStart and -Stop (cuda), or in the first range of a name (nvtx:RANGE[@DOMAIN]); the program runs on behind it [default: none]' -r
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l nsys-arg -d 'Hand on to \'nsys profile\', such as --nsys-arg=--sample=process-tree; may be repeated. Replaces gsk\'s own option of that name' -r
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l stamp -d 'In the run\'s file names, in place of the time: as for JOB. A name that is taken is refused' -r
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l list -d 'Show the runs so far, newest first'
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l force -d 'Overwrite the run of the same --stamp'
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand train-nvtx" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -f -a "start" -d 'Start it, and say where to look: page, password, tunnel, reports'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -f -a "stop" -d 'Stop and remove it; other programs\' containers are left alone'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -f -a "status" -d 'What runs, since when, and how it does: state, ports, page, reports, image, GPU'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -f -a "logs" -d 'What it has written'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -f -a "open" -d 'Open the page in this machine\'s browser, or one report in it'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and not __fish_seen_subcommand_from start stop status logs open help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l tool -d 'Whose windows [default: nsys]' -r -f -a "nsys\t'Nsight Systems'
ncu\t'Nsight Compute'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l image -d 'Image, with its tag or without [default: nvcr.io/nvidia/devtools/nsight-streamer-nsys or -ncu]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l tag -d 'Tag of the image; as new as the tool that wrote the reports, or newer [default: 2026.4.1 for nsys, 2026.2.1 for ncu]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l reports -d 'Folder of the reports; the container can only read it [default: ./profiling_output]' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l port -d 'Port of the page [default: 8080]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l turn-port -d 'Port that the pictures come by (TURN over TCP); the same inside the container and out [default: 3478]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l bind -d 'Address that both ports listen on; beyond loopback the password is what keeps others out [default: 127.0.0.1]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l host-ip -d 'Address that the browser finds the TURN port by [default: that of --bind; for 0.0.0.0 this machine\'s own]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l max-resolution -d 'Largest picture [default: 1920x1080]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l no-resize -d 'Keep the picture\'s size, whatever the browser window\'s' -r -f -a "true\t''
false\t''"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l gpu -d 'GPU of the container: auto, none, nvidia-smi\'s index, a UUID or a PCI address; without one the CPU draws [default: auto]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l username -d 'User to log in as; \'\' for no login, on loopback only [default: gsk]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l password-file -d 'File with the password, 8 to 128 of A-Z, a-z, 0-9 and -._~ [default: one made at random, printed once, and kept below $XDG_STATE_HOME/gsk]' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l docker-compose -d 'Take image, ports, environment and volumes from the service \'nsight-streamer\' of this file, where no flag says otherwise' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l profile -d 'Keys that take the place of the shipped profile\'s, such as environment, mounts, shm, ready or errors' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l timeout -d 'How long a start may take, once the image is here, such as 5m [default: 2m]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l name -d 'Which one, where several are to run [default: nsys or ncu]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l open -d 'Open this report' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from stop" -l name -d 'Which one, where several are to run [default: nsys or ncu]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from stop" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from stop" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from stop" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from stop" -l all -d 'All of them'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from stop" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from stop" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from stop" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from stop" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from stop" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from status" -l name -d 'Which one, where several are to run [default: nsys or ncu]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from status" -l watch -d 'Look again every so many seconds, 0.1 to 3600, until Ctrl-C; with JSON it prints one object a line [default: 2]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from status" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from status" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from status" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from status" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from status" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from status" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from status" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from status" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from logs" -l name -d 'Which one, where several are to run [default: nsys or ncu]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from logs" -l tail -d 'The last so many lines, 0 to 1000000 [default: 200]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from logs" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from logs" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from logs" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from logs" -s f -l follow -d 'Go on with what it writes, until it ends or Ctrl-C'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from logs" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from logs" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from logs" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from logs" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from logs" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l tool -d 'Whose windows [default: nsys]' -r -f -a "nsys\t'Nsight Systems'
ncu\t'Nsight Compute'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l image -d 'Image, with its tag or without [default: nvcr.io/nvidia/devtools/nsight-streamer-nsys or -ncu]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l tag -d 'Tag of the image; as new as the tool that wrote the reports, or newer [default: 2026.4.1 for nsys, 2026.2.1 for ncu]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l reports -d 'Folder of the reports; the container can only read it [default: ./profiling_output]' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l port -d 'Port of the page [default: 8080]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l turn-port -d 'Port that the pictures come by (TURN over TCP); the same inside the container and out [default: 3478]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l bind -d 'Address that both ports listen on; beyond loopback the password is what keeps others out [default: 127.0.0.1]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l host-ip -d 'Address that the browser finds the TURN port by [default: that of --bind; for 0.0.0.0 this machine\'s own]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l max-resolution -d 'Largest picture [default: 1920x1080]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l no-resize -d 'Keep the picture\'s size, whatever the browser window\'s' -r -f -a "true\t''
false\t''"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l gpu -d 'GPU of the container: auto, none, nvidia-smi\'s index, a UUID or a PCI address; without one the CPU draws [default: auto]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l username -d 'User to log in as; \'\' for no login, on loopback only [default: gsk]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l password-file -d 'File with the password, 8 to 128 of A-Z, a-z, 0-9 and -._~ [default: one made at random, printed once, and kept below $XDG_STATE_HOME/gsk]' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l docker-compose -d 'Take image, ports, environment and volumes from the service \'nsight-streamer\' of this file, where no flag says otherwise' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l profile -d 'Keys that take the place of the shipped profile\'s, such as environment, mounts, shm, ready or errors' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l timeout -d 'How long a start may take, once the image is here, such as 5m [default: 2m]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l name -d 'Which one, where several are to run [default: nsys or ncu]' -r
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from open" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from help" -f -a "start" -d 'Start it, and say where to look: page, password, tunnel, reports'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from help" -f -a "stop" -d 'Stop and remove it; other programs\' containers are left alone'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from help" -f -a "status" -d 'What runs, since when, and how it does: state, ports, page, reports, image, GPU'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from help" -f -a "logs" -d 'What it has written'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from help" -f -a "open" -d 'Open the page in this machine\'s browser, or one report in it'
complete -c gsk -n "__fish_gsk_using_subcommand nsight; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -f -a "start" -d 'Start instances, one after the other, each waited for until it can be watched'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -f -a "stop" -d 'Stop and remove instances; their caches stay'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -f -a "restart" -d 'Stop instances and start them again, the others left alone'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -f -a "status" -d 'What runs, since when, and how it does'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -f -a "logs" -d 'What an instance has written'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -f -a "cleanup" -d 'List instances that have ended, and with --remove remove them'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and not __fish_seen_subcommand_from start stop restart status logs cleanup help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l instances -d 'As many instances, 1 to 64; versions 4.5 to 5.1 bear one [default: 1]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l accept-eula -d 'You accept NVIDIA\'s licence of Isaac Sim; without, nothing is started' -r -f -a "true\t''
false\t''"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l privacy-consent -d 'You let Isaac Sim send NVIDIA data on its use [default: false]' -r -f -a "true\t''
false\t''"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l image -d 'Image, with its tag or without [default: nvcr.io/nvidia/isaac-sim]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l tag -d 'Tag of the image: the version, which decides how it is started [default: 6.0.0]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l data -d 'Folder of caches, settings and logs, by version and instance [default: gsk/isaac below $XDG_DATA_HOME]' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l gpu -d 'GPU: auto, nvidia-smi\'s index, a UUID or a PCI address; of several, instances take one each in turn [default: auto]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l memory-limit -d 'The most memory that an instance may have, such as 32G [default: no limit]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l memory-each -d 'Memory that an instance is taken to need: one for which it is not there is not started [default: 8G]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l gpu-memory-each -d 'The same of a GPU\'s memory, where NVML tells what is free [default: 8G]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l host-ip -d 'Address that the viewer finds the stream at [default: 127.0.0.1]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l profile -d 'Keys that take the place of the shipped profile\'s, such as command, environment, ports, ready or errors' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l timeout -d 'How long the start of an instance may take, once the image is here; the first compiles shaders [default: 20m]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from stop" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from stop" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from stop" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from stop" -l all -d 'All of them'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from stop" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from stop" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from stop" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from stop" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from stop" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l accept-eula -d 'You accept NVIDIA\'s licence of Isaac Sim; without, nothing is started' -r -f -a "true\t''
false\t''"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l privacy-consent -d 'You let Isaac Sim send NVIDIA data on its use [default: false]' -r -f -a "true\t''
false\t''"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l image -d 'Image, with its tag or without [default: nvcr.io/nvidia/isaac-sim]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l tag -d 'Tag of the image: the version, which decides how it is started [default: 6.0.0]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l data -d 'Folder of caches, settings and logs, by version and instance [default: gsk/isaac below $XDG_DATA_HOME]' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l gpu -d 'GPU: auto, nvidia-smi\'s index, a UUID or a PCI address; of several, instances take one each in turn [default: auto]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l memory-limit -d 'The most memory that an instance may have, such as 32G [default: no limit]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l memory-each -d 'Memory that an instance is taken to need: one for which it is not there is not started [default: 8G]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l gpu-memory-each -d 'The same of a GPU\'s memory, where NVML tells what is free [default: 8G]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l host-ip -d 'Address that the viewer finds the stream at [default: 127.0.0.1]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l profile -d 'Keys that take the place of the shipped profile\'s, such as command, environment, ports, ready or errors' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l timeout -d 'How long the start of an instance may take, once the image is here; the first compiles shaders [default: 20m]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l instances -d 'As many instances, 1 to 64; versions 4.5 to 5.1 bear one [default: 1]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from restart" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from status" -l watch -d 'Look again every so many seconds, 0.1 to 3600, until Ctrl-C; with JSON it prints one object a line [default: 2]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from status" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from status" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from status" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from status" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from status" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from status" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from status" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from status" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from logs" -l tail -d 'The last so many lines, 0 to 1000000 [default: 200]' -r
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from logs" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from logs" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from logs" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from logs" -s f -l follow -d 'Go on with what it writes, until it ends or Ctrl-C'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from logs" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from logs" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from logs" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from logs" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from logs" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from cleanup" -l format -d 'How to print data [default: table]' -r -f -a "table\t'For people: aligned columns'
json\t'One indented document'
jsonl\t'One document a line'
csv\t'RFC 4180, with a heading line; several tables are told apart by the first column'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from cleanup" -l color -d 'When to colour; NO_COLOR is heeded [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is "dumb"'
always\t'Wherever it goes'
never\t'Not at all'"
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from cleanup" -l config -d 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses' -r -F
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from cleanup" -l remove -d 'Remove what is listed'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from cleanup" -l json -d 'Short for --format json'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from cleanup" -l csv -d 'Short for --format csv'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from cleanup" -s q -l quiet -d 'Say only what failed'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from cleanup" -s v -l verbose -d 'Log more; twice for everything'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from cleanup" -l print-config -d 'Print every setting and where it came from, and end'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from cleanup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from help" -f -a "start" -d 'Start instances, one after the other, each waited for until it can be watched'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from help" -f -a "stop" -d 'Stop and remove instances; their caches stay'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from help" -f -a "restart" -d 'Stop instances and start them again, the others left alone'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from help" -f -a "status" -d 'What runs, since when, and how it does'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from help" -f -a "logs" -d 'What an instance has written'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from help" -f -a "cleanup" -d 'List instances that have ended, and with --remove remove them'
complete -c gsk -n "__fish_gsk_using_subcommand isaac; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gsk -n "__fish_gsk_using_subcommand help; and not __fish_seen_subcommand_from serve lease nvenc-status cleanup verify-gl view bench train-nvtx nsight isaac help" -f -a "serve" -d 'Stream a source to browsers: captured and encoded once, watched by many'
complete -c gsk -n "__fish_gsk_using_subcommand help; and not __fish_seen_subcommand_from serve lease nvenc-status cleanup verify-gl view bench train-nvtx nsight isaac help" -f -a "lease" -d 'The machine\'s encoder slots, for programs that are not gsk'
complete -c gsk -n "__fish_gsk_using_subcommand help; and not __fish_seen_subcommand_from serve lease nvenc-status cleanup verify-gl view bench train-nvtx nsight isaac help" -f -a "nvenc-status" -d 'Who holds the encoder sessions, how many there are, and what each worker does and why'
complete -c gsk -n "__fish_gsk_using_subcommand help; and not __fish_seen_subcommand_from serve lease nvenc-status cleanup verify-gl view bench train-nvtx nsight isaac help" -f -a "cleanup" -d 'What dead owners left of encoder slots: says what it is and, where asked to, cleans it up'
complete -c gsk -n "__fish_gsk_using_subcommand help; and not __fish_seen_subcommand_from serve lease nvenc-status cleanup verify-gl view bench train-nvtx nsight isaac help" -f -a "verify-gl" -d 'Proves that OpenGL\'s pixels reach CUDA on this host, byte for byte, or says which step fails and what to do'
complete -c gsk -n "__fish_gsk_using_subcommand help; and not __fish_seen_subcommand_from serve lease nvenc-status cleanup verify-gl view bench train-nvtx nsight isaac help" -f -a "view" -d 'Watch a worker without a browser, and measure what arrives: rates, gaps, latency, joins'
complete -c gsk -n "__fish_gsk_using_subcommand help; and not __fish_seen_subcommand_from serve lease nvenc-status cleanup verify-gl view bench train-nvtx nsight isaac help" -f -a "bench" -d 'Where every millisecond goes, from capture to a viewer\'s hands, and a gate for CI'
complete -c gsk -n "__fish_gsk_using_subcommand help; and not __fish_seen_subcommand_from serve lease nvenc-status cleanup verify-gl view bench train-nvtx nsight isaac help" -f -a "train-nvtx" -d 'Profile a training program with nsys and NVTX ranges, or a built-in training run, and sum up its ranges'
complete -c gsk -n "__fish_gsk_using_subcommand help; and not __fish_seen_subcommand_from serve lease nvenc-status cleanup verify-gl view bench train-nvtx nsight isaac help" -f -a "nsight" -d 'Nsight Streamer: the windows of Nsight Systems or Nsight Compute in a browser, over a folder of reports'
complete -c gsk -n "__fish_gsk_using_subcommand help; and not __fish_seen_subcommand_from serve lease nvenc-status cleanup verify-gl view bench train-nvtx nsight isaac help" -f -a "isaac" -d 'Isaac Sim: headless instances that stream, each with its ports, its GPU and its caches'
complete -c gsk -n "__fish_gsk_using_subcommand help; and not __fish_seen_subcommand_from serve lease nvenc-status cleanup verify-gl view bench train-nvtx nsight isaac help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gsk -n "__fish_gsk_using_subcommand help; and __fish_seen_subcommand_from lease" -f -a "run" -d 'Run an encoder program, such as ffmpeg with h264_nvenc, with one of the machine\'s encoder slots'
complete -c gsk -n "__fish_gsk_using_subcommand help; and __fish_seen_subcommand_from nsight" -f -a "start" -d 'Start it, and say where to look: page, password, tunnel, reports'
complete -c gsk -n "__fish_gsk_using_subcommand help; and __fish_seen_subcommand_from nsight" -f -a "stop" -d 'Stop and remove it; other programs\' containers are left alone'
complete -c gsk -n "__fish_gsk_using_subcommand help; and __fish_seen_subcommand_from nsight" -f -a "status" -d 'What runs, since when, and how it does: state, ports, page, reports, image, GPU'
complete -c gsk -n "__fish_gsk_using_subcommand help; and __fish_seen_subcommand_from nsight" -f -a "logs" -d 'What it has written'
complete -c gsk -n "__fish_gsk_using_subcommand help; and __fish_seen_subcommand_from nsight" -f -a "open" -d 'Open the page in this machine\'s browser, or one report in it'
complete -c gsk -n "__fish_gsk_using_subcommand help; and __fish_seen_subcommand_from isaac" -f -a "start" -d 'Start instances, one after the other, each waited for until it can be watched'
complete -c gsk -n "__fish_gsk_using_subcommand help; and __fish_seen_subcommand_from isaac" -f -a "stop" -d 'Stop and remove instances; their caches stay'
complete -c gsk -n "__fish_gsk_using_subcommand help; and __fish_seen_subcommand_from isaac" -f -a "restart" -d 'Stop instances and start them again, the others left alone'
complete -c gsk -n "__fish_gsk_using_subcommand help; and __fish_seen_subcommand_from isaac" -f -a "status" -d 'What runs, since when, and how it does'
complete -c gsk -n "__fish_gsk_using_subcommand help; and __fish_seen_subcommand_from isaac" -f -a "logs" -d 'What an instance has written'
complete -c gsk -n "__fish_gsk_using_subcommand help; and __fish_seen_subcommand_from isaac" -f -a "cleanup" -d 'List instances that have ended, and with --remove remove them'

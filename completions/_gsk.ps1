
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'gsk' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'gsk'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'gsk' {
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('serve', 'serve', [CompletionResultType]::ParameterValue, 'Stream a source to browsers: captured and encoded once, watched by many')
            [CompletionResult]::new('lease', 'lease', [CompletionResultType]::ParameterValue, 'The machine''s encoder slots, for programs that are not gsk')
            [CompletionResult]::new('nvenc-status', 'nvenc-status', [CompletionResultType]::ParameterValue, 'Who holds the encoder sessions, how many there are, and what each worker does and why')
            [CompletionResult]::new('cleanup', 'cleanup', [CompletionResultType]::ParameterValue, 'What dead owners left of encoder slots: says what it is and, where asked to, cleans it up')
            [CompletionResult]::new('verify-gl', 'verify-gl', [CompletionResultType]::ParameterValue, 'Proves that OpenGL''s pixels reach CUDA on this host, byte for byte, or says which step fails and what to do')
            [CompletionResult]::new('view', 'view', [CompletionResultType]::ParameterValue, 'Watch a worker without a browser, and measure what arrives: rates, gaps, latency, joins')
            [CompletionResult]::new('bench', 'bench', [CompletionResultType]::ParameterValue, 'Where every millisecond goes, from capture to a viewer''s hands, and a gate for CI')
            [CompletionResult]::new('train-nvtx', 'train-nvtx', [CompletionResultType]::ParameterValue, 'Profile a training program with nsys and NVTX ranges, or a built-in training run, and sum up its ranges')
            [CompletionResult]::new('nsight', 'nsight', [CompletionResultType]::ParameterValue, 'Nsight Streamer: the windows of Nsight Systems or Nsight Compute in a browser, over a folder of reports')
            [CompletionResult]::new('isaac', 'isaac', [CompletionResultType]::ParameterValue, 'Isaac Sim: headless instances that stream, each with its ports, its GPU and its caches')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'gsk;serve' {
            [CompletionResult]::new('--listen', '--listen', [CompletionResultType]::ParameterName, 'Address and port to listen on; a port alone means 127.0.0.1 [default: 127.0.0.1:5000]')
            [CompletionResult]::new('--source', '--source', [CompletionResultType]::ParameterName, 'What to show: "scene", "-" for standard input, or a .y4m file [default: scene]')
            [CompletionResult]::new('--size', '--size', [CompletionResultType]::ParameterName, 'Width and height in pixels, both even, 16 to 8192; raw input needs it [default for the scene: 1280x720]')
            [CompletionResult]::new('--fps', '--fps', [CompletionResultType]::ParameterName, 'Frames per second, 1 to 240, such as 29.97 [default: 30]')
            [CompletionResult]::new('--pixel-format', '--pixel-format', [CompletionResultType]::ParameterName, 'How raw frames lie in memory, on standard input or from a program')
            [CompletionResult]::new('--loop', '--loop', [CompletionResultType]::ParameterName, 'Start a file again at its end')
            [CompletionResult]::new('--restart', '--restart', [CompletionResultType]::ParameterName, 'When to start the program again after it has ended [default: never]')
            [CompletionResult]::new('--encoder', '--encoder', [CompletionResultType]::ParameterName, 'Encoder; auto takes the best that works and says why [default: auto]')
            [CompletionResult]::new('--codec', '--codec', [CompletionResultType]::ParameterName, 'Video that viewers get who ask for none; hevc and av1 need NVENC, and browsers that cannot decode them get h264 [default: h264]')
            [CompletionResult]::new('--bitrate', '--bitrate', [CompletionResultType]::ParameterName, 'Bits per second, 100k to 200M [default: 4M]')
            [CompletionResult]::new('--jpeg-quality', '--jpeg-quality', [CompletionResultType]::ParameterName, 'Quality of JPEG pictures, 1 to 100, or auto: as the bit rate allows, 40 to 85 [default: auto]')
            [CompletionResult]::new('--gpu', '--gpu', [CompletionResultType]::ParameterName, 'The GPU that draws the scene and encodes, by nvidia-smi''s index, by UUID or by PCI address [default: the first that can]')
            [CompletionResult]::new('--slots', '--slots', [CompletionResultType]::ParameterName, 'Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]')
            [CompletionResult]::new('--when-full', '--when-full', [CompletionResultType]::ParameterName, 'What to do while no encoder slot is free [default: refuse]')
            [CompletionResult]::new('--nvenc-preset', '--nvenc-preset', [CompletionResultType]::ParameterName, 'NVENC''s preset: p1 is the fastest, p7 of the best quality [default: p3]')
            [CompletionResult]::new('--intra-refresh', '--intra-refresh', [CompletionResultType]::ParameterName, 'Refresh the whole picture every so many frames, a part with each, 2 to 3600; NVENC only [default: never]')
            [CompletionResult]::new('--nvenc-input', '--nvenc-input', [CompletionResultType]::ParameterName, 'What NVENC is given: nv12, converted by gsk to BT.709, or argb, which its engine converts to BT.601 [default: nv12]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the access token (or set GSK_TOKEN)')
            [CompletionResult]::new('--allow-host', '--allow-host', [CompletionResultType]::ParameterName, 'Host name to accept beside this machine''s own; may be repeated')
            [CompletionResult]::new('--allow-origin', '--allow-origin', [CompletionResultType]::ParameterName, 'Origin of pages to accept beside our own, such as https://example.org; may be repeated')
            [CompletionResult]::new('--input', '--input', [CompletionResultType]::ParameterName, 'Whose pointer and keys reach the source [default: all]')
            [CompletionResult]::new('--max-viewers', '--max-viewers', [CompletionResultType]::ParameterName, 'Most viewers at a time, 1 to 10000 [default: 512]')
            [CompletionResult]::new('--instance-id', '--instance-id', [CompletionResultType]::ParameterName, 'Name of this worker, 1 to 64 of A-Z, a-z, 0-9, ''.'', ''_'' and ''-'' [default: omega-0]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;lease' {
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('run', 'run', [CompletionResultType]::ParameterValue, 'Run an encoder program, such as ffmpeg with h264_nvenc, with one of the machine''s encoder slots')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'gsk;lease;run' {
            [CompletionResult]::new('--slots', '--slots', [CompletionResultType]::ParameterName, 'Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'How long to wait for a slot where none is free, such as 30s or 5m [default: 0s]')
            [CompletionResult]::new('--instance-id', '--instance-id', [CompletionResultType]::ParameterName, 'Name to be shown to those who ask who holds the slot, 1 to 64 of A-Z, a-z, 0-9, ''.'', ''_'' and ''-'' [default: the program''s]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;lease;help' {
            [CompletionResult]::new('run', 'run', [CompletionResultType]::ParameterValue, 'Run an encoder program, such as ffmpeg with h264_nvenc, with one of the machine''s encoder slots')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'gsk;lease;help;run' {
            break
        }
        'gsk;lease;help;help' {
            break
        }
        'gsk;nvenc-status' {
            [CompletionResult]::new('--workers', '--workers', [CompletionResultType]::ParameterName, 'Ask as many workers, on consecutive ports, 0 to 1000 [default: 0]')
            [CompletionResult]::new('--base-port', '--base-port', [CompletionResultType]::ParameterName, 'Port of the first of --workers [default: 5000]')
            [CompletionResult]::new('--host', '--host', [CompletionResultType]::ParameterName, 'Where --workers run, a name or an IP address [default: 127.0.0.1]')
            [CompletionResult]::new('--worker', '--worker', [CompletionResultType]::ParameterName, 'Ask this worker too, such as http://render7:5000; may be repeated')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long workers and driver may take, all asked at once, such as 500ms [default: 1.5s]')
            [CompletionResult]::new('--slots', '--slots', [CompletionResultType]::ParameterName, 'Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]')
            [CompletionResult]::new('--watch', '--watch', [CompletionResultType]::ParameterName, 'Look again every so many seconds, 0.1 to 3600, until Ctrl-C; with JSON it prints one object a line [default: 2]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--probe', '--probe', [CompletionResultType]::ParameterName, 'First find the machine''s real limit: open encoder sessions until the driver refuses one, close them all, and keep the answer for all who take slots with this driver; nobody else gets a slot meanwhile')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;cleanup' {
            [CompletionResult]::new('--grace', '--grace', [CompletionResultType]::ParameterName, 'Between SIGTERM and SIGKILL, such as 500ms [default: 2s]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--leases', '--leases', [CompletionResultType]::ParameterName, 'Clear the records that dead owners left in free slots')
            [CompletionResult]::new('--kill', '--kill', [CompletionResultType]::ParameterName, 'End the processes that hold slots whose owners are dead: SIGTERM, --grace, SIGKILL')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;verify-gl' {
            [CompletionResult]::new('--gpu', '--gpu', [CompletionResultType]::ParameterName, 'The GPU, by nvidia-smi''s index, by UUID or by PCI address [default: CUDA''s first]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long the driver may take to initialise, each other step a fifth of it, such as 30s, 1s at least [default: 15s]')
            [CompletionResult]::new('--slots', '--slots', [CompletionResultType]::ParameterName, 'Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]')
            [CompletionResult]::new('--only', '--only', [CompletionResultType]::ParameterName, 'Make only these checks, and those that they need')
            [CompletionResult]::new('--skip', '--skip', [CompletionResultType]::ParameterName, 'Leave these checks out, and with them those that need them')
            [CompletionResult]::new('--bundle', '--bundle', [CompletionResultType]::ParameterName, 'Write what a bug report needs to a new file, a .tar.gz: this answer, nvenc-status, settings, versions, environment and device files')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--exports', '--exports', [CompletionResultType]::ParameterName, 'Print, for a shell, the variables by which other programs choose the same GPU, and nothing else')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;view' {
            [CompletionResult]::new('--via', '--via', [CompletionResultType]::ParameterName, 'Which way the pictures come [default: ws, or what URL names]')
            [CompletionResult]::new('--codec', '--codec', [CompletionResultType]::ParameterName, 'What to ask for by /ws [default: the worker''s own choice]')
            [CompletionResult]::new('--viewers', '--viewers', [CompletionResultType]::ParameterName, 'As many viewers at once, 1 to 1000 [default: 1]')
            [CompletionResult]::new('--decode', '--decode', [CompletionResultType]::ParameterName, 'Whose frames are decoded [default: first]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long connections and first pictures may take, such as 30s [default: 10s]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the access token (or set GSK_TOKEN)')
            [CompletionResult]::new('--seconds', '--seconds', [CompletionResultType]::ParameterName, 'End after so many seconds, counted from when everybody is in [default: never]')
            [CompletionResult]::new('--frames', '--frames', [CompletionResultType]::ParameterName, 'End after so many frames of the first viewer [default: never]')
            [CompletionResult]::new('--snapshot', '--snapshot', [CompletionResultType]::ParameterName, 'Save a picture, a .png or .jpg: the first, and end; with --seconds, --frames or --record the last')
            [CompletionResult]::new('--record', '--record', [CompletionResultType]::ParameterName, 'Record the first viewer''s stream: a .mp4 or .h264, or a .mjpeg of JPEG pictures')
            [CompletionResult]::new('--max-stall', '--max-stall', [CompletionResultType]::ParameterName, 'Exit code 1 where nothing came for longer, such as 200ms')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;bench' {
            [CompletionResult]::new('--source', '--source', [CompletionResultType]::ParameterName, 'Pictures: "scene", "noise" (the hardest), "still" (the easiest), or a .y4m file [default: scene]')
            [CompletionResult]::new('--size', '--size', [CompletionResultType]::ParameterName, '720p, 1080p, 1440p, 4K, or WxH; may be repeated [default: 720p; a file has its own]')
            [CompletionResult]::new('--fps', '--fps', [CompletionResultType]::ParameterName, 'Frames per second, 1 to 240, such as 29.97 [default: 30]')
            [CompletionResult]::new('--frames', '--frames', [CompletionResultType]::ParameterName, 'Frames that count, of each case; of encoders and decoders in up to 20 rounds, 1 to 100000 [default: 200]')
            [CompletionResult]::new('--warmup', '--warmup', [CompletionResultType]::ParameterName, 'Frames before them that do not, anew whenever an encoder or decoder is opened, 0 to 10000 [default: 10]')
            [CompletionResult]::new('--passes', '--passes', [CompletionResultType]::ParameterName, 'Run all cases as often, 1 to 1000, and put their samples together: what a machine does from one minute to the next then shows in the intervals [default: 1]')
            [CompletionResult]::new('--encoder', '--encoder', [CompletionResultType]::ParameterName, 'Encoder; auto measures each, and streams by the best [default: auto]')
            [CompletionResult]::new('--codec', '--codec', [CompletionResultType]::ParameterName, 'Only this codec [default: all; a pipeline has its encoder''s]')
            [CompletionResult]::new('--bitrate', '--bitrate', [CompletionResultType]::ParameterName, 'Bits per second, 100k to 200M [default: 4M]')
            [CompletionResult]::new('--jpeg-quality', '--jpeg-quality', [CompletionResultType]::ParameterName, 'Quality of JPEG pictures, 1 to 100, or auto: as the bit rate allows [default: auto]')
            [CompletionResult]::new('--gpu', '--gpu', [CompletionResultType]::ParameterName, 'The GPU that draws the scene and encodes, by nvidia-smi''s index, by UUID or by PCI address [default: the first that can]')
            [CompletionResult]::new('--slots', '--slots', [CompletionResultType]::ParameterName, 'Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]')
            [CompletionResult]::new('--viewers', '--viewers', [CompletionResultType]::ParameterName, 'Viewers of "network", 1 to 1000 [default: 1]')
            [CompletionResult]::new('--streams', '--streams', [CompletionResultType]::ParameterName, 'The most streams that "density" tries, 1 to 256 [default: 64]')
            [CompletionResult]::new('--browser', '--browser', [CompletionResultType]::ParameterName, 'The Chromium that "glass" watches with [default: chromium, google-chrome or chrome on the PATH]')
            [CompletionResult]::new('--target', '--target', [CompletionResultType]::ParameterName, 'What a stage may take, of its 95th percentile, such as encode=5; may be repeated [default: capture=2, encode=3, network=10, decode=5, total=20]')
            [CompletionResult]::new('--baseline', '--baseline', [CompletionResultType]::ParameterName, 'Compare with an older run, by ratios with their 95 % intervals')
            [CompletionResult]::new('--save-baseline', '--save-baseline', [CompletionResultType]::ParameterName, 'Keep this run, samples and all, as JSON for --baseline; may be the same file')
            [CompletionResult]::new('--fail-on', '--fail-on', [CompletionResultType]::ParameterName, 'Exit 1 where a rule is broken, such as encode.p99>+10%, encode.p99>+0.5ms or pipeline.p95>20ms; may be repeated')
            [CompletionResult]::new('--plot', '--plot', [CompletionResultType]::ParameterName, 'Write pictures: latency over time, its distribution, and stages stacked by percentile')
            [CompletionResult]::new('--html', '--html', [CompletionResultType]::ParameterName, 'Write all as one page that needs nothing else')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--budget', '--budget', [CompletionResultType]::ParameterName, 'Exit 1 where a stage misses its target of the budget')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;train-nvtx' {
            [CompletionResult]::new('--output-dir', '--output-dir', [CompletionResultType]::ParameterName, 'Folder of reports, traces and manifests, made where it is not [default: profiling_output]')
            [CompletionResult]::new('--nsys', '--nsys', [CompletionResultType]::ParameterName, 'The nsys to use: a file, a folder, or a name on the PATH [default: NSYS_PATH, the PATH, where it is installed]')
            [CompletionResult]::new('--no-nsys', '--no-nsys', [CompletionResultType]::ParameterName, 'Run without nsys; of the built-in run gsk then collects the ranges itself')
            [CompletionResult]::new('--cublas', '--cublas', [CompletionResultType]::ParameterName, 'Trace cuBLAS too')
            [CompletionResult]::new('--cudnn', '--cudnn', [CompletionResultType]::ParameterName, 'Trace cuDNN too')
            [CompletionResult]::new('--capture-range', '--capture-range', [CompletionResultType]::ParameterName, 'Collect only between cudaProfilerStart and -Stop (cuda), or in the first range of a name (nvtx:RANGE[@DOMAIN]); the program runs on behind it [default: none]')
            [CompletionResult]::new('--nsys-arg', '--nsys-arg', [CompletionResultType]::ParameterName, 'Hand on to ''nsys profile'', such as --nsys-arg=--sample=process-tree; may be repeated. Replaces gsk''s own option of that name')
            [CompletionResult]::new('--stamp', '--stamp', [CompletionResultType]::ParameterName, 'In the run''s file names, in place of the time: as for JOB. A name that is taken is refused')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--list', '--list', [CompletionResultType]::ParameterName, 'Show the runs so far, newest first')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Overwrite the run of the same --stamp')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;nsight' {
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('start', 'start', [CompletionResultType]::ParameterValue, 'Start it, and say where to look: page, password, tunnel, reports')
            [CompletionResult]::new('stop', 'stop', [CompletionResultType]::ParameterValue, 'Stop and remove it; other programs'' containers are left alone')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'What runs, since when, and how it does: state, ports, page, reports, image, GPU')
            [CompletionResult]::new('logs', 'logs', [CompletionResultType]::ParameterValue, 'What it has written')
            [CompletionResult]::new('open', 'open', [CompletionResultType]::ParameterValue, 'Open the page in this machine''s browser, or one report in it')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'gsk;nsight;start' {
            [CompletionResult]::new('--tool', '--tool', [CompletionResultType]::ParameterName, 'Whose windows [default: nsys]')
            [CompletionResult]::new('--image', '--image', [CompletionResultType]::ParameterName, 'Image, with its tag or without [default: nvcr.io/nvidia/devtools/nsight-streamer-nsys or -ncu]')
            [CompletionResult]::new('--tag', '--tag', [CompletionResultType]::ParameterName, 'Tag of the image; as new as the tool that wrote the reports, or newer [default: 2026.4.1 for nsys, 2026.2.1 for ncu]')
            [CompletionResult]::new('--reports', '--reports', [CompletionResultType]::ParameterName, 'Folder of the reports; the container can only read it [default: ./profiling_output]')
            [CompletionResult]::new('--port', '--port', [CompletionResultType]::ParameterName, 'Port of the page [default: 8080]')
            [CompletionResult]::new('--turn-port', '--turn-port', [CompletionResultType]::ParameterName, 'Port that the pictures come by (TURN over TCP); the same inside the container and out [default: 3478]')
            [CompletionResult]::new('--bind', '--bind', [CompletionResultType]::ParameterName, 'Address that both ports listen on; beyond loopback the password is what keeps others out [default: 127.0.0.1]')
            [CompletionResult]::new('--host-ip', '--host-ip', [CompletionResultType]::ParameterName, 'Address that the browser finds the TURN port by [default: that of --bind; for 0.0.0.0 this machine''s own]')
            [CompletionResult]::new('--max-resolution', '--max-resolution', [CompletionResultType]::ParameterName, 'Largest picture [default: 1920x1080]')
            [CompletionResult]::new('--no-resize', '--no-resize', [CompletionResultType]::ParameterName, 'Keep the picture''s size, whatever the browser window''s')
            [CompletionResult]::new('--gpu', '--gpu', [CompletionResultType]::ParameterName, 'GPU of the container: auto, none, nvidia-smi''s index, a UUID or a PCI address; without one the CPU draws [default: auto]')
            [CompletionResult]::new('--username', '--username', [CompletionResultType]::ParameterName, 'User to log in as; '''' for no login, on loopback only [default: gsk]')
            [CompletionResult]::new('--password-file', '--password-file', [CompletionResultType]::ParameterName, 'File with the password, 8 to 128 of A-Z, a-z, 0-9 and -._~ [default: one made at random, printed once, and kept below $XDG_STATE_HOME/gsk]')
            [CompletionResult]::new('--docker-compose', '--docker-compose', [CompletionResultType]::ParameterName, 'Take image, ports, environment and volumes from the service ''nsight-streamer'' of this file, where no flag says otherwise')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'Keys that take the place of the shipped profile''s, such as environment, mounts, shm, ready or errors')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a start may take, once the image is here, such as 5m [default: 2m]')
            [CompletionResult]::new('--name', '--name', [CompletionResultType]::ParameterName, 'Which one, where several are to run [default: nsys or ncu]')
            [CompletionResult]::new('--open', '--open', [CompletionResultType]::ParameterName, 'Open this report')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;nsight;stop' {
            [CompletionResult]::new('--name', '--name', [CompletionResultType]::ParameterName, 'Which one, where several are to run [default: nsys or ncu]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--all', '--all', [CompletionResultType]::ParameterName, 'All of them')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;nsight;status' {
            [CompletionResult]::new('--name', '--name', [CompletionResultType]::ParameterName, 'Which one, where several are to run [default: nsys or ncu]')
            [CompletionResult]::new('--watch', '--watch', [CompletionResultType]::ParameterName, 'Look again every so many seconds, 0.1 to 3600, until Ctrl-C; with JSON it prints one object a line [default: 2]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;nsight;logs' {
            [CompletionResult]::new('--name', '--name', [CompletionResultType]::ParameterName, 'Which one, where several are to run [default: nsys or ncu]')
            [CompletionResult]::new('--tail', '--tail', [CompletionResultType]::ParameterName, 'The last so many lines, 0 to 1000000 [default: 200]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'Go on with what it writes, until it ends or Ctrl-C')
            [CompletionResult]::new('--follow', '--follow', [CompletionResultType]::ParameterName, 'Go on with what it writes, until it ends or Ctrl-C')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;nsight;open' {
            [CompletionResult]::new('--tool', '--tool', [CompletionResultType]::ParameterName, 'Whose windows [default: nsys]')
            [CompletionResult]::new('--image', '--image', [CompletionResultType]::ParameterName, 'Image, with its tag or without [default: nvcr.io/nvidia/devtools/nsight-streamer-nsys or -ncu]')
            [CompletionResult]::new('--tag', '--tag', [CompletionResultType]::ParameterName, 'Tag of the image; as new as the tool that wrote the reports, or newer [default: 2026.4.1 for nsys, 2026.2.1 for ncu]')
            [CompletionResult]::new('--reports', '--reports', [CompletionResultType]::ParameterName, 'Folder of the reports; the container can only read it [default: ./profiling_output]')
            [CompletionResult]::new('--port', '--port', [CompletionResultType]::ParameterName, 'Port of the page [default: 8080]')
            [CompletionResult]::new('--turn-port', '--turn-port', [CompletionResultType]::ParameterName, 'Port that the pictures come by (TURN over TCP); the same inside the container and out [default: 3478]')
            [CompletionResult]::new('--bind', '--bind', [CompletionResultType]::ParameterName, 'Address that both ports listen on; beyond loopback the password is what keeps others out [default: 127.0.0.1]')
            [CompletionResult]::new('--host-ip', '--host-ip', [CompletionResultType]::ParameterName, 'Address that the browser finds the TURN port by [default: that of --bind; for 0.0.0.0 this machine''s own]')
            [CompletionResult]::new('--max-resolution', '--max-resolution', [CompletionResultType]::ParameterName, 'Largest picture [default: 1920x1080]')
            [CompletionResult]::new('--no-resize', '--no-resize', [CompletionResultType]::ParameterName, 'Keep the picture''s size, whatever the browser window''s')
            [CompletionResult]::new('--gpu', '--gpu', [CompletionResultType]::ParameterName, 'GPU of the container: auto, none, nvidia-smi''s index, a UUID or a PCI address; without one the CPU draws [default: auto]')
            [CompletionResult]::new('--username', '--username', [CompletionResultType]::ParameterName, 'User to log in as; '''' for no login, on loopback only [default: gsk]')
            [CompletionResult]::new('--password-file', '--password-file', [CompletionResultType]::ParameterName, 'File with the password, 8 to 128 of A-Z, a-z, 0-9 and -._~ [default: one made at random, printed once, and kept below $XDG_STATE_HOME/gsk]')
            [CompletionResult]::new('--docker-compose', '--docker-compose', [CompletionResultType]::ParameterName, 'Take image, ports, environment and volumes from the service ''nsight-streamer'' of this file, where no flag says otherwise')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'Keys that take the place of the shipped profile''s, such as environment, mounts, shm, ready or errors')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a start may take, once the image is here, such as 5m [default: 2m]')
            [CompletionResult]::new('--name', '--name', [CompletionResultType]::ParameterName, 'Which one, where several are to run [default: nsys or ncu]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;nsight;help' {
            [CompletionResult]::new('start', 'start', [CompletionResultType]::ParameterValue, 'Start it, and say where to look: page, password, tunnel, reports')
            [CompletionResult]::new('stop', 'stop', [CompletionResultType]::ParameterValue, 'Stop and remove it; other programs'' containers are left alone')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'What runs, since when, and how it does: state, ports, page, reports, image, GPU')
            [CompletionResult]::new('logs', 'logs', [CompletionResultType]::ParameterValue, 'What it has written')
            [CompletionResult]::new('open', 'open', [CompletionResultType]::ParameterValue, 'Open the page in this machine''s browser, or one report in it')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'gsk;nsight;help;start' {
            break
        }
        'gsk;nsight;help;stop' {
            break
        }
        'gsk;nsight;help;status' {
            break
        }
        'gsk;nsight;help;logs' {
            break
        }
        'gsk;nsight;help;open' {
            break
        }
        'gsk;nsight;help;help' {
            break
        }
        'gsk;isaac' {
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('start', 'start', [CompletionResultType]::ParameterValue, 'Start instances, one after the other, each waited for until it can be watched')
            [CompletionResult]::new('stop', 'stop', [CompletionResultType]::ParameterValue, 'Stop and remove instances; their caches stay')
            [CompletionResult]::new('restart', 'restart', [CompletionResultType]::ParameterValue, 'Stop instances and start them again, the others left alone')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'What runs, since when, and how it does')
            [CompletionResult]::new('logs', 'logs', [CompletionResultType]::ParameterValue, 'What an instance has written')
            [CompletionResult]::new('cleanup', 'cleanup', [CompletionResultType]::ParameterValue, 'List instances that have ended, and with --remove remove them')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'gsk;isaac;start' {
            [CompletionResult]::new('--instances', '--instances', [CompletionResultType]::ParameterName, 'As many instances, 1 to 64; versions 4.5 to 5.1 bear one [default: 1]')
            [CompletionResult]::new('--accept-eula', '--accept-eula', [CompletionResultType]::ParameterName, 'You accept NVIDIA''s licence of Isaac Sim; without, nothing is started')
            [CompletionResult]::new('--privacy-consent', '--privacy-consent', [CompletionResultType]::ParameterName, 'You let Isaac Sim send NVIDIA data on its use [default: false]')
            [CompletionResult]::new('--image', '--image', [CompletionResultType]::ParameterName, 'Image, with its tag or without [default: nvcr.io/nvidia/isaac-sim]')
            [CompletionResult]::new('--tag', '--tag', [CompletionResultType]::ParameterName, 'Tag of the image: the version, which decides how it is started [default: 6.0.0]')
            [CompletionResult]::new('--data', '--data', [CompletionResultType]::ParameterName, 'Folder of caches, settings and logs, by version and instance [default: gsk/isaac below $XDG_DATA_HOME]')
            [CompletionResult]::new('--gpu', '--gpu', [CompletionResultType]::ParameterName, 'GPU: auto, nvidia-smi''s index, a UUID or a PCI address; of several, instances take one each in turn [default: auto]')
            [CompletionResult]::new('--memory-limit', '--memory-limit', [CompletionResultType]::ParameterName, 'The most memory that an instance may have, such as 32G [default: no limit]')
            [CompletionResult]::new('--memory-each', '--memory-each', [CompletionResultType]::ParameterName, 'Memory that an instance is taken to need: one for which it is not there is not started [default: 8G]')
            [CompletionResult]::new('--gpu-memory-each', '--gpu-memory-each', [CompletionResultType]::ParameterName, 'The same of a GPU''s memory, where NVML tells what is free [default: 8G]')
            [CompletionResult]::new('--host-ip', '--host-ip', [CompletionResultType]::ParameterName, 'Address that the viewer finds the stream at [default: 127.0.0.1]')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'Keys that take the place of the shipped profile''s, such as command, environment, ports, ready or errors')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long the start of an instance may take, once the image is here; the first compiles shaders [default: 20m]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;isaac;stop' {
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--all', '--all', [CompletionResultType]::ParameterName, 'All of them')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;isaac;restart' {
            [CompletionResult]::new('--accept-eula', '--accept-eula', [CompletionResultType]::ParameterName, 'You accept NVIDIA''s licence of Isaac Sim; without, nothing is started')
            [CompletionResult]::new('--privacy-consent', '--privacy-consent', [CompletionResultType]::ParameterName, 'You let Isaac Sim send NVIDIA data on its use [default: false]')
            [CompletionResult]::new('--image', '--image', [CompletionResultType]::ParameterName, 'Image, with its tag or without [default: nvcr.io/nvidia/isaac-sim]')
            [CompletionResult]::new('--tag', '--tag', [CompletionResultType]::ParameterName, 'Tag of the image: the version, which decides how it is started [default: 6.0.0]')
            [CompletionResult]::new('--data', '--data', [CompletionResultType]::ParameterName, 'Folder of caches, settings and logs, by version and instance [default: gsk/isaac below $XDG_DATA_HOME]')
            [CompletionResult]::new('--gpu', '--gpu', [CompletionResultType]::ParameterName, 'GPU: auto, nvidia-smi''s index, a UUID or a PCI address; of several, instances take one each in turn [default: auto]')
            [CompletionResult]::new('--memory-limit', '--memory-limit', [CompletionResultType]::ParameterName, 'The most memory that an instance may have, such as 32G [default: no limit]')
            [CompletionResult]::new('--memory-each', '--memory-each', [CompletionResultType]::ParameterName, 'Memory that an instance is taken to need: one for which it is not there is not started [default: 8G]')
            [CompletionResult]::new('--gpu-memory-each', '--gpu-memory-each', [CompletionResultType]::ParameterName, 'The same of a GPU''s memory, where NVML tells what is free [default: 8G]')
            [CompletionResult]::new('--host-ip', '--host-ip', [CompletionResultType]::ParameterName, 'Address that the viewer finds the stream at [default: 127.0.0.1]')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'Keys that take the place of the shipped profile''s, such as command, environment, ports, ready or errors')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long the start of an instance may take, once the image is here; the first compiles shaders [default: 20m]')
            [CompletionResult]::new('--instances', '--instances', [CompletionResultType]::ParameterName, 'As many instances, 1 to 64; versions 4.5 to 5.1 bear one [default: 1]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;isaac;status' {
            [CompletionResult]::new('--watch', '--watch', [CompletionResultType]::ParameterName, 'Look again every so many seconds, 0.1 to 3600, until Ctrl-C; with JSON it prints one object a line [default: 2]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;isaac;logs' {
            [CompletionResult]::new('--tail', '--tail', [CompletionResultType]::ParameterName, 'The last so many lines, 0 to 1000000 [default: 200]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'Go on with what it writes, until it ends or Ctrl-C')
            [CompletionResult]::new('--follow', '--follow', [CompletionResultType]::ParameterName, 'Go on with what it writes, until it ends or Ctrl-C')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;isaac;cleanup' {
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'How to print data [default: table]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour; NO_COLOR is heeded [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses')
            [CompletionResult]::new('--remove', '--remove', [CompletionResultType]::ParameterName, 'Remove what is listed')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('--csv', '--csv', [CompletionResultType]::ParameterName, 'Short for --format csv')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what failed')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; twice for everything')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print every setting and where it came from, and end')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'gsk;isaac;help' {
            [CompletionResult]::new('start', 'start', [CompletionResultType]::ParameterValue, 'Start instances, one after the other, each waited for until it can be watched')
            [CompletionResult]::new('stop', 'stop', [CompletionResultType]::ParameterValue, 'Stop and remove instances; their caches stay')
            [CompletionResult]::new('restart', 'restart', [CompletionResultType]::ParameterValue, 'Stop instances and start them again, the others left alone')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'What runs, since when, and how it does')
            [CompletionResult]::new('logs', 'logs', [CompletionResultType]::ParameterValue, 'What an instance has written')
            [CompletionResult]::new('cleanup', 'cleanup', [CompletionResultType]::ParameterValue, 'List instances that have ended, and with --remove remove them')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'gsk;isaac;help;start' {
            break
        }
        'gsk;isaac;help;stop' {
            break
        }
        'gsk;isaac;help;restart' {
            break
        }
        'gsk;isaac;help;status' {
            break
        }
        'gsk;isaac;help;logs' {
            break
        }
        'gsk;isaac;help;cleanup' {
            break
        }
        'gsk;isaac;help;help' {
            break
        }
        'gsk;help' {
            [CompletionResult]::new('serve', 'serve', [CompletionResultType]::ParameterValue, 'Stream a source to browsers: captured and encoded once, watched by many')
            [CompletionResult]::new('lease', 'lease', [CompletionResultType]::ParameterValue, 'The machine''s encoder slots, for programs that are not gsk')
            [CompletionResult]::new('nvenc-status', 'nvenc-status', [CompletionResultType]::ParameterValue, 'Who holds the encoder sessions, how many there are, and what each worker does and why')
            [CompletionResult]::new('cleanup', 'cleanup', [CompletionResultType]::ParameterValue, 'What dead owners left of encoder slots: says what it is and, where asked to, cleans it up')
            [CompletionResult]::new('verify-gl', 'verify-gl', [CompletionResultType]::ParameterValue, 'Proves that OpenGL''s pixels reach CUDA on this host, byte for byte, or says which step fails and what to do')
            [CompletionResult]::new('view', 'view', [CompletionResultType]::ParameterValue, 'Watch a worker without a browser, and measure what arrives: rates, gaps, latency, joins')
            [CompletionResult]::new('bench', 'bench', [CompletionResultType]::ParameterValue, 'Where every millisecond goes, from capture to a viewer''s hands, and a gate for CI')
            [CompletionResult]::new('train-nvtx', 'train-nvtx', [CompletionResultType]::ParameterValue, 'Profile a training program with nsys and NVTX ranges, or a built-in training run, and sum up its ranges')
            [CompletionResult]::new('nsight', 'nsight', [CompletionResultType]::ParameterValue, 'Nsight Streamer: the windows of Nsight Systems or Nsight Compute in a browser, over a folder of reports')
            [CompletionResult]::new('isaac', 'isaac', [CompletionResultType]::ParameterValue, 'Isaac Sim: headless instances that stream, each with its ports, its GPU and its caches')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'gsk;help;serve' {
            break
        }
        'gsk;help;lease' {
            [CompletionResult]::new('run', 'run', [CompletionResultType]::ParameterValue, 'Run an encoder program, such as ffmpeg with h264_nvenc, with one of the machine''s encoder slots')
            break
        }
        'gsk;help;lease;run' {
            break
        }
        'gsk;help;nvenc-status' {
            break
        }
        'gsk;help;cleanup' {
            break
        }
        'gsk;help;verify-gl' {
            break
        }
        'gsk;help;view' {
            break
        }
        'gsk;help;bench' {
            break
        }
        'gsk;help;train-nvtx' {
            break
        }
        'gsk;help;nsight' {
            [CompletionResult]::new('start', 'start', [CompletionResultType]::ParameterValue, 'Start it, and say where to look: page, password, tunnel, reports')
            [CompletionResult]::new('stop', 'stop', [CompletionResultType]::ParameterValue, 'Stop and remove it; other programs'' containers are left alone')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'What runs, since when, and how it does: state, ports, page, reports, image, GPU')
            [CompletionResult]::new('logs', 'logs', [CompletionResultType]::ParameterValue, 'What it has written')
            [CompletionResult]::new('open', 'open', [CompletionResultType]::ParameterValue, 'Open the page in this machine''s browser, or one report in it')
            break
        }
        'gsk;help;nsight;start' {
            break
        }
        'gsk;help;nsight;stop' {
            break
        }
        'gsk;help;nsight;status' {
            break
        }
        'gsk;help;nsight;logs' {
            break
        }
        'gsk;help;nsight;open' {
            break
        }
        'gsk;help;isaac' {
            [CompletionResult]::new('start', 'start', [CompletionResultType]::ParameterValue, 'Start instances, one after the other, each waited for until it can be watched')
            [CompletionResult]::new('stop', 'stop', [CompletionResultType]::ParameterValue, 'Stop and remove instances; their caches stay')
            [CompletionResult]::new('restart', 'restart', [CompletionResultType]::ParameterValue, 'Stop instances and start them again, the others left alone')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'What runs, since when, and how it does')
            [CompletionResult]::new('logs', 'logs', [CompletionResultType]::ParameterValue, 'What an instance has written')
            [CompletionResult]::new('cleanup', 'cleanup', [CompletionResultType]::ParameterValue, 'List instances that have ended, and with --remove remove them')
            break
        }
        'gsk;help;isaac;start' {
            break
        }
        'gsk;help;isaac;stop' {
            break
        }
        'gsk;help;isaac;restart' {
            break
        }
        'gsk;help;isaac;status' {
            break
        }
        'gsk;help;isaac;logs' {
            break
        }
        'gsk;help;isaac;cleanup' {
            break
        }
        'gsk;help;help' {
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}

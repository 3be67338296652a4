#!/usr/bin/env bash
# What only a machine with an NVIDIA GPU can show. Needs bash, coreutils, sed, awk and the built binary, no network and no
# toolkit; ends within five minutes, and prints one JSON document: checks, figures as the workers measured them over their
# last ten seconds, and what gsk bench found of each stage alone. Exit code: 0 all is well, 1 a check failed; figures fail
# nothing.
#
#     GSK=target/release/gsk tests/gpu.sh > tests/gpu-results/BOARD-DATE.json
#
# GSK_NVJPEG_LIBRARY names a libnvjpeg.so.12 that is elsewhere. GSK_FIGURE_SECONDS: how long each figure is taken (13).
# GSK_BENCH: what gsk bench is to measure (--size 1080p --frames 60 --warmup 5).
set -u
gsk=${GSK:-target/release/gsk}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export GSK_LEASE_DIR=$scratch/leases
cd "$(dirname "$gsk")" && gsk=$PWD/$(basename "$gsk") || exit 2

# Standard input as the inside of a JSON string.
quoted() {
    tr -d '\000-\010\013-\037' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\t/\\t/g' | awk '{ printf "%s%s", sep, $0; sep = "\\n" }'
}

checks='' failed=0
# check ID GOOD(0|1) EXIT_CODE: one row, with what is in the files out (a JSON line, or nothing) and err.
check() {
    local out
    out=$(head -n 1 "$scratch/out")
    [[ $out == '{'* ]] || out="\"$(quoted <"$scratch/out")\""
    (($2 == 0)) || failed=$((failed + 1))
    checks+="${checks:+,}{\"id\":\"$1\",\"good\":$([[ $2 == 0 ]] && echo true || echo false),\"exit\":$3,\"seconds\":$((SECONDS - began)),"
    checks+="\"out\":$out,\"err\":\"$(quoted <"$scratch/err")\"}"
}

# run WORDS...: gsk with a time limit; its exit code is in $code.
run() {
    began=$SECONDS
    timeout 60 "$gsk" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
    code=$?
}

says() { grep -qE "$1" "$scratch/out" "$scratch/err"; }

run nvenc-status --format jsonl
((code == 0)) && says '"state":"ready"' && says '"name":"[^"]'
check inventory $? $code
engine=1
says '"engines":0' && ! says '"engines":[1-9]' && engine=0

# With an engine a limit is found, or that there is none; without one, that is said.
run nvenc-status --probe --format jsonl
if ((engine)); then ((code == 0)); else ((code == 3)) && says 'no NVENC engine'; fi
check probe $? $code

# OpenGL is NVIDIA's, and its pixels reach CUDA.
run verify-gl --format jsonl
((code == 0)) && says '"id":"context",[^}]*"verdict":"pass"' && says '"id":"gl-to-cuda",[^}]*"verdict":"pass"'
check verify_gl $? $code

run lease run --slots 1 -- true
check lease $code $code

# A request on a descriptor: ask FD PORT PATH.
ask() {
    eval "exec $1<>/dev/tcp/127.0.0.1/$2"
    printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n\r\n' "$3" "$2" >&"$1"
}

# Clock ticks of CPU time that a process has had.
ticks() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }

# watch PATH SECONDS WORDS...: a worker with one viewer; its /status is in out, its use of a core in $cpu (%).
watch() {
    began=$SECONDS cpu=null
    local port='' path=$1 seconds=$2 before after from
    shift 2
    "$gsk" serve --listen 0 "$@" >"$scratch/url" 2>"$scratch/err" </dev/null &
    local pid=$!
    for _ in $(seq 100); do
        port=$(sed -n 's#^http://127\.0\.0\.1:\([0-9]*\)/.*#\1#p' "$scratch/url")
        [[ -n $port ]] || ! kill -0 $pid 2>/dev/null && break
        sleep 0.1
    done
    : >"$scratch/out"
    if [[ -n $port ]]; then
        ask 3 "$port" "$path"
        before=$(ticks $pid) from=$EPOCHREALTIME
        timeout "$seconds" cat <&3 >/dev/null
        after=$(ticks $pid)
        cpu=$(awk -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" -v from="$from" -v to="$EPOCHREALTIME" \
            'BEGIN { printf "%.1f", 100 * ticks / hz / (to - from) }')
        ask 4 "$port" /status
        sed '1,/^\r$/d' <&4 >"$scratch/out"
        exec 3>&- 4>&-
        kill $pid 2>/dev/null
    fi
    wait $pid
    code=$?
}

serve() { watch /stream.mp4 5 "$@"; }

# The scene is drawn by the GPU, and comes at its rate.
serve --size 1920x1080 --fps 60
says '"source_detail":"[^"]*NVIDIA' && says '"frames_fps":(5[5-9]|6[0-5])'
check scene_on_gpu $? $code

# The encoder is the GPU's where it has one; else it is told why not.
if ((engine)); then says '"backend":"nvenc"'; else says '"cause":"no-engine"'; fi
check encoder $? $code

serve --encoder nvenc --size 1280x720
if ((engine)); then says '"backend":"nvenc"' && says '"frames_fps":(2[89]|3[0-2])'; else ((code == 3)) && says 'no NVENC engine'; fi
check nvenc $? $code

# JPEG by the GPU; where its library is not, that is said.
watch /stream.mjpg 5 --encoder nvjpeg --size 640x360
if ((code == 3)); then says 'libnvjpeg'; else says '"backend":"nvjpeg"' && says '"frames_fps":(2[89]|3[0-2])'; fi
check nvjpeg $? $code

# Each stage alone. What the GPU has of them is measured, or said not to be here, with the reason.
began=$SECONDS
# shellcheck disable=SC2086 # words
timeout -s INT -k 10 120 "$gsk" bench capture convert encode decode pipeline --format jsonl -q \
    ${GSK_BENCH:---size 1080p --frames 60 --warmup 5} >"$scratch/bench" 2>"$scratch/err" </dev/null
code=$?

# row CASE BACKEND FIELD: whether there is such a row with that field: "detail" where it was measured, "reason" where not.
row() { grep -qE "\"case\":\"$1\",\"backend\":\"$2\",\"codec\":[^,]*,\"size\":[^,]*,\"($3)\":\"[^\"]" "$scratch/bench"; }

rows_are_there() {
    local wanted
    for wanted in 'encode nvenc' 'decode nvdec' 'encode nvjpeg'; do
        row ${wanted} 'detail|reason' || return 1
    done
    grep -q '"case":"capture","backend":null,[^}]*, on the device"' "$scratch/bench" || row capture cuda reason
}

((code == 0)) && rows_are_there
good=$?
# Of the document only why rows are not here; it stands whole at the end.
grep -oE '"case":"[a-z]*","backend":"(cuda|nvenc|nvdec|nvjpeg)","codec":[^,]*,"size":[^,]*,"reason":"[^"]*"' "$scratch/bench" \
    >"$scratch/out"
check bench $good $code
bench=$(head -n 1 "$scratch/bench")
[[ $bench == '{'* ]] || bench=null

# The built-in training run learns on the device.
run train-nvtx 2 64 gpu 2 --no-nsys --output-dir "$scratch/profiles" --format jsonl
((code == 0)) && says '"no_cuda":null' && says '"epoch":2,"loss":[^,]*,"accuracy":(1\.0|0\.9)'
check training $? $code

# figure ID PATH WORDS...: what a worker measured, or why there is none.
figures=''
figure() {
    local id=$1 path=$2
    shift 2
    watch "$path" "${GSK_FIGURE_SECONDS:-13}" "$@"
    local status
    status=$(head -n 1 "$scratch/out")
    [[ $status == '{'* ]] || status=null
    figures+="${figures:+,}{\"id\":\"$id\",\"cpu_percent\":$cpu,\"status\":$status,\"err\":\"$(quoted <"$scratch/err")\"}"
}

for size in 1920x1080 3840x2160; do
    figure "h264-$size" /stream.mp4 --size $size --fps 60 --bitrate 20M
    figure "nvjpeg-$size" /stream.mjpg --encoder nvjpeg --jpeg-quality 80 --size $size --fps 60
done

printf '{"schema":{"name":"gsk.gpu-checks","version":2},"gsk":"%s","at":"%s","failed":%d,"checks":[%s],"figures":[%s],"bench":%s}\n' \
    "$("$gsk" -V | quoted)" "$(date -u +%FT%TZ)" "$failed" "$checks" "$figures" "$bench"
((failed == 0))

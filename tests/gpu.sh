#!/usr/bin/env bash
# What only a machine with an NVIDIA GPU can show. Needs bash, coreutils and the built binary, no network and no toolkit;
# ends within two minutes, and prints one JSON document. Exit code: 0 all is well, 1 a check failed.
#
#     GSK=target/release/gsk tests/gpu.sh > tests/gpu-results/BOARD-DATE.json
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

# serve WORDS...: a worker with one viewer for five seconds; its /status is in out, $first is the state by then.
serve() {
    began=$SECONDS
    local port=
    "$gsk" serve --listen 0 "$@" >"$scratch/url" 2>"$scratch/err" </dev/null &
    local pid=$!
    for _ in $(seq 100); do
        port=$(sed -n 's#^http://127\.0\.0\.1:\([0-9]*\)/.*#\1#p' "$scratch/url")
        [[ -n $port ]] || ! kill -0 $pid 2>/dev/null && break
        sleep 0.1
    done
    : >"$scratch/out"
    if [[ -n $port ]]; then
        exec 3<>"/dev/tcp/127.0.0.1/$port"
        printf 'GET /stream.mp4 HTTP/1.1\r\nHost: 127.0.0.1:%s\r\n\r\n' "$port" >&3
        timeout 5 cat <&3 >"$scratch/mp4"
        exec 4<>"/dev/tcp/127.0.0.1/$port"
        printf 'GET /status HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n\r\n' "$port" >&4
        sed '1,/^\r$/d' <&4 >"$scratch/out"
        exec 3>&- 4>&-
        kill $pid 2>/dev/null
    fi
    wait $pid
    code=$?
}

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

printf '{"schema":{"name":"gsk.gpu-checks","version":1},"gsk":"%s","at":"%s","failed":%d,"checks":[%s]}\n' \
    "$("$gsk" -V | quoted)" "$(date -u +%FT%TZ)" "$failed" "$checks"
((failed == 0))

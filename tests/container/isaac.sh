#!/bin/sh
# Stands in for Isaac Sim: checks what it is given, says what the vendor's says while it starts, listens where it was told,
# and fails as STAND says.
fail() {
    echo "stand-in: $*" >&2
    exit 41
}
[ "$ACCEPT_EULA" = Y ] || {
    echo "To use this container you must accept the NVIDIA licence: ACCEPT_EULA=Y"
    exit 1
}
[ "$1" = -v ] || fail "started with $*"
shift
for word in "$@"; do
    case "$word" in
    --/exts/omni.services.transport.server.http/port=* | --/app/livestream/port=*) port=${port:-${word##*=}} ;;
    esac
done
case "$ISAAC_VERSION" in
6*)
    port=$ISAACSIM_SIGNAL_PORT
    [ -n "$ISAACSIM_HOST" ] && [ -n "$ISAACSIM_STREAM_PORT" ] || fail "no host, or no stream port"
    folders="/isaac-sim/.cache /isaac-sim/.nv/ComputeCache /isaac-sim/.nvidia-omniverse/logs /isaac-sim/.nvidia-omniverse/config
        /isaac-sim/.local/share/ov/data /isaac-sim/.local/share/ov/pkg /var/cache/hub"
    [ "$(id -u):$(id -g)" = 1234:1234 ] || fail "user $(id -u):$(id -g)"
    loaded="Isaac Sim Full Streaming App is loaded."
    ;;
5*)
    folders="/isaac-sim/.cache /var/cache/hub"
    [ "$(id -u)" = 1234 ] || fail "user $(id -u)"
    loaded="Isaac Sim Full Streaming App is loaded."
    ;;
*)
    folders="/root/.cache/ov /root/.nv/ComputeCache"
    [ "$(id -u)" = 0 ] || fail "user $(id -u)"
    loaded="Isaac Sim Headless WebRTC App is loaded."
    ;;
esac
for folder in $folders; do
    touch "$folder/written" || fail "$folder cannot be written"
done
trap 'exit 0' TERM
echo "[0.1s] [ext: omni.kit.livestream.app] startup"
case "$STAND" in
gpu) echo "[Error] [carb] no suitable CUDA GPU was found" ;;
rtx)
    echo "[Error] [rtx::resourcemanager] cannot allocate" >&2
    exit 1
    ;;
esac
[ -n "$STAND" ] && {
    sleep 1000 &
    wait
}
sleep 0.3
echo "[3.2s] Compiling shaders"
nc -ll -p "$port" -e echo "signal $port" &
sleep 0.3
echo "$loaded"
wait

#!/bin/sh
# Stands in for NVIDIA's Nsight Streamer: checks what it is given, serves a page behind the login it was told, and fails
# as STAND says.
fail() {
    echo "stand-in: $*" >&2
    exit 41
}
[ -e /started ] && {
    echo "ln: failed to create symbolic link '/usr/local/bin/nsys-ui': File exists" >&2
    exit 1
}
touch /started
case "$STAND" in
exit)
    echo "Xvfb: starting"
    printf '\033[31mselkies: cannot go on\033[0m' >&2
    exit 3
    ;;
never)
    echo "waiting for nothing"
    trap 'exit 0' TERM
    sleep 1000 &
    wait
    ;;
esac
[ "$HTTP_PORT" = 8080 ] || fail "HTTP_PORT=$HTTP_PORT"
[ -n "$TURN_PORT" ] || fail "no TURN_PORT"
[ -n "$HOST_IP" ] || fail "no HOST_IP"
[ "$ENABLE_RESIZE" = true ] || [ "$ENABLE_RESIZE" = false ] || fail "ENABLE_RESIZE=$ENABLE_RESIZE"
case "$MAX_RESOLUTION" in *x*) ;; *) fail "MAX_RESOLUTION=$MAX_RESOLUTION" ;; esac
[ "$WEB_USERNAME$WEB_PASSWORD" = nvidianvidia ] && fail "the published password"
reports=${STAND_REPORTS:-/mnt/host/reports}
[ -d "$reports" ] || fail "no reports"
[ -z "$STAND_REPORTS" ] && touch "$reports/written" 2>/dev/null && fail "the reports can be written"
mkdir /www
ls "$reports" >/www/reports
echo "$DEVTOOL_CMD" >/www/tool
id -u >/www/user
echo "a page" >/www/index.html
if [ -n "$WEB_USERNAME" ]; then
    echo "/:$WEB_USERNAME:$WEB_PASSWORD" >/etc/httpd.conf
else
    : >/etc/httpd.conf
fi
echo "Xvfb: starting"
sleep "${STAND_DELAY:-0.5}"
echo "selkies: listening"
nc -ll -p "$TURN_PORT" -e echo turn &
# The first process of a container dies of no signal that it does not ask for.
trap 'exit 0' TERM
httpd -f -p "$HTTP_PORT" -h /www -c /etc/httpd.conf -r stand-in &
wait

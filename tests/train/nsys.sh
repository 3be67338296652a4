#!/bin/sh
# Stands in for nsys: keeps what it is told in $NSYS_SEEN, runs the program, and writes a report. $NSYS_MODE makes it
# another: old, no-report, no-nvtx, no-gpu, broken-stats, slow (the report is written once somebody writes to $NSYS_GATE),
# slow-start (the program begins then), half-stats, killed-stats.
mode=${NSYS_MODE:-}
printf '%s\n' "$@" '' >>"$NSYS_SEEN"
case $1 in
--version)
    case $mode in
    old) echo 'NVIDIA Nsight Systems version 2022.4.2.18-32044700v0' ;;
    *) echo 'NVIDIA Nsight Systems version 2025.3.1.90-253135822126v0' ;;
    esac
    ;;
profile)
    trap 'echo nsys >>"$NSYS_SEEN.signals"' INT TERM
    shift
    while :; do
        case $1 in
        --output=*) report=$(printf '%s' "${1#--output=}" | sed 's/%%/%/g') ;;
        --*) ;;
        *) break ;;
        esac
        shift
    done
    [ "$mode" = slow-start ] && read -r _ <"$NSYS_GATE"
    "$@"
    code=$?
    [ "$mode" = slow ] && read -r _ <"$NSYS_GATE"
    [ "$mode" = no-report ] || {
        echo "Generating '/tmp/nsys-report-fc97.qdstrm'"
        echo "[1/1] [========================100%] $(basename "$report").nsys-rep"
        echo report >"$report.nsys-rep"
    }
    exit $code
    ;;
stats)
    name=$3
    for file; do :; done
    base=$(basename "${file%.nsys-rep}")
    echo export >"${file%.nsys-rep}.sqlite"
    case $mode-$name in
    no-nvtx-* | no-gpu-nvtx_gpu_proj_sum)
        echo "Processing [$base.sqlite] with [/opt/nvidia/nsight-systems/2025.3.1/host-linux-x64/reports/$name.py]... "
        what='NV Tools Extension (NVTX)'
        [ "$mode" = no-gpu ] && what='CUDA API'
        echo "SKIPPED: $base.sqlite does not contain $what data."
        ;;
    broken-stats-*)
        echo 'ERROR: the database is locked' >&2
        exit 1
        ;;
    *)
        sed "s/REPORT/$base/" "$NSYS_REPORTS/$name.txt"
        case $mode in
        half-stats) exit 4 ;;
        killed-stats) kill -KILL $$ ;;
        esac
        ;;
    esac
    ;;
esac

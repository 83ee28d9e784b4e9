#!/usr/bin/env bash
# Runs every measurement of myceliumctl bench and prints Markdown tables for the
# documentation. Each line is the median of runs that alternate with the bare
# machine; compare ratios, since a machine drifts.
#
#   scripts/bench.sh [CPUS]     CPUS as in --cpus, default 0,1
#
# RUNS=9 and DURATION=1s may be set. Takes about two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

cpus=${1:-0,1}
runs=${RUNS:-9}
duration=${DURATION:-1s}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/myceliumctl" ./cmd/myceliumctl

bench() { "$dir/myceliumctl" bench "$@" --cpus "$cpus" --runs "$runs" -o json; }
# field NAME: the number of that name in a line of JSON.
field() { sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p" <<<"$json"; }
million() { awk -v v="$(field "$1")" 'BEGIN { printf "%.1f", v / 1e6 }'; }
whole() { awk -v v="$(field "$1")" 'BEGIN { printf "%.0f", v }'; }
two() { awk -v v="$(field "$1")" 'BEGIN { printf "%.2f", v }'; }

echo "$(date -u +%Y-%m-%d), $(go version | cut -d' ' -f3,4), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), processors $cpus, $runs runs"
echo
echo '| one way, ns | p50 | p99 | p99.9 | floor p50 | floor p99.9 | p50 / floor | p99.9 / p50 |'
echo '|---|---|---|---|---|---|---|---|'
for size in 64 256 1024; do
	json=$(bench latency --size "$size")
	echo "| $size B, spinning | $(whole p50_ns) | $(whole p99_ns) | $(whole p999_ns) | $(whole floor_p50_ns) | $(whole floor_p999_ns) | $(two ratio_p50) | $(two ratio_p999) |"
done
json=$(bench latency --idle park)
echo "| 64 B, parked (floor: bare futex) | $(whole wake_p50_ns) | $(whole wake_p99_ns) | $(whole wake_p999_ns) | $(whole futex_p50_ns) | $(whole futex_p999_ns) | $(two ratio_wake) | |"

echo
echo '| M msg/s | min | median | max | baseline min | baseline median | baseline max | bus / baseline | lost |'
echo '|---|---|---|---|---|---|---|---|---|'
row() {
	local title=$1
	shift
	json=$(bench throughput --duration "$duration" "$@")
	echo "| $title | $(million msgs_per_second_min) | $(million msgs_per_second) | $(million msgs_per_second_max) | $(million baseline_msgs_per_second_min) | $(million baseline_msgs_per_second) | $(million baseline_msgs_per_second_max) | $(two ratio) | $(whole lost) |"
}
for size in 64 256 1024; do
	row "$size B, one to one, lossless" --size "$size"
done
row '64 B, one to three, lossless' --size 64 --subscribers 3
row '64 B, two to one, lossless' --size 64 --publishers 2
row '64 B, one to one, lossy' --size 64 --mode lossy

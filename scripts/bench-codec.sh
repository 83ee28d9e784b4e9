#!/usr/bin/env bash
# bench-codec.sh prints what the codec does on one core, as a Markdown table: the
# median of RUNS (9) runs of each benchmark, with the slowest and fastest. ClaimTrade
# builds into a claim of a lane, Claim and Commit included.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# Runs are short and all benchmarks take turns, so that a bad moment of the machine hits them all.
go test -c -o "$dir/codec.test" ./codec
go test -c -o "$dir/claim.test" ./torqbridge
for ((run = 0; run < ${RUNS:-9}; run++)); do
	GOMAXPROCS=1 "$dir/claim.test" -test.run '^$' -test.bench 'ClaimTrade' -test.benchtime 60ms
	GOMAXPROCS=1 "$dir/codec.test" -test.run '^$' -test.bench 'Trade|Split|Checksum/|Validate' -test.benchtime 60ms
done >"$dir/out"
echo '| one core | median, M/s | slowest | fastest | allocations |'
echo '|---|---|---|---|---|'
grep -o '^Benchmark[^ 	]*' "$dir/out" | awk '!seen[$1]++' | while read -r name; do
	awk -v name="$name" '$1 == name { for (i = 3; i <= NF; i++) if ($i == "ns/op") print 1000 / $(i - 1), $(NF - 1) }' "$dir/out" | sort -n |
		awk -v name="${name#Benchmark}" '{ v[NR] = $1; if ($2 > allocs) allocs = $2 }
			END { printf "| %s | %.1f | %.1f | %.1f | %d |\n", name, v[int((NR + 1) / 2)], v[1], v[NR], allocs }'
done

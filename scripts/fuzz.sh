#!/usr/bin/env bash
# fuzz.sh TIME runs every fuzz target of the module for TIME, two at a time. An input
# that fails is kept under testdata/fuzz of its package: commit it with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."
time=$1
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

targets=()
while IFS=: read -r file target; do
	targets+=("$(dirname "$file") ${target#func }")
done < <(grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort) # to ask the go command is to build each package once more
((${#targets[@]})) || { echo "no fuzz target found" >&2; exit 1; }

# ended LOG: whether all that a run failed with is the end of its time. Go 1.26 takes
# that for a failure now and then (golang/go#75804, mended in 1.27); whatever a target
# finds comes with other lines between these two.
ended() {
	[ "$(sed -n '/^--- FAIL: /,/^FAIL$/p' "$1" | sed -e 1d -e '$d')" = '    context deadline exceeded' ]
}

run() { # package name
	local log=$logs/$2.${1//\//.}
	if go test -run '^$' -fuzz "^$2\$" -fuzztime="$time" -fuzzminimizetime=20x -parallel=2 "$1" >"$log" 2>&1 || ended "$log"; then
		printf 'ok   %-22s %-28s %s\n' "$1" "$2" "$(grep -o 'execs: [0-9]*' "$log" | tail -1)"
	else
		printf 'FAIL %s %s\n' "$1" "$2"
		cat "$log"
		printf 'run it alone: go test -run ^$ -fuzz ^%s$ -fuzztime=%s %s\n' "$2" "$time" "$1"
		return 1
	fi
}

running=0 failed=0
for target in "${targets[@]}"; do
	if ((running == 2)); then
		wait -n || failed=1
		running=$((running - 1))
	fi
	run $target &
	running=$((running + 1))
done
while ((running)); do
	wait -n || failed=1
	running=$((running - 1))
done
exit $failed

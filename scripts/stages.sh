#!/usr/bin/env bash
# stages.sh TARGET... runs make targets in order and times each. It stops at the
# first that fails and says how to run that one alone.
set -uo pipefail
cd "$(dirname "$0")/.."

summary=()
passed=0
for stage in "$@"; do
	printf '\n== %s\n' "$stage"
	begin=$SECONDS
	if ! "${MAKE:-make}" --no-print-directory "$stage"; then
		printf '\n%s\n' "${summary[@]}" "stage $stage FAILED after $((SECONDS - begin)) s; run it alone: make $stage"
		printf '%d passed, 1 failed, %d skipped\n' "$passed" $(($# - passed - 1))
		exit 1
	fi
	summary+=("$(printf '%-12s %4d s' "$stage" $((SECONDS - begin)))")
	printf -- '-- %s\n' "${summary[-1]}"
	passed=$((passed + 1))
done
printf '\n'
printf '%s\n' "${summary[@]}" "$(printf '%-12s %4d s' total $SECONDS)"
printf '%d passed, 0 failed\n' "$passed"

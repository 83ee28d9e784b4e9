#!/usr/bin/env bash
# cover.sh DIR MIN PACKAGE... prints the statement coverage of each package from the
# counters in DIR, and fails if one of the packages named, relative to the module,
# has less than MIN per cent. DIR/profile.txt is for "go tool cover -html" and -func.
set -euo pipefail
dir=$1 min=$2
shift 2
compgen -G "$dir/covcounters.*" >/dev/null || {
	echo "no counters in $dir: run make cover, or make unit first" >&2
	exit 1
}
go tool covdata textfmt -i="$dir" -o "$dir/profile.txt"
# A line of the profile: file.go:from,to statements count. A block can occur twice.
awk -v module="$(go list -m)/" -v min="$min" -v gated="$*" '
	NR == 1 { next } # mode: atomic
	{ statements[$1] = $2; hit[$1] += $3 }
	END {
		for (block in statements) {
			package = block
			sub(/\/[^\/]*$/, "", package)
			package = substr(package, length(module) + 1)
			all[package] += statements[block]
			if (hit[block]) seen[package] += statements[block]
		}
		count = split(gated, name, " ")
		for (i = 1; i <= count; i++) {
			gate[name[i]] = 1
			if (!(name[i] in all)) { print name[i] ": no counters at all"; failed = 1 }
		}
		for (package in all) if (all[package]) {
			percent = 100 * seen[package] / all[package]
			short = gate[package] && percent < min
			if (short) failed = 1
			printf "%-24s %6.2f %%  %5d of %5d statements%s\n", package, percent, seen[package], all[package],
				short ? "  LESS THAN " min " %" : "" | "sort"
		}
		close("sort")
		if (failed) print "what is not covered: go tool cover -func '"$dir"'/profile.txt"
		exit failed
	}' "$dir/profile.txt"

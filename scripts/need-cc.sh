#!/usr/bin/env bash
# need-cc.sh WHAT fails, and says what to do, if there is no C compiler.
set -euo pipefail
cc=$(go env CC)
command -v "${cc%% *}" >/dev/null || {
	echo "$1 needs a C compiler, and '$cc' is not on this machine." >&2
	echo "Install one (Debian, Ubuntu: apt-get install gcc libc6-dev) or name it: make CC=clang ..." >&2
	exit 1
}

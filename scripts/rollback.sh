#!/usr/bin/env bash
# rollback.sh DOMAIN gives a domain of Torq back to its old relay: through the bridge
# if it answers, by hand if it is dead. Safe to run twice.
#
#   scripts/rollback.sh market_data
#   scripts/rollback.sh signals --socket /run/torq/signals.sock --control /run/mycelium/torq.sock
#
#   --socket PATH    public socket of the domain (default /tmp/torq/DOMAIN.sock)
#   --control PATH   control socket of the bridge (default: as myceliumctl torq)
#   --legacy         end mirroring and comparison as well
#
# MYCELIUMCTL names the program (default: bin/myceliumctl here, else on the PATH).
# Exit codes: 0 the relay has its socket; 1 it has not; 2 usage; 6 no relay answers.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

domain='' socket='' control=() to=shadow
while (($#)); do
	case $1 in
	--socket) socket=${2:?--socket needs a path}; shift ;;
	--control) control=(--control "${2:?--control needs a path}"); shift ;;
	--legacy) to=legacy ;;
	-*) usage ;;
	*) [[ -z $domain ]] || usage; domain=$1 ;;
	esac
	shift
done
[[ -n $domain ]] || usage
: "${socket:=/tmp/torq/$domain.sock}"
ctl=${MYCELIUMCTL:-$here/bin/myceliumctl}
[[ -x $ctl ]] || ctl=myceliumctl

begin=$(date +%s%N)
done_in() { echo "$1, $((($(date +%s%N) - begin) / 1000000)) ms"; }

# A bridge that does not tell its status within a second is not waited for.
timeout 1.5 "$ctl" torq status "$domain" "${control[@]}" >/dev/null
code=$?
if [[ $code == 0 ]]; then
	timeout 9.8 "$ctl" torq rollback "$domain" --to "$to" --yes "${control[@]}"
	code=$?
fi
case $code in
0) done_in "$domain: the old relay has its socket back"; exit 0 ;;
5 | 10 | 124 | 127) echo "$domain: the bridge does not answer (exit code $code): moving the socket by hand" >&2 ;;
*) exit "$code" ;;
esac

# Whatever the bridge was doing: the relay's socket is at the legacy name, or it
# never left. A name that leads nowhere is no obstacle.
if [[ -S $socket.legacy ]]; then
	mv -f "$socket.legacy" "$socket" || exit 1
fi
if [[ ! -S $socket ]]; then
	echo "$domain: there is no relay's socket at $socket or $socket.legacy: start the old relay" >&2
	exit 1
fi
done_in "$domain: the old relay has its socket back"

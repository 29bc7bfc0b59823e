#!/usr/bin/env bash
# tidy.sh COMMAND [ARG...] runs a command of tests with a directory of its own for
# temporary files, and fails if containers are left that use it, or volumes that
# were not there before. The exit code is else that of the command.
set -euo pipefail

tmp=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/bt.XXXXXX")") # short: sockets have short names
trap 'rm -rf "$tmp"' EXIT

# The program is built with the flags of bin/berth, with which it shares all
# that is slow to compile.
on_engine() { CGO_ENABLED=0 "${GO:-go}" run -trimpath -buildvcs=false ./cmd/internal/dev/engine list "$tmp"; }

before=$(on_engine)
code=0
TMPDIR=$tmp "$@" || code=$?

# A killed command may be outlived by its containers for as long as they take
# to notice.
end=$((SECONDS + 10))
while :; do
	after=$(on_engine)
	left=$(comm -13 <(sort <<<"$before") <(sort <<<"$after"))
	if [ -z "$left" ]; then
		exit $code
	fi
	[ $SECONDS -lt $end ] || break
	sleep 0.5
done
echo "tidy.sh: left on the engine: $left" >&2
exit 1

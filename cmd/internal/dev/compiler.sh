#!/usr/bin/env bash
# Makes sure that there is a C compiler, which Go's race detector needs. Where
# there is one it does nothing; else, as root on Debian or Ubuntu, it installs
# gcc from the distribution.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# CC may hold flags, and has a default.
read -r cc _ <<<"$("${GO:-go}" env CC)"
if command -v "$cc" >/dev/null && [ -e /usr/include/stdlib.h -o "$(uname)" != Linux ]; then
	exit
fi
[ "$cc" = gcc ] || fail "the C compiler that go env CC names, $cc, is not there; go test -race needs it"
can_install || fail "go test -race needs a C compiler and its headers, and there is none" "sudo apt-get install gcc libc6-dev"
install gcc libc6-dev

# To be sourced by the scripts beside it, which set up what a fresh machine
# lacks. They say what they do on stderr, a line for each step.

say() { echo "${0##*/}: $*" >&2; }

# fail TEXT [HINT]
fail() {
	say "$1"
	[ $# -lt 2 ] || echo "hint: $2" >&2
	exit 1
}

# can_install tells whether this is root on Debian, Ubuntu, or one of their kin.
can_install() {
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null &&
		(. /etc/os-release && case " $ID ${ID_LIKE-} " in *" debian "* | *" ubuntu "*) ;; *) false ;; esac) 2>/dev/null
}

# install PACKAGE... from the distribution. Its output is shown if it fails.
install() {
	local log
	log=$(mktemp)
	say "installing $* with apt-get"
	# Without fresh lists the installation may still work.
	apt-get update >"$log" 2>&1 || say "apt-get update failed; going on"
	if ! DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1 </dev/null; then
		tail -n 15 "$log" >&2
		rm -f "$log"
		fail "apt-get could not install $*"
	fi
	rm -f "$log"
}

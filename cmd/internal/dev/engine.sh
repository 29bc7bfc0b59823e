#!/usr/bin/env bash
# Makes sure that a container engine answers. Where one does, this prints
# nothing. Else a Docker Engine that is installed is started; and where none is
# installed, neither DOCKER_HOST nor a docker context is set, and this is root on
# Debian or Ubuntu, the distribution's is installed. No image is pulled.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
. cmd/internal/dev/setup.sh

readonly patience=60 # seconds for an engine to answer once it was started
readonly engine_log=/var/log/dockerd.log

# state prints what the program beside this one has to say. It is built with
# the flags of bin/berth, with which it shares all that is slow to compile.
state() { CGO_ENABLED=0 "${GO:-go}" run -trimpath -buildvcs=false ./cmd/internal/dev/engine state; }

answers() { [ "$(state)" = ok ]; }

# answers_within SECONDS
answers_within() {
	local end=$((SECONDS + $1))
	until answers; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.3
	done
}

# dockerd is installed in a place that is not in everybody's PATH.
find_dockerd() { PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin command -v dockerd; }

start() {
	if [ -d /run/systemd/system ]; then
		say "starting the Docker Engine: systemctl start docker"
		systemctl start docker >&2 || fail "systemctl could not start it" "journalctl -u docker has the reason"
		answers_within $patience || fail "it was started, but does not answer" "journalctl -u docker has the reason"
		return
	fi
	if [ -x /etc/init.d/docker ] && command -v service >/dev/null; then
		say "starting the Docker Engine: service docker start"
		# The script's own exit code says little: it starts dockerd behind.
		if service docker start >/dev/null 2>&1 </dev/null && answers_within 20; then
			return
		fi
		if pidof dockerd >/dev/null; then
			answers_within $patience || fail "it was started, but does not answer" "its log is /var/log/docker.log"
			return
		fi
	fi
	say "starting the Docker Engine: $dockerd, with its log in $engine_log"
	setsid nohup "$dockerd" >>"$engine_log" 2>&1 </dev/null &
	local pid=$! end=$((SECONDS + patience))
	until answers; do
		if ! kill -0 $pid 2>/dev/null; then
			tail -n 3 "$engine_log" >&2
			fail "dockerd ended at once" "$engine_log has the reason"
		fi
		[ $SECONDS -lt $end ] || fail "dockerd was started, but does not answer" "$engine_log has the reason"
		sleep 0.3
	done
}

found=$(state)
case $found in
ok) exit ;;
fault*) # what follows in it is for the user
	fail "${found#*$'\n'}"
	;;
esac

if dockerd=$(find_dockerd); then
	[ "$(id -u)" = 0 ] || fail "the Docker Engine is installed, but does not answer" "start it as root: sudo systemctl start docker, or sudo make engine"
	start
	say "the Docker Engine answers"
	exit
fi
can_install || fail "no container engine answers, and it takes root on Debian or Ubuntu to install one here" \
	"sudo apt-get install docker.io && sudo usermod -aG docker \$USER, then log in again; or set DOCKER_HOST"
packages=docker.io
# Without its parser the engine cannot start a container where AppArmor is on.
if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ]; then
	packages+=" apparmor"
fi
say "no container engine answers and none is installed"
install $packages
dockerd=$(find_dockerd) || fail "docker.io is installed, but there is no dockerd"
if ! answers_within 5; then # its installation starts it, where there is an init system
	start
fi
say "the Docker Engine answers"

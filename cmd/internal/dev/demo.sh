#!/usr/bin/env bash
# The main job of berth on this very repository, as `make demo` shows it: builds,
# tests and servers, in the background, at once, on two states of the files. It
# fails if anything does not hold that it says. berth's state is in a directory of
# its own meanwhile, so that your sessions are not touched; the caches are yours.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

say() { printf '\n# %s\n' "$*"; }

fail() {
	printf '\ndemo: %s\n' "$*" >&2
	exit 1
}

# run shows a command of berth as one would type it, and runs it.
run() {
	local word line=
	for word in "$@"; do
		case $word in
		*[!a-zA-Z0-9_./:=@%+,-]*) line+=" '$word'" ;;
		*) line+=" $word" ;;
		esac
	done
	echo "\$ berth$line"
	berth "$@"
}

# fetch URL prints the first line of a page, on machines too that have no curl.
fetch() {
	local address=${1#http://} line
	exec {connection}<>"/dev/tcp/${address%:*}/${address##*:}" || return
	printf 'GET / HTTP/1.0\r\nHost: %s\r\n\r\n' "$address" >&"$connection"
	while IFS= read -r -t 10 line <&"$connection" && [ "$line" != $'\r' ]; do :; done
	IFS= read -r -t 10 line <&"$connection" && echo "$line"
	exec {connection}>&-
}

# on_engine lists the containers of this demo, and all volumes. The program is
# built with the flags of bin/berth, with which it shares all that is slow.
on_engine() { CGO_ENABLED=0 "${GO:-go}" run -trimpath -buildvcs=false ./cmd/internal/dev/engine list "$tmp"; }

# git_state tells every file of the user's git directory: name, kind, mode, time
# and content; and the worktrees that git knows of.
git_state() {
	git worktree list --porcelain
	(
		cd "$(git rev-parse --git-common-dir)"
		find . -printf '%p %y %m %T@ %l\n' | sort
		find . -type f -print0 | sort -z | xargs -0 sha256sum
	)
}

clean_up() {
	trap - EXIT
	trap '' INT TERM HUP
	if [ -d "$tmp/state/berth" ]; then
		berth session end 2>/dev/null || true # it may have ended, or not begun
		berth gc >/dev/null || true
	fi
	rm -rf "$tmp"
}

for program in git "${GO:-go}" bin/berth; do
	command -v "$program" >/dev/null || fail "there is no $program"
done
head=$(git rev-parse --verify --quiet HEAD) || fail "this is no git repository with a commit"

# The older state is the oldest of the last commits that have what we run.
old=$head
for commit in $(git rev-list --first-parent --max-count=4 HEAD); do
	if git cat-file -e "$commit:cmd/internal/dev/webserver" 2>/dev/null; then
		old=$commit
	fi
done
old=$(git rev-parse --short "$old")

tmp=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/berth-demo-XXXXXX")")
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
unset BERTH_SESSION
# Should even this script be killed, its session ends soon.
export BERTH_LEASE=10m XDG_STATE_HOME=$tmp/state PATH=$PWD/bin:$PATH
git_state >"$tmp/git-before"
on_engine >"$tmp/engine-before"
SECONDS=0

say "Two servers on the same port 4040, and vet, build and tests, all in the"
echo "# background at once: on the files as they are now, and on commit $old."
serve='go run ./cmd/internal/dev/webserver at $(git describe --always --dirty)'
web_old=(--ref "$old")
if ! git cat-file -e "$old:cmd/internal/dev/webserver" 2>/dev/null; then
	web_old=() # it is about to be committed for the first time
fi
run run -n web -p 4040 "$serve"
run run -n web-old -p 4040 "${web_old[@]}" "$serve"
jobs=()
for ref in "" "$old"; do
	for verb in vet build test; do
		packages=./...
		[ $verb != test ] || packages=./worktree/...
		run run -n "$verb${ref:+-old}" ${ref:+--ref "$ref"} -- go $verb $packages
		jobs+=("$verb${ref:+-old}")
	done
done
say "Nothing of that took long: $SECONDS s."
echo "(When they run here for the first time they download and compile everything: that takes minutes.)"

say "Both servers answer, each on a port of its own of this machine."
run wait --until http:4040/ web web-old || fail "a server does not answer"
run ps
pages=()
for job in web web-old; do
	run port $job 4040
	url=http://$(berth port $job 4040)
	page=$(fetch "$url") || fail "$url does not answer"
	echo "$url says: $page"
	[[ $page == "this is $job in $PWD at "* ]] || fail "that is not the page of $job"
	pages+=("$url")
done
[ "${pages[0]}" != "${pages[1]}" ] || fail "both servers have one address"

say "The output of a job, as it comes."
run logs -f test || fail "the log of test cannot be read"

say "How they all ended."
bad=()
run wait "${jobs[@]}" || for job in "${jobs[@]}"; do
	if ! berth wait "$job" >/dev/null; then
		bad+=("$job")
		run logs -n 20 "$job"
	fi
done
[ ${#bad[@]} = 0 ] || fail "these did not succeed: ${bad[*]}"

say "The servers go on, until they are killed."
run kill web web-old
for url in "${pages[@]}"; do
	if fetch "$url" 2>/dev/null; then
		fail "$url still answers"
	fi
done
run ps -a

say "The end of the session."
run session end

# left FILE COMMAND... prints what COMMAND says and FILE does not have.
left() { comm -13 <(sort "$1") <("${@:2}" | sort); }

found=$(left "$tmp/engine-before" on_engine)
[ -z "$found" ] || fail "left on the engine: $found"
echo "containers left: none"
echo "volumes left:    none"
found=$(find "$XDG_STATE_HOME" -path '*/jobs/*/*' ! -path '*/jobs/*/*/*' ! -name record.json ! -name log ! -name readers)
[ -z "$found" ] || fail "left of workspaces: $found"
[ "$(find "$XDG_STATE_HOME" -path '*/jobs/*/record.json' | wc -l)" = $((${#jobs[@]} + 2)) ] || fail "records of jobs are missing"
echo "workspaces left: none"
git_state | cmp -s - "$tmp/git-before" || fail "your .git changed: $(git_state | diff "$tmp/git-before" - || true)"
echo "your .git:       as before, byte for byte"
printf '\ndemo: all of it held, in %d s\n' $SECONDS

// Package hostile holds what a job may leave in its files so that a git that comes by does its bidding. It is for tests.
package hostile

// Attack is one such trick. Its scripts are for bash, in the job's files: a git repository with one commit and a file a that has been changed. $CANARY is a
// program that leaves a mark when it runs, $OUTSIDE a directory outside, with a repository repo in it. Something has gone wrong when there is a mark, or
// anything in $OUTSIDE has changed since Plant.
type Attack struct {
	Name  string
	Plant string // what the job does
	Plain string // what an unsuspecting user would do with git in the job's files: it shows that the attack works
}

// Attacks all work on plain git.
var Attacks = []Attack{
	{"fsmonitor", `git config core.fsmonitor "$CANARY"`, `git status`},
	{"fsmonitor in the real config after a new init", `rm -rf .git; git init -q; git config core.fsmonitor "$CANARY"`, `git status`},
	{"hooks", `mkdir -p .git/hooks; for h in pre-commit post-commit post-checkout reference-transaction post-index-change pre-auto-gc; do cp "$CANARY" .git/hooks/$h; done`, `git commit -qm x --allow-empty`},
	{"hooksPath", `mkdir h; cp "$CANARY" h/pre-commit; git config core.hooksPath h`, `git commit -qm x --allow-empty`},
	{"clean filter", `echo '* filter=x' > .gitattributes; git config filter.x.clean "$CANARY"`, `git add -A`},
	{"smudge filter", `echo '* filter=x' > .gitattributes; git config filter.x.smudge "$CANARY"`, `git checkout -f -- a; rm a; git checkout -f -- a`},
	{"process filter", `echo '* filter=x' > .gitattributes; git config filter.x.process "$CANARY"`, `git add -A || true`},
	{"filter in info/attributes", `echo '* filter=x' > .git/info/attributes; git config filter.x.clean "$CANARY"`, `git add -A`},
	{"filter of the user's", `echo '* filter=users' > .gitattributes`, `git add -A`},
	{"textconv", `echo '* diff=x' > .gitattributes; git config diff.x.textconv "$CANARY"`, `git diff HEAD`},
	{"diff command", `echo '* diff=x' > .gitattributes; git config diff.x.command "$CANARY"`, `git diff HEAD`},
	{"external diff", `git config diff.external "$CANARY"`, `git diff HEAD`},
	{"merge driver", `echo '* merge=x' | tee .gitattributes > .git/info/attributes; git config merge.x.driver "$CANARY %A"`,
		`git add -A; git commit -qm 1; git switch -qc o HEAD~1; echo other > a; git commit -qam 2; git merge -q main || true`},
	{"include", `printf '[core]\n\tfsmonitor = %s\n' "$CANARY" > .git/more; git config include.path more`, `git status`},
	{"config.worktree", `git config extensions.worktreeConfig true; printf '[core]\n\tfsmonitor = %s\n' "$CANARY" > .git/config.worktree`, `git status`},
	{"commondir", `cp -r .git .common; git --git-dir=.common config core.fsmonitor "$CANARY"; echo ../.common > .git/commondir`, `git status`},
	{".git as a file", `mv .git .real; git --git-dir=.real config core.fsmonitor "$CANARY"; echo 'gitdir: .real' > .git`, `git status`},
	{".git as a link", `mv .git .real; git --git-dir=.real config core.fsmonitor "$CANARY"; ln -s .real .git`, `git status`},
	{"worktree", `git config core.worktree "$OUTSIDE"`, `git checkout -f -- a && "$CANARY" && rm "$OUTSIDE/a"`},
	{"sshCommand", `git config core.sshCommand "$CANARY"; git remote add o ssh://localhost/x`, `git fetch o || true`},
	{"credential helper", `git config credential.helper "$CANARY"`, `printf 'protocol=https\nhost=x\n\n' | git credential fill || true`},
	{"gpg", `git config gpg.program "$CANARY"; git config commit.gpgSign true`, `git commit -qm x --allow-empty || true`},
	{"editor", `git config core.editor "$CANARY"`, `git commit -q --amend || true`},
	{"ext URL", `git config protocol.ext.allow always; git config remote.o.url "ext::$CANARY"`, `git fetch o || true`},
	{"submodule update", `git config submodule.s.update '!'"$CANARY"; git config submodule.s.url "$OUTSIDE/repo"; git config -f .gitmodules submodule.s.path s; git config -f .gitmodules submodule.s.url "$OUTSIDE/repo"; git add .gitmodules; git update-index --add --cacheinfo "160000,$(git -C "$OUTSIDE/repo" rev-parse HEAD),s"; git config submodule.s.active true`,
		`git submodule update --init || true`},
	{"nested repository", `git init -q n; git -C n config core.fsmonitor "$CANARY"; echo x > n/x`, `git -C n status`},
	{"alternateRefsCommand", `git config core.alternateRefsCommand "$CANARY"`, `git fetch -q "$OUTSIDE/repo" || true`},
	{"sequence editor", `git config sequence.editor "$CANARY"`, `git reset -q --hard; git rebase -qi --root || true`},
	{"pager", `git config core.pager "$CANARY"`, `script -qec 'git log' /dev/null`}, // on a terminal only
	{"pager of one command", `git config pager.status "$CANARY"`, `script -qec 'git status' /dev/null`},
	{"linked index", `mv .git/index "$OUTSIDE/index"; ln -s "$OUTSIDE/index" .git/index`, `git add -A`},
	{"linked logs", `git commit -qm x --allow-empty; mv .git/logs "$OUTSIDE/logs"; ln -s "$OUTSIDE/logs" .git/logs`, `git commit -qm x --allow-empty`},
	{"linked log of HEAD", `git commit -qm x --allow-empty; mv .git/logs/HEAD "$OUTSIDE/log"; ln -s "$OUTSIDE/log" .git/logs/HEAD`, `git commit -qm x --allow-empty`},
	{"linked refs", `git commit -qm x --allow-empty; mv .git/refs "$OUTSIDE/refs"; ln -s "$OUTSIDE/refs" .git/refs`, `git commit -qm x --allow-empty`},
	{"linked objects", `mv .git/objects "$OUTSIDE/objects"; ln -s "$OUTSIDE/objects" .git/objects`, `echo fresh > c; git add c`},
	{"linked message", `rm -f .git/COMMIT_EDITMSG; echo kept > "$OUTSIDE/message"; ln -s "$OUTSIDE/message" .git/COMMIT_EDITMSG`, `git commit -qm x --allow-empty`},
}

// Harmless are attacks of which git itself takes no notice. If that changes, they belong to the others.
var Harmless = []Attack{
	// git heeds it in the system's, the user's and the command line's configuration only.
	{"packObjectsHook", `git config uploadpack.packObjectsHook "$CANARY"`, `git clone -q --no-local . "$CANARY.clone"`},
	// git puts a new file in the link's place.
	{"linked HEAD", `mv .git/HEAD "$OUTSIDE/HEAD"; ln -s "$OUTSIDE/HEAD" .git/HEAD`, `git symbolic-ref HEAD refs/heads/other`},
}

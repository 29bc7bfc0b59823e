package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/docker/docker/client"

	"berth/configs"
	"berth/images"
	"berth/runner/logstore"
	"berth/worktree"
)

// Exit codes of berth itself; a job's own code is handed on.
const (
	StatusTimeout = 124 // a timeout struck, or a wait ended before its job
	StatusPartly  = 1   // what was asked for is not so: a conflict, or one job of several has failed
	StatusFailed  = 125 // berth or the engine failed, or the input was bad
)

// Explained is an error as it is told to a user, and to another process.
type Explained struct {
	Text   string `json:"text"`           // one line: what happened
	Hint   string `json:"hint,omitempty"` // one line: what to do
	Status int    `json:"status"`         // exit code
}

func (e *Explained) Error() string { return e.Text }

// Explain puts an error of this package, of worktree or of images into words.
// It is the one place that knows the hints. One that has been explained passes.
func Explain(err error) *Explained {
	var done *Explained
	if errors.As(err, &done) {
		return done
	}
	e := &Explained{Text: oneLine(err.Error()), Hint: hint(err), Status: StatusFailed}
	if errors.As(err, new(*worktree.ConflictError)) {
		e.Status = StatusPartly
	}
	return e
}

func hint(err error) string {
	var (
		invalid   *InvalidError
		unknown   *UnknownJobError
		ambiguous *AmbiguousJobError
		taken     *NameTakenError
		port      *PortTakenError
		stopped   *NotRunningError
		ended     *EndedError
		silent    *SilentError
		none      *NoEngineError
		remote    *RemoteEngineError
		noFiles   *NoFilesError
		noPath    *NoPathError
		conflict  *worktree.ConflictError
		branch    *worktree.BranchExistsError
		badBranch *worktree.BranchNameError
		nobody    *worktree.NoIdentityError
		commits   *worktree.CommitsError
		noFile    *worktree.NotFileError
		gitFiles  *worktree.GitFilesError
		noRepo    *worktree.NotRepoError
		refused   *worktree.RefusedRootError
		noRef     *worktree.UnknownRefError
		from      *FromError
		noCarry   *worktree.CarryError
		noKey     *worktree.KeyError
		layers    *worktree.LayersError
		setup     *SetupError
		large     *worktree.TooLargeError
		badImage  *images.InvalidRefError
		noImage   *images.NotFoundError
		cursor    *logstore.CursorError
		config    *configs.FileError
		variable  *configs.VariableError
		caches    *CachesInUseError
		git       *worktree.GitError
		file      *fs.PathError
	)
	switch {
	case errors.As(err, &invalid):
		return invalid.Hint
	case errors.As(err, &unknown):
		if len(unknown.Near) > 0 {
			return "did you mean " + strings.Join(unknown.Near, " or ") + "?"
		}
		return "berth ps -a lists the jobs"
	case errors.As(err, &ambiguous):
		return "give more of the ID"
	case errors.As(err, &taken):
		return fmt.Sprintf("choose another name, or end it first: berth kill %s", taken.Name)
	case errors.As(err, &port):
		return fmt.Sprintf("leave the choice to berth with -p %d, or end what uses it", port.Port.Port)
	case errors.As(err, &stopped):
		return "run it with --keep to look around in it after its end"
	case errors.As(err, &ended):
		return "berth session ls lists those that live"
	case errors.As(err, &silent):
		return fmt.Sprintf("is it stopped? kill -CONT %d lets it go on, kill -KILL %d ends it and its jobs", silent.PID, silent.PID)
	case errors.As(err, &none):
		if none.Denied() {
			return "your user may not use it: sudo usermod -aG docker $USER, then log in again"
		}
		return "start it (sudo systemctl start docker), or name another one in DOCKER_HOST"
	case errors.As(err, &remote):
		return "unset DOCKER_HOST, or choose a local one: docker context use default"
	case client.IsErrConnectionFailed(err), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return "the engine went away; berth doctor looks at it"
	case errors.As(err, &noFiles):
		if noFiles.Live {
			return "git diff shows what is different there"
		}
		return "berth inspect tells what is known of it"
	case errors.As(err, &noPath):
		return "berth diff --name-only lists what the job has changed"
	case errors.As(err, &conflict):
		return "nothing was changed; commit or stash yours first, or put the job's on a branch of its own with berth branch"
	case errors.As(err, &branch):
		return "choose another name, or remove that one: git branch -D " + branch.Name
	case errors.As(err, &badBranch):
		return "git help check-ref-format has the rules"
	case errors.As(err, &nobody):
		return `git config --global user.name "Your Name" and user.email you@example.org tell it`
	case errors.As(err, &commits):
		return "berth diff and berth apply do without them"
	case errors.As(err, &noFile):
		return "name a place to copy it to, instead of -"
	case errors.As(err, &noRepo):
		return "run it in a git repository, or add --live to use the directory as it is"
	case errors.As(err, &refused):
		return "make a repository in a directory of its own"
	case errors.As(err, &noRef):
		if len(noRef.Near) > 0 {
			return "did you mean " + strings.Join(noRef.Near, " or ") + "?"
		}
		return "git branch -a and git tag list what there is"
	case errors.As(err, &from):
		return from.Hint
	case errors.As(err, &gitFiles):
		return "berth branch takes a job's commits; berth cp JOB:PATH - prints one file"
	case errors.As(err, &noCarry):
		return "carry takes files and directories of the working tree, as paths from its top"
	case errors.As(err, &noKey):
		return "key files are paths from the top of the repository, or patterns such as **/package-lock.json"
	case errors.As(err, &layers):
		return "begin anew: apply what the last job has made (berth apply), and run without --from"
	case errors.As(err, &setup):
		return "berth logs " + setup.Job + " has all of its output"
	case errors.As(err, &large):
		return "add them to .gitignore, or to git if they are meant"
	case errors.As(err, &badImage):
		return "an image is named like debian:12 or ghcr.io/owner/name:tag; host is this machine's own toolchains"
	case errors.As(err, &noImage):
		return imageHint(noImage)
	case errors.As(err, &config):
		return config.Problems[0].Hint
	case errors.As(err, &variable):
		return variable.Hint
	case errors.As(err, &caches):
		return "wait until its jobs have ended, or kill them: berth ps lists them"
	case errors.As(err, &cursor):
		return "use --since start, or a cursor from an earlier reading"
	case errors.Is(err, images.ErrNoInit):
		return "run make in berth's source"
	case errors.Is(err, configs.ErrNoHome):
		return "set HOME"
	case errors.As(err, &file) && file.Path == "/dev/stdout":
		return "what berth prints cannot be written"
	case errors.Is(err, syscall.ENOSPC):
		return "make room on the disk; berth gc removes what is no longer needed"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EROFS):
		return "berth doctor checks the directories that it writes to"
	case errors.As(err, &file) && strings.Contains(file.Path, "/berth") &&
		(errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.ELOOP)):
		return "berth's directories are below XDG_STATE_HOME and XDG_CACHE_HOME; one of them is no directory"
	case errors.As(err, &git):
		if strings.Contains(git.Stderr, "No space left") { // git has no code for it
			return "make room on the disk; berth gc removes what is no longer needed"
		}
		return "this is what git says; a file that git cannot read can be left out with .gitignore"
	case errors.Is(err, context.DeadlineExceeded):
		return "the engine is slow or stuck; berth doctor looks at it"
	}
	return ""
}

func imageHint(e *images.NotFoundError) string {
	switch e.Reason {
	case images.Unauthorised:
		return "the registry wants a login, or the image does not exist"
	case images.Unreachable:
		return "check the network, or use --image host for this machine's own toolchains"
	case images.NoSuchImage:
		return "check the name; docker images lists what is here, --image host needs no image"
	}
	return ""
}

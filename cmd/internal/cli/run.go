package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/internal/ui"
	"berth/configs"
	"berth/runner"
	"berth/runner/keeper"
)

// runOptions are the flags and the command of run.
type runOptions struct {
	Argv     []string
	Name     string
	Refs     []string      // none: the working tree as it is
	Set      configs.Layer // what beats the configuration
	Env      []string      // KEY=VALUE, or KEY for the caller's value
	EnvFiles []string
	NoConfig bool
	Live     bool
	From     string // an ended job
	Files    string // name of a workspace
	Root     bool
	Apply    bool
	Branch   string
	Keep     bool
	Wait     bool
	Limit    time.Duration // of the wait; 0 is none
	Until    runner.Condition
	JSON     bool
}

func newRunCmd(app *App, run func(context.Context, runOptions) error) *cobra.Command {
	var (
		o       runOptions
		timeout duration
		ports   ports
		setup   string
		wait    waitFlag
		until   condition
	)
	cmd := &cobra.Command{
		Use:   "run [flags] [--] COMMAND [ARG...]",
		Short: "Start a command in the background, in its own container, and print its name",
		Long: `Start a command in the background, in its own container, and print its name.

The job gets a copy of your git working tree as it is now, uncommitted and
untracked files included (ignored ones not), at the same path. What it changes
stays in its copy. It returns as soon as the copy is taken: you can edit on.

One argument is a line for the shell, several are a command and its arguments.
Flags of berth come before the command. They beat the variables BERTH_IMAGE,
BERTH_TIMEOUT and so on, which beat the repository's berth.yaml, which beats
your own: berth config shows what holds. A flag such as -p or --carry replaces
the list there; -e adds to it.`,
		Example: `  berth run -- go test ./...            several words: a command and its arguments
  berth run 'npm ci && npm test'        one word: a shell line
  berth run -n web -p 8080 -- npm start
  berth run --live -p 5173 -- npm run dev         a dev server on your own files
  berth run --ref main --ref v1.2 -- make         a job for each
  berth run --wait -- make              stream its output and exit with its code
  berth run --wait=10s -- make          watch for ten seconds, then leave it running
  berth run --until port:8080 -p 8080 -- ./server return when it listens`,
		Args: arguments(1, -1, "a command, as in: berth run -- npm test"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait.set && wait.limit == 0 && cmd.ArgsLenAtDash() != 0 {
				if _, err := time.ParseDuration(args[0]); err == nil {
					return usageError("write --wait="+args[0], "%q would be the command: a duration is joined to --wait", args[0])
				}
			}
			o.Argv = args
			if len(args) == 1 {
				o.Argv = runner.Shell(args[0])
			}
			for flag, given := range map[string]bool{"image": o.Set.Image != "", "name": o.Name != "", "ref": !slices.Contains(o.Refs, ""), "from": o.From != "", "workspace": o.Files != "", "branch": o.Branch != ""} {
				if cmd.Flags().Changed(flag) && !given {
					return usageError("leave it out for the default", "--%s is empty", flag)
				}
			}
			if err := checkTogether(cmd, o); err != nil {
				return err
			}
			if timeout.set {
				o.Set.Timeout = timeout.value
				o.Set.Mark("timeout", flagOrigin("timeout"))
			}
			if len(ports) > 0 {
				for _, p := range ports {
					o.Set.Ports = append(o.Set.Ports, configs.Port(p))
				}
				o.Set.Mark("ports", flagOrigin("publish"))
			}
			if cmd.Flags().Changed("setup") {
				o.Set.Setup.Run = strings.TrimSpace(setup)
				o.Set.Mark("setup", flagOrigin("setup"))
			}
			o.Until = until.value
			o.Wait, o.Limit = wait.set || until.value.Kind != "", wait.limit
			return run(cmd.Context(), o)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVarP(&o.Name, "name", "n", "", "`name` of the job, unique among those that run in the session")
	f.StringArrayVar(&o.Refs, "ref", nil, "run on the files of a branch, tag or commit; repeated, one job for each `ref`")
	set := func(flag, key, usage string) { f.Var(&setting{layer: &o.Set, flag: flag, key: key}, flag, usage) }
	set("image", "image", "container `image`; by default host, which is this machine's own programs")
	f.StringArrayVarP(&o.Env, "env", "e", nil, "set a variable: `KEY=VALUE`, or KEY to hand on your own value")
	f.StringArrayVar(&o.EnvFiles, "env-file", nil, "set the variables in a `file` of KEY=VALUE lines")
	f.Var(&timeout, "timeout", "end the job after this `duration`")
	f.VarP(&ports, "publish", "p", "reach a `port` of the job on 127.0.0.1: 8080, 9090:8080 (host:job), 53/udp")
	set("network", "network", "what the job reaches: `full|none`")
	set("cpus", "limits.cpus", "use at most this `number` of processors, such as 0.5")
	set("memory", "limits.memory", "use at most this `size` of memory, such as 512m or 4g")
	set("pids", "limits.pids", "have at most this `number` of processes and threads (default 4096)")
	f.StringVar(&setup, "setup", "", "start from the results of this shell `line`; '' is none")
	f.Var(&carry{&o.Set}, "carry", "bring an ignored file or directory along; repeated: `path|auto|off`")
	set("caches", "caches", "share the caches of go, npm, pip and cargo with the repository's other jobs: `auto|off`")
	f.BoolVar(&o.NoConfig, "no-config", false, "ignore berth.yaml and the variables for its keys: flags and defaults alone count")
	f.BoolVar(&o.Live, "live", false, "work on your own files instead of a copy, as for dev servers")
	f.StringVar(&o.From, "from", "", "go on with the files of an ended `job`, on a copy of your own")
	f.StringVar(&o.Files, "workspace", "", "share files with other jobs of the session that give the same `name`, and keep them between jobs")
	f.BoolVar(&o.Root, "root", false, "run as root in the container, as package managers need")
	f.BoolVar(&o.Apply, "apply", false, "if it succeeds, put what it has changed into your files: all, or nothing if there is a conflict")
	f.StringVar(&o.Branch, "branch", "", "if it succeeds, make a branch of this `name` with what it has changed")
	f.BoolVar(&o.Keep, "keep", false, "hold the container after the end, for berth shell")
	f.Var(&wait, "wait", "stream the output and exit with the job's code; with a `duration`, for so long")
	f.Lookup("wait").NoOptDefVal = waitForEnd
	f.Var(&until, "until", "wait until the `condition` holds: port:8080, text:REGEX, http:8080/path, quiet:5s, exit")
	f.BoolVar(&o.JSON, "json", false, "print the record of each job as a line of JSON; with --wait at the end, without output")
	completeRun(cmd)
	cmd.RegisterFlagCompletionFunc("from", app.completeJob(anyJob))
	return cmd
}

// checkTogether refuses flags that do not go with each other.
func checkTogether(cmd *cobra.Command, o runOptions) error {
	for _, flag := range []string{"setup", "carry"} {
		if cmd.Flags().Changed(flag) && (o.Live || o.From != "") {
			return usageError("leave out --"+flag, "--%s is for files of the job's own, which --live and --from do not make", flag)
		}
	}
	for flag, given := range map[string]bool{"branch": o.Branch != "", "apply": o.Apply, "workspace": o.Files != ""} {
		if given && len(o.Refs) > 1 {
			return usageError("use one --ref, or leave out --"+flag, "--%s is for one job, and several --ref make several", flag)
		}
	}
	return nil
}

// run begins the jobs, and attends to them if that is asked for.
func (a *App) run(ctx context.Context, o runOptions) error {
	env, err := a.environment(ctx, o.EnvFiles, o.Env)
	if err != nil {
		return err
	}
	caller, err := a.callerHere()
	if err != nil {
		return err
	}
	settings, err := a.runSettings(ctx, caller, o)
	if err != nil {
		return err
	}
	spec := specOf(settings.Config)
	spec.Name, spec.Argv, spec.Dir, spec.Live, spec.Keep = o.Name, o.Argv, caller.Dir, o.Live, o.Keep
	spec.From, spec.Workspace, spec.Root = o.From, o.Files, o.Root
	spec.Apply, spec.Branch = o.Apply, o.Branch
	spec.Env, spec.Caller = append(spec.Env, env...), a.Environ
	if err := o.Until.Possible(spec.Ports, "the job"); err != nil {
		return err
	}
	if err := spec.Validate(); err != nil { // before a session is begun for nothing
		return err
	}
	session, err := caller.Begin(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	jobs, err := a.begin(ctx, session, specs(spec, o.Refs))
	if err != nil {
		return err
	}
	if o.Wait {
		return a.attend(ctx, session, jobs, o)
	}
	for _, r := range jobs {
		if err := a.printBegun(r, o.JSON); err != nil {
			// Without its name nobody can attend to it.
			return errors.Join(err, kill(ctx, session, jobs, "a closed output", 0))
		}
	}
	return nil
}

func (a *App) printBegun(r runner.Record, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(a.Stdout).Encode(r)
	}
	_, err := fmt.Fprintln(a.Stdout, r.Handle)
	return err
}

// specs makes one spec for each ref. Several jobs cannot have one name, so
// theirs end in the ref.
func specs(spec runner.Spec, refs []string) []runner.Spec {
	if len(refs) == 0 {
		return []runner.Spec{spec}
	}
	list := make([]runner.Spec, len(refs))
	used := map[string]bool{}
	for i, ref := range refs {
		list[i] = spec
		list[i].Ref = ref
		if spec.Name == "" || len(refs) == 1 {
			continue
		}
		name := spec.Name + "-" + strings.Trim(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
				return r
			}
			return '-'
		}, ref), "-")
		name = name[:min(len(name), 60)]
		if used[name] {
			name += "-" + strconv.Itoa(i+1)
		}
		used[name] = true
		list[i].Name = name
	}
	return list
}

// begin begins jobs in order: all, or none.
func (a *App) begin(ctx context.Context, session *keeper.Client, specs []runner.Spec) (jobs []runner.Record, err error) {
	_, isTerminal := terminal(a.Stderr)
	progress := ui.NewProgress(a.Stderr, isTerminal, a.Now)
	defer func() {
		progress.Clear()
		if err != nil && len(jobs) > 0 {
			err = errors.Join(err, kill(ctx, session, jobs, "a sibling that did not begin", 0))
		}
	}()
	for _, spec := range specs {
		r, err := session.Run(ctx, spec, func(e runner.Event) {
			if p := e.Pull; p != nil {
				progress.Set(pullLine(p.Ref, p.Status, p.Current, p.Total))
			}
		})
		if err != nil {
			return jobs, err
		}
		jobs = append(jobs, r)
	}
	return jobs, nil
}

func pullLine(ref, status string, current, total int64) string {
	line := "pulling " + ref
	if total > 0 {
		return fmt.Sprintf("%s: %s of %s", line, ui.Bytes(current), ui.Bytes(total))
	}
	return ui.OneLine(line + ": " + strings.ToLower(status))
}

// kill ends jobs whatever becomes of ctx.
func kill(ctx context.Context, session runner.Service, jobs []runner.Record, by string, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace+killDeadline)
	defer cancel()
	request := runner.KillRequest{By: by, Grace: grace}
	for _, r := range jobs {
		request.Jobs = append(request.Jobs, r.ID)
	}
	_, err := session.Kill(ctx, request)
	return err
}

// killDeadline is how long past its grace a kill may take.
const killDeadline = 30 * time.Second

// interruptGrace is what a job has between Ctrl-C and SIGKILL.
const interruptGrace = configs.Grace

// path is a path of the user's, absolute.
func (a *App) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(a.Dir, p)
}

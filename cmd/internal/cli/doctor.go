package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"berth/cmd/internal/ui"
	"berth/configs"
	"berth/images"
	"berth/runner"
	"berth/worktree"
)

// leastSpace is how much room a disk should have.
const leastSpace = 1 << 30

// level says how bad a finding is.
type level string

const (
	fine    level = "ok"
	warning level = "warn"
	fault   level = "fault"
)

// finding is one thing that doctor looked at.
type finding struct {
	Level level  `json:"level"`
	Check string `json:"check"`
	Text  string `json:"text"`
	Cure  string `json:"cure,omitempty"` // what to do
}

func newDoctorCmd(app *App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what keeps berth from working, and say how to cure it",
		Long: `Look for what keeps berth from working, and say how to cure it: the engine and
whether you may use it, git, berth's directories, and leftovers of dead
sessions, which it removes. The exit code is 0 unless there is a fault.`,
		Args:        arguments(0, 0, ""),
		Annotations: map[string]string{unswept: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.doctor(cmd.Context(), asJSON)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a list of findings")
	return cmd
}

func (a *App) doctor(ctx context.Context, asJSON bool) error {
	findings := a.checkEngine(ctx)
	engine := findings[0].Level != fault
	findings = append(findings, checkInit(), checkGit(ctx))
	findings = append(findings, a.checkDirs()...)
	if engine {
		findings = append(findings, a.checkOverlay(ctx))
		findings = append(findings, a.checkLeftovers(ctx))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := a.printFindings(findings, asJSON); err != nil {
		return err
	}
	if slices.ContainsFunc(findings, func(f finding) bool { return f.Level == fault }) {
		return exitCode(runner.StatusFailed)
	}
	return nil
}

func (a *App) printFindings(findings []finding, asJSON bool) error {
	if asJSON {
		return a.printJSON(findings)
	}
	for _, f := range findings {
		if _, err := fmt.Fprintf(a.Stdout, "%-5s  %s: %s\n", f.Level, f.Check, f.Text); err != nil {
			return err
		}
		if f.Cure != "" {
			fmt.Fprintf(a.Stdout, "       %s\n", f.Cure)
		}
	}
	return nil
}

// failed is the finding for an error, with its hint as the cure.
func failed(check string, err error) finding {
	e := runner.Explain(err)
	return finding{fault, check, e.Text, e.Hint}
}

// checkEngine looks for the engine. The first finding tells whether it is
// there.
func (a *App) checkEngine(ctx context.Context) []finding {
	eng, err := a.engine(ctx)
	if err != nil {
		return append([]finding{failed("engine", err)}, a.checkGroup()...)
	}
	defer eng.Close()
	info, err := eng.Info(ctx)
	if err != nil {
		return []finding{failed("engine", err)}
	}
	rootless := ""
	if runner.IsRootless(info) {
		rootless = ", rootless"
	}
	setting := ""
	if s := runner.EngineSetting(a.getenv); s != "" && s != eng.DaemonHost() {
		setting = " (" + s + ")"
	}
	findings := []finding{
		{fine, "engine", fmt.Sprintf("%s at %s%s, api %s%s", info.ServerVersion, eng.DaemonHost(), setting, eng.ClientVersion(), rootless), ""},
		{fine, "storage", fmt.Sprintf("%s in %s", info.Driver, info.DockerRootDir), ""},
	}
	cgroup := finding{fine, "cgroups", fmt.Sprintf("version %s, %s driver", info.CgroupVersion, info.CgroupDriver), ""}
	if info.CgroupVersion == "1" {
		cgroup.Level, cgroup.Cure = warning, "limits of memory are coarser with version 1; a system with version 2 (any since 2022) is better"
	}
	return append(findings, cgroup)
}

// checkOverlay tries out whether jobs can have their files as layers, and does not believe what an earlier try has found.
func (a *App) checkOverlay(ctx context.Context) finding {
	dirs, err := configs.FindDirs(a.getenv)
	if err != nil {
		return failed("layers", err)
	}
	eng, err := a.engine(ctx)
	if err != nil {
		return failed("layers", err)
	}
	defer eng.Close()
	found, err := runner.Probe(ctx, eng, dirs, true)
	switch {
	case err != nil:
		return failed("layers", err)
	case !found.OK:
		return finding{warning, "layers", "jobs get a checkout each, which takes longer in large repositories: " + found.Why,
			"berth's directories on ext4, xfs or btrfs (XDG_STATE_HOME, XDG_CACHE_HOME) and Linux 5.11 or newer are what it takes"}
	}
	return finding{fine, "layers", "jobs get their files as layers (overlayfs)", ""}
}

// checkGroup tells whether it is for want of membership that the engine may
// not be used.
func (a *App) checkGroup() []finding {
	if os.Getuid() == 0 {
		return nil
	}
	group, err := user.LookupGroup("docker")
	if err != nil {
		return nil
	}
	me, err := user.Current()
	if err != nil {
		return nil
	}
	listed, err := me.GroupIds()
	if err != nil {
		return nil
	}
	now, err := os.Getgroups()
	if err != nil {
		return nil
	}
	inNow := slices.ContainsFunc(now, func(g int) bool { return fmt.Sprint(g) == group.Gid })
	switch {
	case inNow:
		return []finding{{fine, "group", "you are in the group docker", ""}}
	case slices.Contains(listed, group.Gid):
		return []finding{{warning, "group", "you are in the group docker, but not yet in this login", "log in again, or run: newgrp docker"}}
	}
	return []finding{{warning, "group", "you are not in the group docker", "sudo usermod -aG docker " + me.Username + ", then log in again; its members can become root"}}
}

func checkInit() finding {
	archs := images.InitArchs()
	if !slices.Contains(archs, runtime.GOARCH) {
		return finding{fault, "init", images.ErrNoInit.Error(), runner.Explain(images.ErrNoInit).Hint}
	}
	return finding{fine, "init", "embedded for " + strings.Join(archs, ", "), ""}
}

func checkGit(ctx context.Context) finding {
	version, err := worktree.Version(ctx)
	if err != nil {
		f := failed("git", err)
		f.Cure = "install git, for example: sudo apt install git"
		return f
	}
	return finding{fine, "git", version, ""}
}

// checkDirs looks whether berth's directories can be written to, and have room.
func (a *App) checkDirs() []finding {
	dirs, err := configs.FindDirs(a.getenv)
	if err != nil {
		return []finding{failed("directories", err)}
	}
	return []finding{checkDir("state", dirs.State), checkDir("cache", dirs.Cache)}
}

func checkDir(check, dir string) finding {
	cure := "make it yours: sudo chown -R $(id -u) " + dir + "; or set XDG_" + strings.ToUpper(check) + "_HOME"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return finding{fault, check, err.Error(), cure}
	}
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return finding{fault, check, fmt.Sprintf("%s cannot be written to: %s", dir, reason(err)), cure}
	}
	f.Close()
	os.Remove(f.Name())
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return finding{warning, check, fmt.Sprintf("%s: %v", dir, err), ""}
	}
	free := int64(fs.Bavail) * int64(fs.Bsize)
	text := fmt.Sprintf("%s, %s free", dir, ui.Bytes(free))
	if free < leastSpace {
		return finding{warning, check, text, "make room; berth gc removes what is no longer needed"}
	}
	return finding{fine, check, text, ""}
}

// checkLeftovers looks for what dead sessions left, and removes it.
func (a *App) checkLeftovers(ctx context.Context) finding {
	report, err := a.sweep(ctx, true)
	if err != nil {
		f := failed("leftovers", err)
		f.Level = warning
		return f
	}
	if n, m := len(report.Sessions), len(report.Containers); n+m > 0 {
		return finding{warning, "leftovers", fmt.Sprintf("of %d dead sessions with %d containers, removed now", n, m), ""}
	}
	return finding{fine, "leftovers", "none", ""}
}

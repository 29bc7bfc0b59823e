package cli

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/cmd/internal/ui"
	"berth/configs"
	"berth/runner"
	"berth/runner/keeper"
	"berth/worktree"
)

func newConfigCmd(app *App) *cobra.Command {
	var asJSON, schema bool
	cmd := &cobra.Command{
		Use:   "config [flags]",
		Short: "Show what is set for jobs here, and where",
		Long: `Show what is set for jobs here, and where. Each of these beats those before it:

  the defaults
  your own file      $XDG_CONFIG_HOME/berth/berth.yaml, by default below ~/.config
  the repository's   berth.yaml at the top of the working tree
  the environment    BERTH_<KEY> for keys with one value, with _ for a dot:
                     BERTH_IMAGE, BERTH_TIMEOUT, BERTH_LIMITS_MEMORY
  the flags of berth run

Variables in env are added up, lists replace each other. A repository's file is
somebody's input: what in it takes from this machine, or loosens what holds
without it, is ignored until you trust it, see berth trust.`,
		Example: `  berth config
  berth config --json | jq '.values[] | select(.key == "image")'
  berth config --schema > berth.schema.json     for editors`,
		Args:        arguments(0, 0, ""),
		Annotations: map[string]string{unswept: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if schema {
				_, err := app.Stdout.Write(configs.Schema())
				return err
			}
			return app.config(cmd.Context(), asJSON)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print values, where they come from, and what is ignored")
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON schema of berth.yaml")
	return cmd
}

func (a *App) config(ctx context.Context, asJSON bool) error {
	caller, err := a.callerHere()
	if err != nil {
		return err
	}
	s, _, err := a.settings(ctx, caller)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(struct {
			Values  []configs.Setting `json:"values"`
			Ignored []configs.Setting `json:"ignored"`
		}{s.List(), append([]configs.Setting{}, s.Ignored()...)})
	}
	a.noteIgnored(s)
	return a.printSettings(s.List())
}

func (a *App) printSettings(list []configs.Setting) error {
	var rows [][]string
	for _, v := range list {
		text := ui.OneLine(v.Text)
		switch {
		case text == "" && strings.HasPrefix(v.Key, "env."):
			text = `""`
		case text == "":
			text = "none"
		}
		if v.From.File != "" {
			v.From.File = a.shortPath(v.From.File)
		}
		rows = append(rows, []string{ui.OneLine(v.Key), text, v.From.String()})
	}
	return ui.Table(a.Stdout, width(a.Stdout), []string{"KEY", "VALUE", "FROM"}, rows)
}

// settings reads the configuration for the caller's directory, and tells the
// top of the working tree that it is in, "" for none.
func (a *App) settings(ctx context.Context, caller keeper.Caller) (*configs.Settings, string, error) {
	root := ""
	repo, err := a.repoOf(ctx, caller)
	var none *worktree.NotRepoError
	var refused *worktree.RefusedRootError // no job will run in it
	switch {
	case err == nil:
		root = repo.Root()
	case !errors.As(err, &none) && !errors.As(err, &refused):
		return nil, "", err
	}
	s, err := configs.Load(configs.Sources{
		UserFile: configs.UserFile(a.getenv), Root: root, Getenv: a.getenv, Trust: caller.Dirs.TrustDir(),
	})
	return s, root, err
}

// runSettings is what holds for a run. It tells what of the repository's file
// is ignored that would have counted.
func (a *App) runSettings(ctx context.Context, caller keeper.Caller, o runOptions) (*configs.Settings, error) {
	s := &configs.Settings{Layer: configs.Defaults()}
	if !o.NoConfig {
		var err error
		if s, _, err = a.settings(ctx, caller); err != nil {
			return nil, err
		}
	}
	s.Over(o.Set)
	a.noteIgnored(s)
	// Ports are what jobs listen on if they are reached at all; who asks for
	// both gets an error.
	if s.Network == configs.NetworkNone && s.From["ports"].Kind != configs.FromFlag {
		s.Ports = nil
	}
	return s, nil
}

// noteIgnored names what an untrusted file sets in vain.
func (a *App) noteIgnored(s *configs.Settings) {
	for _, v := range s.Ignored() {
		if kind := s.From[v.Key].Kind; kind != configs.FromFlag && kind != configs.FromEnv {
			v.From.File = a.shortPath(v.From.File)
			a.note("%s: %s is ignored until you trust the file: run berth trust", v.From, v.Key)
		}
	}
}

// specOf makes a spec of what is set.
func specOf(c configs.Config) runner.Spec {
	spec := runner.Spec{
		Image: c.Image, Timeout: c.Timeout, Network: string(c.Network), Limits: runner.Limits(c.Limits),
		Carry: runner.Carry(c.Carry), NoCaches: c.Caches == configs.Off,
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		spec.Env = append(spec.Env, name+"="+c.Env[name])
	}
	for _, p := range c.Ports {
		spec.Ports = append(spec.Ports, runner.PortSpec(p))
	}
	if c.Setup.Run != "" {
		setup := runner.Setup(c.Setup)
		spec.Setup = &setup
	}
	return spec
}

// shortPath is a path as seen from the working directory, if it is below.
func (a *App) shortPath(path string) string {
	if rel, err := filepath.Rel(a.Dir, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"berth/cmd/internal/ui"
	"berth/configs"
)

// trustOptions are the flags of trust, of which one at most is set beside JSON.
type trustOptions struct{ Show, List, Revoke, JSON bool }

func newTrustCmd(app *App) *cobra.Command {
	var o trustOptions
	cmd := &cobra.Command{
		Use:   "trust [flags]",
		Short: "Let the repository's berth.yaml set what takes from this machine",
		Long: `Let the repository's berth.yaml set what takes from this machine.

A repository's berth.yaml is input of whoever wrote it. Most of it only says what
happens inside a job's container, and counts at once. Without trust these are
ignored, and named:

  carry      with paths: ignored files may be secrets
  what loosens your own file or the defaults: image: host over another image,
  network: full over none, caches or carry over off, higher limits

It prints what it allows. Trust is for this working tree and for the content of
the file: when the file changes it is to be trusted anew.`,
		Example: `  berth trust --show      what the file asks for
  berth trust             allow it
  berth trust --revoke`,
		Args:        arguments(0, 0, ""),
		Annotations: map[string]string{unswept: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.trust(cmd.Context(), o)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&o.Show, "show", false, "only show what the file asks for")
	cmd.Flags().BoolVar(&o.List, "list", false, "list what is trusted, in all repositories")
	cmd.Flags().BoolVar(&o.Revoke, "revoke", false, "trust no content of this repository's file any more")
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print it as JSON")
	return cmd
}

// trustReport is what trust prints as JSON.
type trustReport struct {
	Root    string            `json:"root"` // top of the working tree
	File    string            `json:"file"`
	Sum     string            `json:"sha256"` // of its content
	Asks    []configs.Setting `json:"asks"`   // what counts only with trust
	Trusted bool              `json:"trusted"`
}

func (a *App) trust(ctx context.Context, o trustOptions) error {
	if o.Show && o.List || o.Show && o.Revoke || o.List && o.Revoke {
		return usageError("leave out all but one", "--show, --list and --revoke exclude each other")
	}
	caller, err := a.callerHere()
	if err != nil {
		return err
	}
	trust := caller.Dirs.TrustDir()
	if o.List {
		return a.listTrusted(trust, o.JSON)
	}
	if o.Revoke {
		repo, err := a.repoOf(ctx, caller)
		if err != nil {
			return err
		}
		root := repo.Root()
		n, err := trust.Revoke(root)
		if err != nil {
			return err
		}
		if o.JSON {
			return a.printJSON(map[string]any{"root": root, "revoked": n})
		}
		if n == 0 {
			_, err = fmt.Fprintln(a.Stdout, "nothing was trusted")
			return err
		}
		_, err = fmt.Fprintf(a.Stdout, "berth.yaml of %s is not trusted any more\n", ui.OneLine(root))
		return err
	}
	// What is shown is what is trusted: one reading gives both.
	s, root, err := a.settings(ctx, caller)
	switch {
	case err != nil:
		return err
	case root == "":
		return usageError("run it in a git repository", "there is no repository here")
	case s.File == "":
		return usageError("berth config --help tells where configuration is looked for", "there is no %s in %s", configs.FileName, root)
	}
	if !o.Show && len(s.Asked) > 0 && !s.Trusted {
		if err := trust.Add(root, s.Sum, a.Now()); err != nil {
			return err
		}
		s.Trusted = true
	}
	if o.JSON {
		return a.printJSON(trustReport{Root: root, File: s.File, Sum: s.Sum, Asks: append([]configs.Setting{}, s.Asked...), Trusted: s.Trusted})
	}
	return a.printTrust(s)
}

func (a *App) printTrust(s *configs.Settings) error {
	file := ui.OneLine(a.shortPath(s.File))
	if len(s.Asked) == 0 {
		_, err := fmt.Fprintf(a.Stdout, "%s asks for nothing that needs trust\n", file)
		return err
	}
	if err := a.printSettings(s.Asked); err != nil {
		return err
	}
	verdict := "trusted: %s as it is now (sha256 %.12s)\n"
	if !s.Trusted {
		verdict = "not trusted: %s (sha256 %.12s); berth trust allows this\n"
	}
	_, err := fmt.Fprintf(a.Stdout, verdict, file, s.Sum)
	return err
}

func (a *App) listTrusted(trust configs.Trust, asJSON bool) error {
	list, err := trust.List()
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(list)
	}
	var rows [][]string
	for _, t := range list {
		rows = append(rows, []string{ui.OneLine(t.Root), t.Sum[:min(len(t.Sum), 12)], t.At.Local().Format("2006-01-02 15:04")})
	}
	return ui.Table(a.Stdout, width(a.Stdout), []string{"REPOSITORY", "SHA256", "SINCE"}, rows)
}

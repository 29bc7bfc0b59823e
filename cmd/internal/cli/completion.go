package cli

import (
	"io"
	"slices"

	"github.com/spf13/cobra"

	"berth/cmd/internal/ui"
	"berth/runner"
)

func newCompletionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print what makes a shell complete commands, flags and names of jobs",
		Long:  "Print what makes a shell complete commands, flags and names of jobs.",
		Example: `  echo 'source <(berth completion bash)' >> ~/.bashrc
  berth completion zsh > "${fpath[1]}/_berth"
  berth completion fish > ~/.config/fish/completions/berth.fish`,
		Args:        arguments(1, 1, "the name of a shell"),
		ValidArgs:   []string{"bash", "zsh", "fish"},
		Annotations: map[string]string{unswept: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(out)
			case "fish":
				return cmd.Root().GenFishCompletion(out, true)
			}
			return usageError("use: "+cmd.UseLine(), "no completion for the shell %q", args[0])
		},
	}
}

func anyJob(runner.Record) bool { return true }

// completeJob offers the handles of jobs, those of the current session first.
// It reads the disk alone, so that a key press waits for nobody.
func (a *App) completeJob(want func(runner.Record) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		l, err := a.locator(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		seen := map[string]bool{}
		for _, rank := range l.ranks() {
			for _, s := range rank {
				records, _ := s.Jobs()
				for _, r := range slices.Backward(records) {
					if want(r) && !seen[r.Handle] && !slices.Contains(args, r.Handle) {
						seen[r.Handle] = true
						names = append(names, r.Handle+"\t"+stateOf(r)+", "+ui.Cut(ui.OneLine(r.Line()), 40))
					}
				}
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

func (a *App) completeSession(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	l, err := a.locator(cmd.Context())
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range l.sessions {
		if s.Live {
			name := s.ID
			if s.Name != "" {
				name = s.Name
			}
			names = append(names, name+"\t"+a.ownerOf(s))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeCondition offers the kinds of conditions.
func completeCondition(cmd *cobra.Command) {
	cmd.RegisterFlagCompletionFunc("until", cobra.FixedCompletions(
		[]string{"exit", "port:", "text:", "http:", "quiet:"}, cobra.ShellCompDirectiveNoSpace|cobra.ShellCompDirectiveNoFileComp))
}

func completeRun(cmd *cobra.Command) {
	completeCondition(cmd)
	for _, flag := range []string{"name", "image", "env", "timeout", "publish", "wait", "ref", "cpus", "memory", "pids", "setup"} {
		cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	for flag, values := range map[string][]string{"network": {"full", "none"}, "caches": {"auto", "off"}} {
		cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	cmd.RegisterFlagCompletionFunc("carry", cobra.FixedCompletions([]string{"auto", "off"}, cobra.ShellCompDirectiveDefault))
}

// closer makes a stream that can be closed of one that may not be.
func closer(w io.Writer) io.WriteCloser {
	if c, ok := w.(io.WriteCloser); ok {
		return c
	}
	return unclosed{w}
}

type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

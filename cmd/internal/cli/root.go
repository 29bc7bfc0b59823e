package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"berth/runner/keeper"
)

// unswept marks commands before which nothing is cleaned up: they touch no
// session, or clean up themselves.
const unswept = "unswept"

const (
	groupJobs    = "jobs"
	groupInside  = "inside"
	groupResults = "results"
	groupSession = "session"
	groupBerth   = "berth"
)

func newRootCmd(app *App) *cobra.Command {
	root := &cobra.Command{
		Use:   "berth COMMAND",
		Short: "Run commands in the background, each in its own container on its own copy of your files",
		Long: `berth runs commands in the background, each in a container of its own and on a
copy of your git working tree of its own, so that builds, tests and servers do
not get in each other's way. It returns a name at once; output and exit can be
read at any time. Everything is gone when the job is killed, when the session
ends, or when whatever started it dies.`,
		Example: `  berth run -- go test ./...                start a job on the files as they are now
  berth run -n web -p 8080 -- npm start     give it a name and publish a port
  berth run --wait --ref main -- make       on another branch, and wait for it
  berth ps                                  what is running
  berth logs -f web                         its output
  berth wait test-1 && berth kill web`,
		Args: cobra.ArbitraryArgs,
		RunE: unknownCommand,
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			if _, skip := cmd.Annotations[unswept]; !skip && !strings.HasPrefix(cmd.Name(), "__") {
				app.sweep(cmd.Context(), false)
			}
		},
		DisableFlagsInUseLine: true,
		SilenceUsage:          true,
		SilenceErrors:         true,
		CompletionOptions:     cobra.CompletionOptions{DisableDefaultCmd: true},
		Annotations:           map[string]string{unswept: ""},
	}
	root.SetIn(app.Stdin)
	root.SetOut(app.Stdout)
	root.SetErr(app.Stderr)
	root.SetFlagErrorFunc(flagError)
	root.SetUsageTemplate(shorter(root.UsageTemplate()))
	root.SuggestionsMinimumDistance = 2
	root.PersistentFlags().StringVar(&app.session, "session", "", "the session to use, by `name` or ID (also BERTH_SESSION)")
	root.AddGroup(
		&cobra.Group{ID: groupJobs, Title: "Jobs:"},
		&cobra.Group{ID: groupInside, Title: "Inside a job's container:"},
		&cobra.Group{ID: groupResults, Title: "What a job has done to its files:"},
		&cobra.Group{ID: groupSession, Title: "Sessions:"},
		&cobra.Group{ID: groupBerth, Title: "Berth itself:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			c.DisableFlagsInUseLine = true
			root.AddCommand(c)
		}
	}
	add(groupJobs, newRunCmd(app, app.run), newPsCmd(app), newLogsCmd(app), newOutputCmd(app), newWaitCmd(app),
		newKillCmd(app), newInspectCmd(app), newPortCmd(app))
	add(groupInside, newExecCmd(app), newShellCmd(app))
	add(groupResults, newDiffCmd(app), newApplyCmd(app), newBranchCmd(app), newCpCmd(app))
	add(groupSession, newSessionCmd(app))
	add(groupBerth, newConfigCmd(app), newTrustCmd(app), newCacheCmd(app), newGCCmd(app), newDoctorCmd(app), newVersionCmd(app), newCompletionCmd())
	root.AddCommand(newKeeperCmd(app), newExitCodesTopic())
	help := newHelpCmd()
	root.SetHelpCommand(help)
	root.SetHelpCommandGroupID(groupBerth)
	help.GroupID = groupBerth
	return root
}

// shorter makes the help of the library shorter.
func shorter(template string) string {
	return strings.NewReplacer(
		"{{if .HasAvailableSubCommands}}\n  {{.CommandPath}} [command]{{end}}", "",
		"Additional help topics:", "More help:",
		"\n\nUse \"{{.CommandPath}} [command] --help\" for more information about a command.", "\n\n{{.CommandPath}} COMMAND --help explains a command.",
	).Replace(template)
}

// newKeeperCmd is the process that keeps a session; see package keeper.
func newKeeperCmd(app *App) *cobra.Command {
	return &cobra.Command{
		Use:         "keeper",
		Short:       "Keep a session, for berth's own use",
		Hidden:      true,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{unswept: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return keeper.RunDetached(cmd.Context(), app.Stdin, closer(app.Stdout), app.Version)
		},
	}
}

func newHelpCmd() *cobra.Command {
	return &cobra.Command{
		Use:                   "help [COMMAND]",
		Short:                 "Explain a command",
		Annotations:           map[string]string{unswept: ""},
		DisableFlagsInUseLine: true,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if of, _, err := cmd.Root().Find(args); err == nil {
				for _, c := range of.Commands() {
					if !c.Hidden {
						names = append(names, c.Name()+"\t"+c.Short)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd.Root(), args)
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

func newExitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes of berth mean",
		Long: `What the exit codes of berth mean

  berth run --wait, wait and exec exit with the command's own code. Beyond that:

  0        done; of several jobs, all succeeded
  1        of several jobs, not all succeeded; or a job ended with 0 before
           the condition of --until held; or berth apply found conflicts and
           changed nothing
  124      a job's --timeout struck, or a wait was over before its job
  125      berth or the engine failed, or the command line was wrong; a line on
           stderr says what, mostly with a hint
  126      the command is there but could not be executed
  127      the command was not found
  128+n    signal n ended the command: 137 for SIGKILL (and out of memory),
           143 for SIGTERM (and berth kill)
  129, 130, 143   berth itself was told to stop by SIGHUP, Ctrl-C or SIGTERM
  141      nobody reads what berth prints any more

  Whoever wants to tell a job's own 125 from one of berth's asks
  berth inspect: exit.reason and exit.code are kept apart there.`,
	}
}

package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"berth/runner"
)

func newPortCmd(app *App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "port JOB [PORT]",
		Short: "Print where a job's ports are reached on this machine",
		Long: `Print where a job's ports are reached on this machine. With the port in the
job, print its address alone.`,
		Example: `  berth port web                       8080/tcp -> 127.0.0.1:49160
  curl http://$(berth port web 8080)/`,
		Args: arguments(1, 2, "the name of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.port(cmd.Context(), args[0], args[1:], asJSON)
		},
		ValidArgsFunction: app.completeJob(holdsContainer),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a list of ports")
	return cmd
}

func (a *App) port(ctx context.Context, name string, wanted []string, asJSON bool) error {
	job, err := a.find(ctx, name)
	if err != nil {
		return err
	}
	if job, err = untilKnown(ctx, job); err != nil {
		return err
	}
	if job.record.State == runner.Ended {
		return usageError("its ports went with it; berth logs has its output", "job %s has ended: %s", job.record.Handle, job.record.Exit)
	}
	list := job.record.Ports
	if len(wanted) == 1 {
		spec, err := runner.ParsePort(wanted[0])
		if err != nil {
			return err
		}
		if list = selectPorts(list, spec); len(list) == 0 {
			return usageError("run it with -p "+portFlag(spec), "job %s does not publish port %d/%s", job.record.Handle, spec.Port, spec.Proto)
		}
	}
	if asJSON {
		return a.printJSON(append([]runner.Port{}, list...))
	}
	if len(list) == 0 {
		return usageError("run it with -p 8080, for the port that it listens on", "job %s publishes no port", job.record.Handle)
	}
	for _, p := range list {
		line := p.Host
		if len(wanted) == 0 {
			line = fmt.Sprintf("%d/%s -> %s", p.Port, p.Proto, p.Host)
		}
		if _, err := fmt.Fprintln(a.Stdout, line); err != nil {
			return err
		}
	}
	return nil
}

func selectPorts(list []runner.Port, spec runner.PortSpec) []runner.Port {
	for _, p := range list {
		if p.Port == spec.Port && p.Proto == spec.Proto {
			return []runner.Port{p}
		}
	}
	return nil
}

func portFlag(spec runner.PortSpec) string {
	return strings.TrimSuffix(strconv.Itoa(spec.Port)+"/"+spec.Proto, "/tcp")
}

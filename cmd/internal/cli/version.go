package cli

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"berth/images"
	"berth/runner"
)

// versionInfo is what version prints as JSON.
type versionInfo struct {
	Version   string   `json:"version"`
	Go        string   `json:"go"`
	Platform  string   `json:"platform"`
	DockerAPI string   `json:"docker_api"` // the newest that is spoken
	Init      []string `json:"init"`       // architectures of containers
}

func newVersionCmd(app *App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:         "version",
		Short:       "Print the version of berth and what it was built with",
		Long:        "Print the version of berth and what it was built with.",
		Args:        arguments(0, 0, ""),
		Annotations: map[string]string{unswept: ""},
		RunE: func(*cobra.Command, []string) error {
			v := versionInfo{
				Version: app.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
				DockerAPI: runner.APIVersion, Init: images.InitArchs(),
			}
			if asJSON {
				return app.printJSON(v)
			}
			init := "none: built without make, it cannot run jobs"
			if len(v.Init) > 0 {
				init = "linux/" + strings.Join(v.Init, ", linux/")
			}
			_, err := fmt.Fprintf(app.Stdout, "berth %s\n%s %s\ndocker api up to %s\ninit for %s\n", v.Version, v.Go, v.Platform, v.DockerAPI, init)
			return err
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

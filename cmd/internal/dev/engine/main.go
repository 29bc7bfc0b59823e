// Command engine tells the scripts beside it about the container engine that
// berth would use, on machines that have no docker command.
//
//	engine state        "ok"; "none" if nothing answers and nothing was set, so
//	                    that an engine may be set up; or "fault", and on the lines
//	                    after it what is wrong and what to do
//	engine list DIR     a line for each container of berth that has something mounted
//	                    from below the directory, and for each volume
//
// The exit code is 0 whatever the state; 1 if it cannot be told.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"berth/runner"
)

// deadline bounds all that is asked of the engine.
const deadline = 20 * time.Second

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	var err error
	switch {
	case slices.Equal(os.Args[1:], []string{"state"}):
		printState(ctx)
	case len(os.Args) == 3 && os.Args[1] == "list":
		err = list(ctx, os.Args[2])
	default:
		err = errors.New("usage: engine state | list DIR")
	}
	if err != nil {
		log.Fatal("engine: ", err)
	}
}

func printState(ctx context.Context) {
	engine, err := runner.Connect(ctx, os.Getenv)
	if err == nil {
		engine.Close()
		fmt.Println("ok")
		return
	}
	var none *runner.NoEngineError
	if errors.As(err, &none) && !none.Denied() && runner.EngineSetting(os.Getenv) == "" {
		fmt.Println("none")
		return
	}
	e := runner.Explain(err)
	fmt.Println("fault")
	fmt.Println(e.Text)
	if e.Hint != "" {
		fmt.Println("hint: " + e.Hint)
	}
}

// list prints the containers of berth that mount something from below a
// directory, and all volumes, sorted.
func list(ctx context.Context, dir string) error {
	engine, err := runner.Connect(ctx, os.Getenv)
	if err != nil {
		return err
	}
	defer engine.Close()
	// By hand, because only runner and images import the packages of the Docker
	// client, which have the types of its answers.
	get := func(path string, answer any) error {
		base := "http://engine"
		if address, ok := strings.CutPrefix(engine.DaemonHost(), "tcp://"); ok {
			base = "http://" + address
			if os.Getenv("DOCKER_CERT_PATH") != "" {
				base = "https://" + address
			}
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return err
		}
		response, err := engine.HTTPClient().Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", path, response.Status)
		}
		return json.NewDecoder(response.Body).Decode(answer)
	}
	filter, err := json.Marshal(map[string][]string{"label": {runner.LabelSession}})
	if err != nil {
		return err
	}
	var containers []struct {
		Names  []string
		Mounts []struct{ Source string }
	}
	if err := get("/containers/json?all=true&filters="+url.QueryEscape(string(filter)), &containers); err != nil {
		return err
	}
	var volumes struct{ Volumes []struct{ Name string } }
	if err := get("/volumes", &volumes); err != nil {
		return err
	}
	var lines []string
	for _, c := range containers {
		for _, m := range c.Mounts {
			if strings.HasPrefix(m.Source, dir+"/") {
				lines = append(lines, "container "+strings.TrimPrefix(strings.Join(c.Names, ","), "/"))
				break
			}
		}
	}
	for _, v := range volumes.Volumes {
		lines = append(lines, "volume "+v.Name)
	}
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
	return nil
}

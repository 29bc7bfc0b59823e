package keeper

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"

	"berth/runner"
)

// The calls, each a POST to /v1/NAME. Request and answer are one JSON value,
// but for run, which answers with a line for each event before the last, and
// exec, which goes on as in frame.go. An error is a runner.Explained with an
// HTTP status of 400 or more.
const (
	callInfo   = "info"
	callRun    = "run"
	callList   = "list"
	callGet    = "get"
	callWait   = "wait"
	callSignal = "signal"
	callKill   = "kill"
	callExec   = "exec"
	callEnd    = "end"
)

// Requests and answers that no type of the runner's has the shape of.
type (
	empty  struct{}
	jobArg struct {
		Job string `json:"job"`
	}
	signalArg struct {
		Job    string `json:"job"`
		Number int    `json:"number"`
	}
	endArg struct {
		By string `json:"by"`
	}
	// runArg is a spec whose strings arrive as they are: JSON has only UTF-8.
	runArg struct {
		runner.Spec
		Argv   [][]byte `json:"argv"`
		Env    [][]byte `json:"env"`
		Caller [][]byte `json:"caller"`
	}
	// execArg is the same for a further command.
	execArg struct {
		runner.ExecRequest
		Argv [][]byte `json:"argv"`
		Env  [][]byte `json:"env"`
	}
	// runLine is one line of the answer to run: an event, or the last one.
	runLine struct {
		Event  *runner.Event     `json:"event,omitempty"`
		Record *runner.Record    `json:"record,omitempty"`
		Error  *runner.Explained `json:"error,omitempty"`
	}
)

func newHandler(s *runner.Session) http.Handler {
	mux := http.NewServeMux()
	on := func(call string, h http.HandlerFunc) { mux.HandleFunc("POST /v1/"+call, h) }
	on(callInfo, handle(func(ctx context.Context, _ empty) (runner.Info, error) { return s.Info(ctx) }))
	on(callList, handle(func(ctx context.Context, _ empty) ([]runner.Record, error) { return s.List(ctx) }))
	on(callGet, handle(func(ctx context.Context, a jobArg) (runner.Record, error) { return s.Get(ctx, a.Job) }))
	on(callWait, handle(s.Wait))
	on(callSignal, handle(func(ctx context.Context, a signalArg) (empty, error) { return empty{}, s.Signal(ctx, a.Job, a.Number) }))
	on(callKill, handle(s.Kill))
	on(callEnd, handle(func(ctx context.Context, a endArg) (empty, error) { return empty{}, s.End(ctx, a.By) }))
	on(callRun, handleRun(s))
	on(callExec, handleExec(s))
	return mux
}

// handle makes a handler of a call with one request and one answer.
func handle[Q, A any](call func(context.Context, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if !decode(w, r, &q) {
			return
		}
		a, err := call(r.Context(), q)
		if err != nil {
			refuse(w, err)
			return
		}
		json.NewEncoder(w).Encode(a)
	}
}

func handleRun(s *runner.Session) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q runArg
		if !decode(w, r, &q) {
			return
		}
		var mu sync.Mutex
		say := func(l runLine) error {
			mu.Lock()
			defer mu.Unlock()
			if err := json.NewEncoder(w).Encode(l); err != nil {
				return err
			}
			return http.NewResponseController(w).Flush()
		}
		record, err := s.Run(r.Context(), q.spec(), func(e runner.Event) { say(runLine{Event: &e}) })
		if err != nil {
			say(runLine{Error: runner.Explain(err)})
			return
		}
		if say(runLine{Record: &record}) != nil || r.Context().Err() != nil {
			// Nobody knows of this job: its caller was interrupted.
			s.Kill(context.WithoutCancel(r.Context()), runner.KillRequest{Jobs: []string{record.ID}, By: "its caller, who left"})
		}
	}
}

func newRunArg(s runner.Spec) runArg {
	return runArg{Spec: s, Argv: toBytes(s.Argv), Env: toBytes(s.Env), Caller: toBytes(s.Caller)}
}

func (a runArg) spec() runner.Spec {
	s := a.Spec
	s.Argv, s.Env, s.Caller = toStrings(a.Argv), toStrings(a.Env), toStrings(a.Caller)
	return s
}

func newExecArg(r runner.ExecRequest) execArg {
	return execArg{ExecRequest: r, Argv: toBytes(r.Argv), Env: toBytes(r.Env)}
}

func (a execArg) request() runner.ExecRequest {
	r := a.ExecRequest
	r.Argv, r.Env = toStrings(a.Argv), toStrings(a.Env)
	return r
}

func toBytes(list []string) [][]byte {
	var b [][]byte
	for _, s := range list {
		b = append(b, []byte(s))
	}
	return b
}

func toStrings(list [][]byte) []string {
	var s []string
	for _, b := range list {
		s = append(s, string(b))
	}
	return s
}

func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	// What this version does not know it must not leave out silently.
	body := json.NewDecoder(r.Body)
	body.DisallowUnknownFields()
	if err := body.Decode(v); err != nil {
		refuse(w, &runner.InvalidError{What: "request", Why: err.Error(), Hint: "client and keeper are of different versions: berth session end"})
		return false
	}
	return true
}

func refuse(w http.ResponseWriter, err error) {
	w.WriteHeader(http.StatusBadRequest)
	json.NewEncoder(w).Encode(runner.Explain(err))
}

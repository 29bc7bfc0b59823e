package runner

import (
	"context"
	"errors"
	"time"

	"berth/worktree"
)

// deliverDeadline is how long the changes of a job may take to be applied.
const deliverDeadline = 10 * time.Minute

// Delivery is what became of the changes of a job that was run with Apply or Branch. It was made before the job's end was known.
type Delivery struct {
	Written   int                 `json:"written"`             // files made or changed in the user's working tree
	Removed   int                 `json:"removed"`             // files removed there
	Conflicts []worktree.Conflict `json:"conflicts,omitempty"` // why nothing was applied
	Branch    *worktree.Branched  `json:"branch,omitempty"`    // the branch that was made
	Error     string              `json:"error,omitempty"`     // one line: why it could not be done
	Hint      string              `json:"hint,omitempty"`
}

// Failed tells whether something was asked for that was not done.
func (d *Delivery) Failed() bool { return d != nil && d.Error != "" }

// deliver applies what a job has changed that did what it was to do. No process of it runs any more.
func (j *job) deliver() {
	if !j.spec.Apply && j.spec.Branch == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), deliverDeadline)
	defer cancel()
	over := make(chan struct{})
	defer close(over)
	go func() { // a kill gives it up, which leaves all or nothing applied
		select {
		case <-j.release:
			cancel()
		case <-over:
		}
	}()
	var d Delivery
	if err := j.deliverTo(ctx, &d); err != nil {
		e := Explain(err)
		d.Error, d.Hint = e.Text, e.Hint
	}
	j.update(func(r *Record) { r.Delivery = &d })
}

func (j *job) deliverTo(ctx context.Context, d *Delivery) error {
	result, err := j.session.results.Of(ctx, j.Record())
	if err != nil {
		return err
	}
	if j.spec.Branch != "" {
		made, err := result.Branch(ctx, j.spec.Branch, "")
		if err != nil {
			return err
		}
		d.Branch = &made
	}
	if j.spec.Apply {
		done, err := result.Apply(ctx)
		var conflict *worktree.ConflictError
		if errors.As(err, &conflict) {
			d.Conflicts = conflict.Conflicts
		}
		if err != nil {
			return err
		}
		d.Written, d.Removed = len(done.Written), len(done.Removed)
	}
	return nil
}

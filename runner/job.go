package runner

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"berth/configs"
	"berth/images"
	"berth/runner/control"
	"berth/runner/logstore"
	"berth/worktree"
)

// Waits at the edges of a job's life.
const (
	// forceAfter is how long past its grace a kill waits for init before it has
	// the engine remove the container.
	forceAfter = 500 * time.Millisecond
	// removalDeadline is how long the engine may take to remove a container
	// whose init has exited, before it is told to.
	removalDeadline = 10 * time.Second
)

// job is one job of a session. Its life is the function run; everything else
// looks at the record or asks for the end.
type job struct {
	session *Session
	spec    Spec
	files   files
	image   images.Image
	init    string // path of the init for it
	log     *logstore.Writer
	env     []string
	cancel  context.CancelFunc // of what run does before the container runs
	taken   []PortSpec         // ports of the host reserved for it

	cachesLock *fileLock // nil unless it has the repository's caches mounted

	release  chan struct{} // closed when a kept container is no longer wanted
	released sync.Once
	ended    chan struct{} // closed when the record's State is Ended
	gone     chan struct{} // closed when the record is final and the container removed

	mu         sync.Mutex
	record     Record
	changed    chan struct{} // closed and replaced at each change of record
	attachment *attachment   // nil unless the container runs
	killedBy   string        // who first asked for the end
}

func newJob(s *Session, spec Spec) *job {
	return &job{
		session: s, spec: spec,
		release: make(chan struct{}), ended: make(chan struct{}), gone: make(chan struct{}), changed: make(chan struct{}),
	}
}

// Record returns a copy of what is known now.
func (j *job) Record() Record {
	r, _ := j.watch()
	return r
}

// watch returns the record and a channel that is closed when it changes.
func (j *job) watch() (Record, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.record
	r.Ports = slices.Clone(r.Ports)
	r.Listening = slices.Clone(r.Listening)
	return r, j.changed
}

// update changes the record, keeps it on disk and tells those who watch.
// A disk that does not take it is no reason to disturb the job.
func (j *job) update(change func(*Record)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.change(change)
	saveRecord(j.record)
}

// change tells those who watch. The caller holds the lock.
func (j *job) change(change func(*Record)) {
	change(&j.record)
	close(j.changed)
	j.changed = make(chan struct{})
}

// run is the job's life. It returns when nothing of it is left on the engine,
// or the engine refuses to remove it; then the record's Gone stays false.
func (j *job) run(ctx context.Context) {
	defer close(j.gone)
	defer j.releaseCaches()
	defer j.cancel()
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	box, err := j.prepare(ctx, over)
	if err != nil {
		if j.files.form == worktree.Overlay {
			j.session.doubtOverlay(err)
		}
		j.finish(j.startFailure(err))
	} else {
		err = j.attend(box)
	}
	if err != nil {
		err = j.remove(ctx)
	}
	j.session.ports.release(j.taken)
	j.update(func(r *Record) { r.Gone = err == nil })
}

// attend stays with a running container until it is gone by itself, or returns
// why that cannot be told.
func (j *job) attend(b *box) error {
	defer b.attachment.close()
	exit := j.follow(b)
	if exit.OK() {
		j.deliver()
	}
	j.finish(exit)
	if j.spec.Keep && exit.Reason != ReasonLost {
		select {
		case <-j.release:
		case <-b.broken: // somebody else has ended the container
		}
	}
	b.attachment.closeInput()
	code, err := b.wait()
	if err == nil {
		j.crossCheck(code)
	}
	return err
}

// remove has the engine remove the job's container, if there ever was one.
func (j *job) remove(ctx context.Context) error {
	id := j.Record().Container
	if id == "" {
		return nil
	}
	return removeContainer(ctx, j.session.engine, id)
}

// startFailure is the end of a job whose command was never handed over.
func (j *job) startFailure(err error) Exit {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.killedBy != "" {
		return Exit{Reason: ReasonKilled, Code: 143, Signal: 15, By: j.killedBy}
	}
	e := Explain(err)
	return Exit{Reason: ReasonStartFailed, Code: 125, Error: e.Text, Hint: e.Hint}
}

// box is a job's running container.
type box struct {
	id         string
	nonce      string
	attachment *attachment
	broken     chan error     // why the connection to it ended, once
	removal    <-chan removal // the engine's word that it is gone, once
	last       *removal       // what came from there
}

// removal is what the engine says of a container that is gone: the exit code
// that it saw, or why it cannot tell.
type removal struct {
	code int64
	err  error
}

// watchRemoval registers for the removal of a container, which must happen
// before its start. The answer waits to be received, and comes at the latest
// when ctx is done. The goroutine that waits for it is added to readers.
func watchRemoval(ctx context.Context, eng Engine, readers *sync.WaitGroup, id string) <-chan removal {
	removed, failed := eng.ContainerWait(ctx, id, container.WaitConditionRemoved)
	answer := make(chan removal, 1)
	readers.Go(func() {
		select {
		case r := <-removed:
			a := removal{code: r.StatusCode}
			if r.Error != nil {
				a.err = errors.New(r.Error.Message)
			}
			answer <- a
		case err := <-failed:
			answer <- removal{err: err}
		}
	})
	return answer
}

// wait returns the exit code that the engine saw, once the container is gone,
// or why that is not known. It is for one goroutine.
func (b *box) wait() (int64, error) {
	if b.last == nil {
		select {
		case r := <-b.removal:
			b.last = &r
		case <-time.After(removalDeadline):
			b.last = &removal{err: fmt.Errorf("not removed after %v", removalDeadline)}
		}
	}
	return b.last.code, b.last.err
}

// prepare makes the job's files and its container, and hands over the command.
func (j *job) prepare(ctx, over context.Context) (*box, error) {
	mounts, env, err := j.mounts(ctx)
	if err != nil {
		return nil, err
	}
	j.env = env
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := j.session
	spec := shape{
		name:     fmt.Sprintf("berth-%s-%s", j.record.Handle, j.record.ID[len(j.record.ID)-6:]),
		hostname: j.record.Handle,
		labels:   s.labels(j.record),
		image:    j.image,
		init:     j.init,
		uid:      j.uid(),
		gid:      j.gid(),
		mounts:   mounts,
		ports:    j.hostPorts(),
		network:  j.spec.Network,
		limits:   s.bounded(j.spec.Limits),
	}
	b, err := j.start(ctx, over, spec)
	switch {
	case errdefs.IsNotFound(err): // somebody has removed the network since we looked
		if err := ensureNetwork(ctx, s.engine); err != nil {
			return nil, err
		}
		b, err = j.start(ctx, over, spec)
	case isPortTaken(err):
		// Somebody took the port since we looked. One that was only our
		// suggestion is left to the engine.
		if i := slices.IndexFunc(j.spec.Ports, func(p PortSpec) bool { return p.Host != 0 && !s.ports.free(p) }); i >= 0 {
			return nil, &PortTakenError{j.spec.Ports[i]}
		}
		spec.ports = j.spec.Ports
		b, err = j.start(ctx, over, spec)
	}
	return b, err
}

// bounded makes of limits those that the engine takes: it refuses more
// processors than there are, which a file written for a larger machine asks for.
func (s *Session) bounded(l Limits) Limits {
	if s.cpus > 0 {
		l.CPUs = min(l.CPUs, float64(s.cpus))
	}
	return l
}

// hostPorts fills in the host's port for those that ask for none in
// particular: the same, if nobody has it.
func (j *job) hostPorts() []PortSpec {
	ports := slices.Clone(j.spec.Ports)
	for i, p := range ports {
		if p.Host == 0 && j.session.ports.take(PortSpec{Port: p.Port, Host: p.Port, Proto: p.Proto}) {
			ports[i].Host = p.Port
			j.mu.Lock()
			j.taken = append(j.taken, ports[i])
			j.mu.Unlock()
		}
	}
	return ports
}

// start creates a container, registers for its output and its removal, starts
// it and hands over the command. On error it leaves nothing. over ends what was
// registered for.
func (j *job) start(ctx, over context.Context, spec shape) (_ *box, err error) {
	eng := j.session.engine
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// A call that is given up the engine carries out all the same, and nobody
	// knows when. So a kill waits for these, which takes a moment.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeDeadline)
	defer cancel()
	config, host, net := spec.config()
	created, err := eng.ContainerCreate(ctx, config, host, net, nil, spec.name)
	if err != nil {
		if !refusedToCreate(err) { // it may have been made by now
			err = errors.Join(err, removeWhenMade(ctx, eng, spec.name))
		}
		return nil, engineError("create container", err)
	}
	b := &box{id: created.ID, nonce: newNonce(), broken: make(chan error, 1)}
	j.update(func(r *Record) { r.Container = b.id })
	defer func() {
		if err != nil {
			if b.attachment != nil {
				b.attachment.close()
			}
			err = errors.Join(err, removeContainer(ctx, eng, b.id))
		}
	}()
	if b.attachment, err = attach(ctx, eng, b.id); err != nil {
		return nil, err
	}
	// The wait outlives this function, and ends with the job.
	b.removal = watchRemoval(over, eng, &j.session.readers, b.id)
	if err := eng.ContainerStart(ctx, b.id, container.StartOptions{}); err != nil {
		return nil, engineError("start container", err)
	}
	// A kill finds the attachment from here on, and its message the start
	// message before it.
	if err := b.attachment.send(j.startMessage(b.nonce)); err != nil {
		return nil, err
	}
	var ports []Port
	if len(spec.ports) > 0 {
		info, err := eng.ContainerInspect(ctx, b.id)
		if err != nil {
			return nil, engineError("ask for the ports", err)
		}
		if info.NetworkSettings != nil {
			ports = publishedPorts(spec.ports, info.NetworkSettings.Ports)
		}
	}
	j.mu.Lock()
	killed := j.killedBy != ""
	j.attachment = b.attachment
	j.mu.Unlock()
	if killed {
		return nil, context.Canceled
	}
	j.update(func(r *Record) { r.Ports = ports })
	return b, nil
}

func (j *job) startMessage(nonce string) control.Message {
	return control.Start{
		Nonce:   nonce,
		Argv:    j.spec.Argv,
		Env:     j.env,
		Dir:     j.record.Dir,
		Timeout: j.spec.Timeout,
		Grace:   configs.Grace,
		Ports:   controlPorts(j.spec.Ports),
	}.Message()
}

// refusedToCreate tells errors with which the engine says that it has made
// nothing from those after which nobody knows.
func refusedToCreate(err error) bool {
	return errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) || errdefs.IsConflict(err) || errdefs.IsPermissionDenied(err)
}

// newNonce makes the word that marks init's frames, which the job must not be
// able to guess.
func newNonce() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// follow reads the container's output until init says that it is complete, or
// the connection ends without that word.
func (j *job) follow(b *box) Exit {
	var (
		exited   *control.Exited
		ends     [3]bool
		complete = make(chan struct{})
	)
	// Output may overtake the word that the command runs: they come on two
	// streams. Both are read by one goroutine.
	begun := false
	begin := func() {
		if !begun {
			begun = true
			j.update(func(r *Record) { r.State, r.Started = Running, time.Now() })
		}
	}
	frame := func(stream logstore.Stream, m control.Message) {
		switch m.Op {
		case control.OpStarted:
			begin()
		case control.OpListening, control.OpClosed:
			j.listening(m.Int("port"), m.Op == control.OpListening)
		case control.OpExited:
			e := control.ParseExited(m)
			exited = &e
		case control.OpEnd:
			if ends[stream] = true; ends[logstore.Stdout] && ends[logstore.Stderr] && exited != nil {
				close(complete)
			}
		}
	}
	j.session.readers.Go(func() {
		b.broken <- b.attachment.read(b.nonce, func(s logstore.Stream, p []byte) {
			begin()
			j.log.Append(s, time.Now(), p)
			j.session.touch()
		}, frame)
	})
	select {
	case <-complete:
		return j.reported(*exited)
	case err := <-b.broken:
		select {
		case <-complete: // both at once
			b.broken <- err
			return j.reported(*exited)
		default:
		}
		return j.lost(b, err)
	}
}

// reported is the end as init reported it.
func (j *job) reported(e control.Exited) Exit {
	j.mu.Lock()
	defer j.mu.Unlock()
	exit := Exit{Reason: Reason(e.Reason), Code: e.Code, Signal: e.Signal, Error: e.Error}
	if exit.Reason == ReasonKilled {
		exit.By = j.killedBy
	}
	return exit
}

// lost is the end of a job whose init did not report one: by us, when we had
// the container removed, else by somebody or something else.
func (j *job) lost(b *box, err error) Exit {
	code, werr := b.wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.killedBy != "" {
		return Exit{Reason: ReasonKilled, Code: 137, Signal: 9, By: j.killedBy}
	}
	text := fmt.Sprintf("its container was ended from outside (code %d)", code)
	if werr != nil {
		text = oneLine(errors.Join(errors.New("the connection to the engine broke"), err, werr).Error())
	}
	return Exit{Reason: ReasonLost, Code: 125, Error: text}
}

// crossCheck compares init's report with what the engine saw. A difference
// means that init was killed after its report, or forged; neither is trusted.
func (j *job) crossCheck(code int64) {
	j.mu.Lock()
	exit := *j.record.Exit
	j.mu.Unlock()
	if exit.Reason == ReasonLost || exit.Reason == ReasonKilled || int64(exit.Code) == code {
		return
	}
	j.update(func(r *Record) {
		r.Exit = &Exit{Reason: ReasonLost, Code: 125, Error: fmt.Sprintf("init reported exit %d, the engine %d", exit.Code, code)}
	})
}

// finish makes the end known, when all output is in the log.
func (j *job) finish(exit Exit) {
	j.log.Close()
	j.update(func(r *Record) {
		r.State, r.Ended, r.Exit, r.Listening = Ended, time.Now(), &exit, nil
	})
	close(j.ended)
	j.session.touch()
}

// mostListening bounds how many listening ports of a job are remembered: a job
// may open all that there are.
const mostListening = 256

// listening notes a port that the job began or ceased to listen on. It is not
// written to disk each time: a job may do so all day.
func (j *job) listening(port int, open bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.change(func(r *Record) {
		r.Listening = slices.DeleteFunc(slices.Clone(r.Listening), func(p int) bool { return p == port })
		if open && len(r.Listening) < mostListening {
			r.Listening = append(r.Listening, port)
			slices.Sort(r.Listening)
		}
	})
}

// hasPort tells whether the job was given a port of the host that is wanted.
func (j *job) hasPort(wanted PortSpec) bool {
	port := cmp.Or(wanted.Host, wanted.Port)
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.taken, func(p PortSpec) bool { return p.Proto == wanted.Proto && p.Host == port })
}

// kill ends the job and returns when nothing of it is left on the engine: at
// most a moment after the grace.
func (j *job) kill(by string, grace time.Duration) error {
	j.mu.Lock()
	a, state := j.attachment, j.record.State
	if j.killedBy == "" && state != Ended {
		j.killedBy = by
	}
	j.mu.Unlock()
	j.released.Do(func() { close(j.release) })
	if a == nil {
		j.cancel()
	} else if state != Ended {
		a.send(control.Message{Op: control.OpKill}.AddInt("grace", int(grace.Milliseconds()))) // if it fails, force follows
	}
	force := time.NewTimer(grace + forceAfter)
	defer force.Stop()
	select {
	case <-j.gone:
		return j.left()
	case <-force.C:
	}
	if err := j.remove(context.Background()); err != nil {
		return err
	}
	<-j.gone // which has deadlines of its own
	return j.left()
}

// left tries once more to remove a container that could not be removed when
// the job was over.
func (j *job) left() error {
	if j.Record().Gone {
		return nil
	}
	err := j.remove(context.Background())
	j.update(func(r *Record) { r.Gone = err == nil })
	return err
}

// signal sends a signal to every process of the job.
func (j *job) signal(number int) error {
	j.mu.Lock()
	a, record := j.attachment, j.record
	j.mu.Unlock()
	if a == nil || record.State == Ended {
		return &NotRunningError{record}
	}
	return a.send(control.Message{Op: control.OpSignal}.AddInt("number", number))
}

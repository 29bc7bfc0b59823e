package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"berth/configs"
	"berth/images"
	"berth/runner/logstore"
	"berth/worktree"
)

// Options are what a session is made of.
type Options struct {
	Dirs    configs.Dirs
	Info    Info // ID, Dir, Live and PID are filled in
	Version string
	// Connect finds the engine, when it is first needed and again if that
	// failed. The session closes it.
	Connect func(context.Context) (Engine, error)
}

// Session is a set of jobs that end together. It belongs to this process: when
// the process dies, in whatever way, so do the jobs.
type Session struct {
	options Options
	state   StateDir
	store   *worktree.Store
	lock    *fileLock
	uid     int
	gid     int
	home    string
	user    string
	ports   portTable
	begun   sync.WaitGroup // jobs
	readers sync.WaitGroup // of their output

	connecting sync.Mutex
	engine     Engine // nil before the first connection
	images     *images.Resolver
	cpus       int  // of the engine's machine
	network    bool // is there
	probed     *Probed
	results    *Results

	mu      sync.Mutex
	info    Info
	jobs    []*job // in order of their beginning
	counts  map[string]int
	lastUse time.Time
	uses    int // calls under way
	ending  bool
	ended   chan struct{}
	life    context.Context // of what no job owns; over when the session ends
	stop    context.CancelFunc
	named   map[string]*namedFiles // by name
	setups  map[string]*setupRun   // under way, by key
}

// NewSession begins a session and locks its directory, until [Session.End].
func NewSession(o Options) (*Session, error) {
	state := StateDir(o.Dirs.State)
	id := ulid.Make().String()
	info := o.Info
	info.ID, info.Dir, info.PID, info.Live = id, state.sessionDir(id), os.Getpid(), true
	info.Version, info.Created = o.Version, time.Now()
	if err := os.MkdirAll(filepath.Join(info.Dir, jobsDir), 0o700); err != nil {
		return nil, err
	}
	// Nobody else makes this session, but a sweep may be looking at the lock.
	l, err := lock(filepath.Join(info.Dir, lockFile), true)
	if err != nil {
		return nil, err
	}
	user := userName()
	s := &Session{
		options: o,
		state:   state,
		lock:    l,
		uid:     os.Getuid(),
		gid:     os.Getgid(),
		home:    jobHome(os.Getenv("HOME"), user),
		user:    user,
		info:    info,
		counts:  map[string]int{},
		named:   map[string]*namedFiles{},
		setups:  map[string]*setupRun{},
		lastUse: time.Now(),
		ended:   make(chan struct{}),
	}
	s.life, s.stop = context.WithCancel(context.Background())
	hands := NewHands(o.Dirs, o.Version, s.lend)
	hands.session = id
	s.store = worktree.NewStore(o.Dirs.Cache, worktree.Reserve(o.Dirs.State), worktree.RemoveWith(hands.Remove))
	s.results = NewResults(o.Dirs, s.home, hands)
	return s, nil
}

// lend gives the session's engine to who needs one.
func (s *Session) lend(context.Context) (Engine, func(), error) {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if s.engine == nil {
		return nil, nil, errors.New("there is no engine yet")
	}
	return s.engine, func() {}, nil
}

// Publish makes the session known to other processes, with the socket at which
// it is served. It is called once, when it is.
func (s *Session) Publish(socket string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info.Socket = socket
	return writeJSON(filepath.Join(s.info.Dir, sessionFile), s.info)
}

// Dir is the session's own directory.
func (s *Session) Dir() string { return s.info.Dir }

// Info describes the session. When it is about to end, it is not to be used
// any more: the error is *[EndedError].
func (s *Session) Info(context.Context) (Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return s.info, &EndedError{s.info.ID}
	}
	s.lastUse = time.Now()
	return s.info, nil
}

// Ended is closed when the session has ended.
func (s *Session) Ended() <-chan struct{} { return s.ended }

// connect makes sure that there is an engine, with our network on it.
func (s *Session) connect(ctx context.Context) error {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if s.engine == nil {
		eng, err := s.options.Connect(ctx)
		if err != nil {
			return err
		}
		info, err := eng.Info(ctx)
		if err != nil {
			eng.Close()
			return engineError("ask the engine about itself", err)
		}
		if IsRootless(info) {
			s.uid, s.gid = 0, 0 // which is the calling user outside
		}
		s.engine, s.images, s.cpus = eng, images.NewResolver(eng), info.NCPU
	}
	if !s.network {
		if err := ensureNetwork(ctx, s.engine); err != nil {
			return err
		}
		s.network = true
	}
	return nil
}

// Run begins a job; see [Service].
func (s *Session) Run(ctx context.Context, spec Spec, events func(Event)) (Record, error) {
	defer s.use()()
	if err := spec.Validate(); err != nil {
		return Record{}, err
	}
	if err := s.connect(ctx); err != nil {
		return Record{}, err
	}
	j := newJob(s, spec)
	r := Record{
		ID:      ulid.Make().String(),
		Command: spec.Argv,
		Dir:     spec.Dir,
		Timeout: spec.Timeout,
		Keep:    spec.Keep,
		Root:    spec.Root,
		State:   Preparing,
		Created: time.Now(),
	}

	both, bctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		j.files, err = s.findFiles(bctx, spec)
		return err
	})
	both.Go(func() (err error) {
		j.image, j.init, err = s.findImage(bctx, spec.image(), events)
		return err
	})
	if err := both.Wait(); err != nil {
		return Record{}, err
	}
	if err := j.carry(ctx); err != nil {
		return Record{}, err
	}
	r.Image, r.ImageID, r.Digest = j.image.Ref, j.image.ID, j.image.Digest
	r.Form, r.Snapshot, r.From, r.Workspace = j.files.form, j.files.snap, j.files.from.ID, spec.Workspace
	if j.files.repo != nil {
		r.Repo = j.files.repo.Root()
	}
	j.record = r
	s.awaitPorts(ctx, spec.Ports)
	if err := s.register(j); err != nil {
		return Record{}, err
	}
	return j.Record(), nil
}

// findImage resolves the image and has the init for it at hand.
func (s *Session) findImage(ctx context.Context, ref string, events func(Event)) (image images.Image, init string, err error) {
	image, err = s.images.Resolve(ctx, ref, func(p images.Progress) {
		if events != nil {
			events(Event{Pull: &p})
		}
	})
	if err == nil {
		init, err = images.InstallInit(filepath.Join(s.options.Dirs.Cache, "init"), image.Arch)
	}
	return image, init, err
}

// portPatience is how long a new job waits for a port that a job has which has
// just ended: its container is being removed.
const portPatience = 3 * time.Second

// awaitPorts waits for ended jobs that still have a port which is wanted.
func (s *Session) awaitPorts(ctx context.Context, wanted []PortSpec) {
	ctx, cancel := context.WithTimeout(ctx, portPatience)
	defer cancel()
	s.mu.Lock()
	jobs := slices.Clone(s.jobs)
	s.mu.Unlock()
	for _, j := range jobs {
		if r := j.Record(); r.State != Ended || r.Gone || r.Keep || !slices.ContainsFunc(wanted, func(w PortSpec) bool { return j.hasPort(w) }) {
			continue
		}
		select {
		case <-j.gone:
		case <-ctx.Done():
			return
		}
	}
}

// register gives the job its handle, its ports and its directory, and sets it
// off. On error nothing of it is left.
func (s *Session) register(j *job) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return &EndedError{s.info.ID}
	}
	if j.record.Handle, err = s.newHandle(j); err != nil {
		return err
	}
	for _, p := range j.spec.Ports {
		if p.Host == 0 {
			continue
		}
		if !s.ports.take(p) {
			s.ports.release(j.taken)
			return &PortTakenError{p}
		}
		j.taken = append(j.taken, p)
	}
	j.record.Session = s.info.ID
	j.record.Dirname = filepath.Join(s.info.Dir, jobsDir, j.record.ID)
	defer func() {
		if err != nil {
			s.ports.release(j.taken)
			os.RemoveAll(j.record.Dirname)
		}
	}()
	if err := os.MkdirAll(j.record.LogDir(), 0o700); err != nil {
		return err
	}
	if j.log, err = logstore.Create(j.record.LogDir(), configs.LogLimit); err != nil {
		return err
	}
	if err := saveRecord(j.record); err != nil {
		j.log.Close()
		return err
	}
	s.jobs = append(s.jobs, j)
	ctx, cancel := context.WithCancel(context.Background())
	j.cancel = cancel
	s.begun.Go(func() { j.run(ctx) })
	return nil
}

// newHandle makes a handle that no running job of the session has: the name
// that was asked for, or the command's with a number. A name may be used again
// when its job has ended, and means the newer one from then on.
func (s *Session) newHandle(j *job) (string, error) {
	spec := j.spec
	if spec.Name == "" {
		base := spec.handleBase()
		if j.files.setup != nil {
			base = "setup"
		}
		for {
			s.counts[base]++
			h := base + "-" + strconv.Itoa(s.counts[base])
			if !slices.ContainsFunc(s.jobs, func(j *job) bool { return j.record.Handle == h }) { // a handle never changes
				return h, nil
			}
		}
	}
	for _, j := range s.jobs {
		if r := j.Record(); r.Handle == spec.Name && (r.State != Ended || r.Keep && !r.Gone) {
			return "", &NameTakenError{spec.Name}
		}
	}
	return spec.Name, nil
}

func (s *Session) labels(r Record) map[string]string {
	return map[string]string{
		LabelSession: s.info.ID,
		LabelJob:     r.ID,
		LabelRepo:    r.Repo,
		LabelVersion: s.options.Version,
		LabelOwner:   s.state.Owner(),
	}
}

// List returns all records; see [Service].
func (s *Session) List(context.Context) ([]Record, error) {
	defer s.use()()
	return s.records(), nil
}

func (s *Session) records() []Record {
	s.mu.Lock()
	jobs := s.jobs
	s.mu.Unlock()
	records := make([]Record, len(jobs))
	for i, j := range jobs {
		records[i] = j.Record()
	}
	return records
}

// Get returns one record; see [Service].
func (s *Session) Get(_ context.Context, name string) (Record, error) {
	defer s.use()()
	j, err := s.find(name)
	if err != nil {
		return Record{}, err
	}
	return j.Record(), nil
}

// Log opens a job's output; see [Service].
func (s *Session) Log(_ context.Context, name string) (*logstore.Reader, error) {
	j, err := s.find(name)
	if err != nil {
		return nil, err
	}
	return j.log.Reader(), nil
}

func (s *Session) find(name string) (*job, error) {
	r, err := Find(name, s.records())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		if j.record.ID == r.ID { // an ID never changes, so no lock on j
			return j, nil
		}
	}
	return nil, &UnknownJobError{Job: name}
}

// Signal sends a signal; see [Service].
func (s *Session) Signal(_ context.Context, name string, number int) error {
	defer s.use()()
	j, err := s.find(name)
	if err != nil {
		return err
	}
	return j.signal(number)
}

// Kill ends jobs; see [Service]. It is carried through when its caller leaves.
func (s *Session) Kill(_ context.Context, r KillRequest) ([]Record, error) {
	defer s.use()()
	var jobs []*job
	if r.All {
		s.mu.Lock()
		for _, j := range s.jobs {
			if !j.Record().Gone {
				jobs = append(jobs, j)
			}
		}
		s.mu.Unlock()
	}
	for _, name := range r.Jobs {
		j, err := s.find(name)
		if err != nil {
			return nil, err // before the first is killed
		}
		jobs = append(jobs, j)
	}
	err := killAll(jobs, r.By, r.Grace)
	records := make([]Record, len(jobs))
	for i, j := range jobs {
		records[i] = j.Record()
	}
	return records, err
}

// killAll ends jobs at once.
func killAll(jobs []*job, by string, grace time.Duration) error {
	errs := make([]error, len(jobs))
	var wg sync.WaitGroup
	for i, j := range jobs {
		wg.Go(func() {
			if err := j.kill(by, grace); err != nil {
				errs[i] = fmt.Errorf("kill %s: %w", j.Record().Handle, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// End ends the session; see [Service]. Further calls wait for the first.
func (s *Session) End(ctx context.Context, by string) error {
	return s.end(ctx, by, configs.Grace)
}

// OwnerDied ends the session with the short grace for that case.
func (s *Session) OwnerDied(ctx context.Context) error {
	return s.end(ctx, "the end of the session's owner", configs.OwnerGrace)
}

func (s *Session) end(ctx context.Context, by string, grace time.Duration) error {
	s.mu.Lock()
	first := !s.ending
	s.ending = true
	jobs := s.jobs
	s.mu.Unlock()
	if !first {
		select {
		case <-s.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// What has begun is carried through, whoever asked for it is gone or not.
	ctx = context.WithoutCancel(ctx)
	s.stop()
	err := killAll(jobs, by, grace)
	s.begun.Wait()
	s.readers.Wait()
	err = errors.Join(err, s.removeLeft(ctx))
	for _, j := range jobs {
		// Written once more: without its end on disk a record tells lies, and the
		// session is left to the sweep.
		err = errors.Join(err, saveRecord(j.Record()))
	}
	err = errors.Join(err, clean(ctx, s.info, s.results))
	s.store.Close()
	_, _ = s.store.Trim(ctx, configs.LayerLimit) // gc tells what cannot be removed
	if len(jobs) == 0 {
		err = errors.Join(err, os.RemoveAll(s.info.Dir)) // nothing to remember
	} else if err == nil {
		err = markEnded(s.info.Dir)
	}
	s.connecting.Lock()
	if s.engine != nil {
		s.engine.Close()
	}
	s.connecting.Unlock()
	close(s.ended)
	s.lock.unlock()
	return err
}

// removeLeft removes what the engine has of this session when its jobs are gone: volumes of named workspaces, what somebody else left when he removed
// a container, and a container whose creation was answered by a broken connection.
func (s *Session) removeLeft(ctx context.Context) error {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if s.engine == nil {
		return nil
	}
	_, err := removeLabelled(ctx, s.engine, LabelSession+"="+s.info.ID, func(container.Summary) bool { return true })
	return errors.Join(err, removeVolumes(ctx, s.engine, LabelSession+"="+s.info.ID, func(string) bool { return true }))
}

// use counts a call for the lease, until the returned function is called.
func (s *Session) use() (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.uses--
		s.lastUse = time.Now()
	}
}

// touch notes that something happened that keeps a lease alive.
func (s *Session) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastUse = time.Now()
}

// Idle tells how long nobody has used the session and no job has had output,
// and whether it ever had a job.
func (s *Session) Idle() (idle time.Duration, empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uses > 0 {
		return 0, len(s.jobs) == 0
	}
	return time.Since(s.lastUse), len(s.jobs) == 0
}

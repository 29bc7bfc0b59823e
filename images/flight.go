package images

import (
	"context"
	"sync"
)

// flight is one pull that any number of callers wait for. Its context is nobody's, and ends when nobody waits.
type flight struct {
	cancel context.CancelFunc
	done   chan struct{} // closed after img and err are set
	img    Image
	err    error

	mu     sync.Mutex
	last   Progress
	wakeup map[chan struct{}]struct{} // one a waiter, of capacity 1: a step that is missed is replaced by a later one
}

// report makes a step known to all waiters, without ever blocking on one.
func (f *flight) report(p Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = p
	for wakeup := range f.wakeup {
		select {
		case wakeup <- struct{}{}:
		default:
		}
	}
}

// latest is the last step reported.
func (f *flight) latest() Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// share runs fetch once for all concurrent callers with the same key, and shows its steps to each of them. A caller
// whose context ends leaves; the last to leave cancels fetch and waits for its end, so that none outlives its callers.
func (r *Resolver) share(ctx context.Context, key string, progress func(Progress),
	fetch func(ctx context.Context, report func(Progress)) (Image, error)) (Image, error) {
	wakeup := make(chan struct{}, 1)
	r.mu.Lock()
	f := r.flights[key]
	if f == nil {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f = &flight{cancel: cancel, done: make(chan struct{}), wakeup: map[chan struct{}]struct{}{}}
		r.flights[key] = f
		go func() {
			f.img, f.err = fetch(own, f.report)
			r.forget(key, f)
			close(f.done)
		}()
	}
	f.mu.Lock()
	f.wakeup[wakeup] = struct{}{}
	f.mu.Unlock()
	r.mu.Unlock()
	defer r.leave(key, f, wakeup)

	for told := false; ; {
		select {
		case <-ctx.Done():
			return Image{}, ctx.Err()
		case <-wakeup:
		case <-f.done:
			if p := f.latest(); progress != nil && p.Done && !told {
				progress(p)
			}
			return f.img, f.err
		}
		if p := f.latest(); progress != nil && !told {
			progress(p)
			told = p.Done
		}
	}
}

// leave ends one caller's wait.
func (r *Resolver) leave(key string, f *flight, wakeup chan struct{}) {
	r.mu.Lock()
	f.mu.Lock()
	delete(f.wakeup, wakeup)
	last := len(f.wakeup) == 0
	f.mu.Unlock()
	if last && r.flights[key] == f {
		delete(r.flights, key) // nobody may join what is about to be cancelled
	}
	r.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
}

// forget makes the next caller start anew.
func (r *Resolver) forget(key string, f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flights[key] == f {
		delete(r.flights, key)
	}
}

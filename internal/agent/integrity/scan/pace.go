package scan

import (
	"context"
	"errors"
	"time"

	"ward/internal/device/idle"
	"ward/internal/trust/watch"
)

const (
	// look is how much work lies between two looks at the thread's clock, in bytes
	// that are hashed or as many as a look at one name is worth.
	look = 128 << 10
	// nameWork is what a look at a name is worth in bytes: about five calls of the
	// kernel take as long as the hashing of so many.
	nameWork = 8 << 10
	// burst is how much may be done at once behind a rest: short enough that a control
	// loop on the same processor is not late by it.
	burst = 2 * time.Millisecond
	// aliveEvery is how often a resting scan says that it is alive.
	aliveEvery = 5 * time.Second
)

// pacer keeps a pass within the budget of its release, and still while therapy
// holds a lease. It is for the thread that does the work.
type pacer struct {
	ctx   context.Context
	lease Lease
	limit func() watch.Scan
	alive func()
	pause func(begun bool) // a lease holds the work off from now on, or no longer

	work   int
	read   int64         // bytes that have not been paid for
	cpu    time.Duration // of the thread, at the last look
	at     time.Time     // of the last look
	credit time.Duration // of the processor, at most burst
	bytes  float64       // credit of reading
	paused time.Duration
}

func newPacer(ctx context.Context) *pacer {
	return &pacer{ctx: ctx, at: time.Now(), cpu: idle.CPU(), alive: func() {}, pause: func(bool) {}}
}

// pace is called before each piece of work.
func (p *pacer) pace(bytes int) error {
	if p.ctx.Err() != nil {
		return errors.Join(errStopped, p.ctx.Err())
	}
	if p.lease != nil && p.lease.Held() {
		if err := p.wait(); err != nil {
			return err
		}
	}
	p.work += bytes + nameWork
	p.read += int64(bytes)
	if p.work < look || p.limit == nil {
		return nil
	}
	p.work = 0
	p.alive()
	return p.rest(p.debt())
}

// debt is how long to rest for what was done since the last look.
func (p *pacer) debt() time.Duration {
	limit := p.limit()
	now, cpu := time.Now(), idle.CPU()
	elapsed, used := now.Sub(p.at), cpu-p.cpu
	p.at, p.cpu = now, cpu
	share := float64(limit.CPUPercent) / 100
	p.credit = min(burst, p.credit+time.Duration(float64(elapsed)*share)) - used
	rate := float64(limit.ReadKiBPerSecond) * 1024
	p.bytes = min(2*look, p.bytes+elapsed.Seconds()*rate) - float64(p.read)
	p.read = 0
	var rest time.Duration
	if p.credit < 0 && share < 1 {
		rest = time.Duration(float64(-p.credit) / share)
	}
	if p.bytes < 0 {
		rest = max(rest, time.Duration(-p.bytes/rate*float64(time.Second)))
	}
	return rest
}

func (p *pacer) rest(d time.Duration) error {
	for d > 0 {
		step := min(d, aliveEvery)
		timer := time.NewTimer(step)
		select {
		case <-p.ctx.Done():
			timer.Stop()
			return errors.Join(errStopped, p.ctx.Err())
		case <-timer.C:
		}
		d -= step
		p.alive()
	}
	return nil
}

// wait returns when nobody holds a lease any more.
func (p *pacer) wait() error {
	begun := time.Now()
	p.pause(true)
	defer func() {
		p.paused += time.Since(begun)
		p.pause(false)
		p.at, p.credit, p.bytes = time.Now(), 0, 0
	}()
	for p.lease.Held() {
		changed := p.lease.Changed()
		if !p.lease.Held() {
			break
		}
		timer := time.NewTimer(aliveEvery)
		select {
		case <-p.ctx.Done():
			timer.Stop()
			return errors.Join(errStopped, p.ctx.Err())
		case <-changed:
			timer.Stop()
		case <-timer.C:
			p.alive()
		}
	}
	return nil
}

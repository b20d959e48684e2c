package crash

import (
	"bytes"
	"context"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"ward/internal/agent/localapi"
)

// process is a running wardd.
type process struct {
	w     *world
	cmd   *exec.Cmd
	log   bytes.Buffer
	ended chan struct{}
	err   error
	once  sync.Once
	local *localapi.Client
}

func (w *world) start() *process {
	w.t.Helper()
	w.manageTPM()
	p := &process{w: w, ended: make(chan struct{}), local: localapi.NewClient(w.file("wardd.sock"))}
	p.cmd = exec.Command(w.wardd, "-config", w.file("wardd.toml"))
	p.cmd.Stderr = &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(w.t, p.cmd.Start())
	go func() { p.err = p.cmd.Wait(); close(p.ended) }()
	w.t.Cleanup(p.kill)
	return p
}

// kill ends it at once, kill(1) -9.
func (p *process) kill() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
}

func (p *process) signal(s syscall.Signal) { check(p.w.t, p.cmd.Process.Signal(s)) }

// stop asks it to end, as a service manager does, and wants that it does.
func (p *process) stop() {
	p.w.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		if p.err != nil {
			p.w.t.Errorf("wardd ended with %v:\n%s", p.err, p.log.String())
		}
	case <-time.After(patience):
		p.w.t.Fatalf("wardd does not end")
	}
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// status is what the daemon says; false when it does not answer.
func (p *process) status() (localapi.Status, bool) {
	ctx, cancel := context.WithTimeout(p.w.t.Context(), 2*time.Second)
	defer cancel()
	s, err := p.local.Status(ctx)
	return s, err == nil
}

// quiet waits until it has said everything: connected, the list read to its end,
// and every record durable and confirmed for a while.
func (p *process) quiet() localapi.Status {
	p.w.t.Helper()
	const calm = 2 * time.Second
	var last localapi.Status
	since := time.Now()
	for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		s, ok := p.status()
		j := s.Journal
		if !ok || s.Link.State != "connected" || s.Verdict.TookMS == 0 || j.Acknowledged != j.Sequence || j.Sequence != last.Journal.Sequence {
			since = time.Now()
		}
		if ok {
			last = s
		}
		if time.Since(since) > calm {
			return s
		}
	}
	p.w.t.Fatalf("wardd does not come to rest: journal %+v, link %+v, identity %+v", last.Journal, last.Link, last.Identity)
	return last
}

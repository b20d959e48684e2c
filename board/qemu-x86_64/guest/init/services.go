package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ward/board/qemu-x86_64/guest/init/notify"
	"ward/internal/lab/control"
)

// A service is a program that runs as long as the device does.
type service struct {
	name     string
	argv     []string
	uid, gid uint32
	groups   []uint32 // supplementary
	rtprio   uint64   // highest real-time priority that it may ask for
	caps     []uintptr
	watchdog time.Duration // between two signs of life; 0: it promises none
}

// The pump starts first: therapy before everything.
var serviceTable = []service{
	{name: "pump", argv: []string{"/usr/bin/pump"}, uid: uidPump, gid: gidPump, rtprio: 10},
	// The service group may read the daemon's local socket. Of the capabilities two
	// are for its start: file marks and device-mapper's tables, the audit socket.
	{
		name: "wardd", argv: []string{"/usr/sbin/wardd", "-config", "/etc/ward/wardd.toml"}, uid: uidWard, gid: gidWard, groups: []uint32{gidService},
		caps:     []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_READ_SEARCH, unix.CAP_SYS_PTRACE, unix.CAP_AUDIT_READ},
		watchdog: 20 * time.Second,
	},
}

// Restart delays grow from the first to the last value and return to the first
// after a run of at least restartReset.
const (
	restartFirst = 500 * time.Millisecond
	restartLast  = 30 * time.Second
	restartReset = 60 * time.Second
)

// lineLimit bounds one line of a service's output on the serial console.
const lineLimit = 400

// A supervisor starts services again when they die.
type supervisor struct {
	reaper   *reaper
	notify   string // folder of the sockets for signs of life
	patience patience
	mu       sync.Mutex
	runs     map[string]*run
	order    []string
}

// A run is the life of one service.
type run struct {
	service service
	stop    chan struct{} // closed to stop it for good
	ended   chan struct{} // closed when it has stopped for good

	mu       sync.Mutex
	pid      int
	starts   int
	missed   int // how often it was ended for giving no sign of life
	lastExit string
}

func newSupervisor() *supervisor {
	return &supervisor{reaper: newReaper(), notify: notifyFolder, patience: patience{startWait, abortWait}, runs: make(map[string]*run)}
}

func (s *supervisor) start(table []service) {
	for _, svc := range table {
		s.startOne(svc)
	}
}

func (s *supervisor) startOne(svc service) {
	r := &run{service: svc, stop: make(chan struct{}), ended: make(chan struct{})}
	s.mu.Lock()
	if _, known := s.runs[svc.name]; !known {
		s.order = append(s.order, svc.name)
	}
	s.runs[svc.name] = r
	s.mu.Unlock()
	go r.keep(s)
}

// restart starts a service again that was stopped.
func (s *supervisor) restart(name string) error {
	s.mu.Lock()
	r, ok := s.runs[name]
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("start service %q: not known", name)
	}
	select {
	case <-r.ended:
	default:
		return fmt.Errorf("start service %q: it runs", name)
	}
	s.startOne(r.service)
	return nil
}

// stop ends a service with SIGTERM, and with SIGKILL when ctx ends first.
func (s *supervisor) stop(ctx context.Context, name string) error {
	s.mu.Lock()
	r, ok := s.runs[name]
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("stop service %q: not known", name)
	}
	r.mu.Lock()
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	r.mu.Unlock()
	r.signal(unix.SIGTERM)
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		r.signal(unix.SIGKILL)
		<-r.ended
		return fmt.Errorf("stop service %q: killed: %w", name, ctx.Err())
	}
}

// stopAll ends the services in reverse order.
func (s *supervisor) stopAll(ctx context.Context) {
	for i := len(s.order) - 1; i >= 0; i-- {
		if err := s.stop(ctx, s.order[i]); err != nil {
			say("%v", err)
		}
	}
}

func (s *supervisor) list() []control.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []control.Service
	for _, name := range s.order {
		r := s.runs[name]
		r.mu.Lock()
		out = append(out, control.Service{Name: name, PID: r.pid, Starts: r.starts, Missed: r.missed, LastExit: r.lastExit})
		r.mu.Unlock()
	}
	return out
}

func (r *run) signal(sig unix.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pid != 0 {
		_ = unix.Kill(-r.pid, sig)
	}
}

// keep runs the service until it is stopped.
func (r *run) keep(s *supervisor) {
	defer close(r.ended)
	delay := restartFirst
	for {
		began := time.Now()
		how := r.once(s)
		r.mu.Lock()
		r.pid, r.lastExit = 0, how
		r.mu.Unlock()
		select {
		case <-r.stop:
			return
		default:
		}
		if time.Since(began) >= restartReset {
			delay = restartFirst
		}
		say("%s %s; starting it again in %v", r.service.name, how, delay)
		select {
		case <-r.stop:
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, restartLast)
	}
}

// once runs the service one time and says how it ended.
func (r *run) once(s *supervisor) string {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err.Error()
	}
	defer null.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return err.Error()
	}
	env := defaultEnv
	var signs *notify.Socket
	if r.service.watchdog > 0 {
		// A service runs without being watched rather than not at all.
		if signs, err = notify.Open(s.notify, r.service.name, r.service.uid, r.service.gid); err != nil {
			say("%s cannot give signs of life: %v", r.service.name, err)
		} else {
			defer signs.Close()
			env = slices.Concat(env, signs.Environment(r.service.watchdog))
		}
	}
	pid, done, err := s.reaper.spawn(program{
		argv: r.service.argv, env: env, uid: r.service.uid, gid: r.service.gid, groups: r.service.groups, rtprio: r.service.rtprio,
		confined: true, caps: r.service.caps, stdin: null, stdout: in, stderr: in,
	})
	in.Close()
	if err != nil {
		out.Close()
		return err.Error()
	}
	go relay(r.service.name, out)
	r.mu.Lock()
	r.pid = pid
	r.starts++
	r.mu.Unlock()
	select {
	case <-r.stop: // stopped between the fork and here
		r.signal(unix.SIGTERM)
	default:
	}
	if signs == nil {
		return ending(<-done)
	}
	alive := make(chan struct{}, 1)
	go signs.Follow(pid, alive)
	return r.guard(s.patience, alive, done)
}

func ending(status unix.WaitStatus) string {
	if status.Signaled() {
		return "ended by " + status.Signal().String()
	}
	return fmt.Sprintf("exited with status %d", status.ExitStatus())
}

// relay copies a service's output to the console, a prefix before each line.
// The console is slow, so a reader that never waits for it feeds a short queue;
// what does not fit is counted and left out: no service is held up by printing.
func relay(name string, out *os.File) {
	defer out.Close()
	lines := make(chan string, 256)
	go func() {
		for line := range lines {
			fmt.Fprintf(os.Stdout, "%s: %s\n", name, line)
		}
	}()
	defer close(lines)
	reader := bufio.NewReaderSize(out, 4096)
	dropped := 0
	for {
		line, err := readBounded(reader)
		if line != "" {
			if dropped > 0 && len(lines) < cap(lines)-1 {
				lines <- fmt.Sprintf("(%d lines left out)", dropped)
				dropped = 0
			}
			select {
			case lines <- line:
			default:
				dropped++
			}
		}
		if err != nil {
			return
		}
	}
}

// readBounded reads one line and cuts it to lineLimit bytes.
func readBounded(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if room := lineLimit - len(line); room > 0 {
			line = append(line, part[:min(len(part), room)]...)
		}
		switch err {
		case bufio.ErrBufferFull:
			continue
		case nil, io.EOF:
			if n := len(line); n > 0 && line[n-1] == '\n' {
				line = line[:n-1]
			}
		}
		return string(line), err
	}
}

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"ward/internal/lab/tool"
)

// A process is a child in its own process group that dies with the lab.
type process struct {
	name   string
	cmd    *exec.Cmd
	output *tail
	done   chan struct{}
	err    error // valid once done is closed
}

// startProcess starts a program. Its standard error is kept; stdout may be nil.
func startProcess(name string, stdout io.Writer, args ...string) (*process, error) {
	path, err := tool.Look(name)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: exec.Command(path, args...), output: newTail(64 << 10), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = stdout, p.output
	p.cmd.WaitDelay = time.Second // for a helper that keeps the pipes open
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// kill ends the whole group at once and waits.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// failure says why the process ended, with the last line that it printed.
func (p *process) failure() error {
	line := p.output.lastLine()
	switch {
	case p.err == nil && line == "":
		return fmt.Errorf("%s ended", p.name)
	case line == "":
		return fmt.Errorf("%s ended: %w", p.name, p.err)
	default:
		return fmt.Errorf("%s ended: %v: %s", p.name, p.err, line)
	}
}

// startTPM starts a software TPM on the device's state; extra are arguments of
// swtpm. It returns when the control socket is there.
func startTPM(ctx context.Context, d *Device, socket string, extra ...string) (*process, error) {
	args := append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + d.TPMState(),
		"--ctrl", "type=unixio,path=" + socket}, extra...)
	p, err := startProcess("swtpm", nil, args...)
	if err != nil {
		return nil, err
	}
	if err := waitSocket(ctx, p, socket); err != nil {
		p.kill()
		return nil, fmt.Errorf("start TPM: %w", err)
	}
	return p, nil
}

// socketWait is how long a child may take to make its socket.
const socketWait = 10 * time.Second

func waitSocket(ctx context.Context, p *process, path string) error {
	deadline := time.After(socketWait)
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.failure()
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("wait for the socket of %s: none after %v", p.name, socketWait)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ServeTPM serves the TPM of a device that is switched off on a Unix socket
// that takes TPM 2.0 commands as they are, started up and ready: for
// manufacture without a boot. Stop ends it.
func ServeTPM(ctx context.Context, d *Device) (socket string, stop func(), err error) {
	dir, err := socketDir()
	if err != nil {
		return "", nil, err
	}
	socket = dir + "/tpm"
	p, err := startTPM(ctx, d, dir+"/ctrl", "--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	if err == nil {
		if err = waitSocket(ctx, p, socket); err != nil {
			p.kill()
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	return socket, func() {
		// SIGTERM lets it write its state.
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			p.kill()
		}
		os.RemoveAll(dir)
	}, nil
}

// socketDir makes a directory with a short name: a Unix socket's path holds 107
// bytes at most, unix(7).
func socketDir() (string, error) {
	dir, err := os.MkdirTemp("", "ward-")
	if err != nil {
		return "", fmt.Errorf("make socket directory: %w", err)
	}
	if len(dir) > 90 {
		os.RemoveAll(dir)
		return "", errors.New("make socket directory: the path is too long; set TMPDIR to a shorter one")
	}
	return dir, nil
}

// A tail keeps the newest bytes written to it and passes all of them on.
type tail struct {
	mu     sync.Mutex
	limit  int
	buf    []byte
	mirror io.Writer
	grew   chan struct{} // closed and replaced at every write
}

func newTail(limit int) *tail { return &tail{limit: limit, grew: make(chan struct{})} }

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*t.limit {
		t.buf = bytes.Clone(t.buf[len(t.buf)-t.limit:])
	}
	if t.mirror != nil {
		_, _ = t.mirror.Write(p) // a closed terminal does not stop the device
	}
	close(t.grew)
	t.grew = make(chan struct{})
	return len(p), nil
}

// snapshot returns what is kept and a channel that is closed when there is more.
func (t *tail) snapshot() (string, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf[max(0, len(t.buf)-t.limit):]), t.grew
}

func (t *tail) lastLine() string {
	text, _ := t.snapshot()
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// dialWhenReady connects to a socket whose file is there before its process
// listens on it.
func dialWhenReady(ctx context.Context, p *process, path string) (net.Conn, error) {
	for {
		conn, err := net.Dial("unix", path)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.done:
			return nil, p.failure()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

package backend

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// server is a process that listens on a port of 127.0.0.1.
type server struct {
	Port int
	cmd  *exec.Cmd
	log  *boundedBuffer
	done chan struct{}
}

// start starts the process and waits until it accepts connections.
func (s *server) start(ctx context.Context, what, program string, args ...string) error {
	s.log, s.done = newBoundedBuffer(1<<20), make(chan struct{})
	s.cmd = exec.Command(program, args...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", what, err)
	}
	go func() { _ = s.cmd.Wait(); close(s.done) }()
	for {
		conn, err := net.DialTimeout("tcp", s.Address(), time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			s.Stop()
			return ctx.Err()
		case <-s.done:
			return fmt.Errorf("start %s: it ended at once: %s", what, s.log.lastLine())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Address is the server's host and port.
func (s *server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// Log is what the server printed, its newest part.
func (s *server) Log() string { return s.log.String() }

// Stop ends the server and waits for it.
func (s *server) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/lab/control"
)

// portWait is how long the control port may take to appear.
const portWait = 3 * time.Second

// serveControl answers requests on the control port for as long as the device
// runs. Without such a port it returns: the device was started by hand.
func serveControl(s *system, poweroff chan<- struct{}) {
	port, err := openPort("/sys/class/virtio-ports", control.PortName)
	for limit := time.Now().Add(portWait); err != nil && time.Now().Before(limit); {
		time.Sleep(20 * time.Millisecond) // the driver names its ports a little later
		port, err = openPort("/sys/class/virtio-ports", control.PortName)
	}
	if err != nil {
		say("no control channel: %v", err)
		return
	}
	defer port.Close()
	c := &controlServer{system: s, out: port, poweroff: poweroff}
	bootID, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	c.send(control.Response{Ready: &control.Ready{
		BootID:     strings.TrimSpace(string(bootID)),
		UptimeMS:   uptime().Milliseconds(),
		Steps:      s.steps,
		Complaints: s.complaints,
	}})
	in := bufio.NewReaderSize(port, 64<<10)
	for {
		var req control.Request
		switch err := control.ReadLine(in, &req); {
		case err == io.EOF: // nobody is connected on the host side
			time.Sleep(50 * time.Millisecond)
		case errors.Is(err, os.ErrClosed) || errors.Is(err, unix.ENODEV):
			return
		case err != nil:
			c.send(control.Response{Error: err.Error()})
		default:
			go c.answer(req)
		}
	}
}

// openPort finds the virtio serial port by its name.
func openPort(class, name string) (*os.File, error) {
	files, err := filepath.Glob(filepath.Join(class, "*", "name"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(text)) == name {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(file)), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("find virtio port %s: not among %d", name, len(files))
}

type controlServer struct {
	system   *system
	poweroff chan<- struct{}
	mu       sync.Mutex // one response at a time
	out      io.Writer
}

func (c *controlServer) send(r control.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := control.WriteLine(c.out, r); err != nil {
		say("%v", err)
	}
}

// answer carries out one request.
func (c *controlServer) answer(req control.Request) {
	resp := control.Response{ID: req.ID}
	err := func() error {
		if req.Put != nil {
			if err := putFile(req.Put); err != nil {
				return err
			}
		}
		if req.Get != "" {
			return getFile(req.Get, &resp)
		}
		if len(req.Argv) == 0 {
			return nil
		}
		switch req.Argv[0] {
		case control.VerbPowerOff:
			defer func() { c.poweroff <- struct{}{} }()
			return nil
		case control.VerbServices, control.VerbStop, control.VerbStart:
			return c.service(req, &resp)
		}
		return c.execute(req, &resp)
	}()
	if err != nil {
		resp.Error = err.Error()
	}
	c.send(resp)
}

func (c *controlServer) service(req control.Request, resp *control.Response) error {
	switch {
	case req.Argv[0] == control.VerbServices:
		list, err := json.Marshal(c.system.services.list())
		resp.Stdout = list
		return err
	case len(req.Argv) != 2:
		return fmt.Errorf("%s: want the name of one service", req.Argv[0])
	case req.Argv[0] == control.VerbStop:
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return c.system.services.stop(ctx, req.Argv[1])
	default:
		return c.system.services.restart(req.Argv[1])
	}
}

func putFile(p *control.Put) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if p.Append {
		flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	}
	mode := os.FileMode(p.Mode) & os.ModePerm
	f, err := os.OpenFile(p.Path, flags, mode)
	if err != nil {
		return fmt.Errorf("put file: %w", err)
	}
	_, err = f.Write(p.Data)
	err = errors.Join(err, f.Chmod(mode))
	if p.UID != 0 || p.GID != 0 {
		err = errors.Join(err, f.Chown(int(p.UID), int(p.GID)))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("put file: %w", err)
	}
	return nil
}

// getFile returns a file's content. Files of pseudo file systems have no size:
// what counts is the end of reading.
func getFile(path string, resp *control.Response) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("get file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, control.MaxFile+1))
	if err != nil {
		return fmt.Errorf("get file: %w", err)
	}
	if len(data) > control.MaxFile {
		data, resp.Truncated = data[:control.MaxFile], true
	}
	resp.Stdout = data
	return nil
}

// execute runs a program and collects what it prints.
func (c *controlServer) execute(req control.Request, resp *control.Response) error {
	path, err := lookPath(req.Argv[0])
	if err != nil {
		return err
	}
	gid := req.GID
	if gid == 0 {
		gid = req.UID
	}
	p := program{
		argv: append([]string{path}, req.Argv[1:]...),
		env:  append(append([]string{}, defaultEnv...), req.Env...),
		uid:  req.UID, gid: gid,
	}
	var stdout, stderr capture
	var pipes sync.WaitGroup
	var inputEnd *os.File
	if p.stdin, inputEnd, err = os.Pipe(); err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	if p.stdout, err = stdout.pipe(&pipes); err != nil {
		return err
	}
	if p.stderr, err = stderr.pipe(&pipes); err != nil {
		return err
	}
	pid, done, err := c.system.services.reaper.spawn(p)
	p.stdin.Close()
	p.stdout.Close()
	p.stderr.Close()
	if err != nil {
		inputEnd.Close()
		return err
	}
	go func() {
		_, _ = inputEnd.Write(req.Stdin) // a program may close its input early
		inputEnd.Close()
	}()
	var expired <-chan time.Time
	if req.TimeoutMS > 0 {
		expired = time.After(time.Duration(req.TimeoutMS) * time.Millisecond)
	}
	var status unix.WaitStatus
	select {
	case status = <-done:
	case <-expired:
		_ = unix.Kill(-pid, unix.SIGKILL)
		status = <-done
		resp.Error = fmt.Sprintf("run %s: killed after %d ms", path, req.TimeoutMS)
	}
	// A background child may hold the pipes open for ever: do not wait for it.
	closed := make(chan struct{})
	go func() { pipes.Wait(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(200 * time.Millisecond):
	}
	var cutOut, cutErr bool
	resp.Stdout, cutOut = stdout.take()
	resp.Stderr, cutErr = stderr.take()
	resp.Truncated = cutOut || cutErr
	resp.Exit = exitCode(status)
	return nil
}

// lookPath finds a program as a shell does, but always as an absolute path.
func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range []string{"/usr/bin", "/usr/sbin"} {
		path := dir + "/" + name
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("find program %q: not in /usr/bin or /usr/sbin", name)
}

// A capture keeps the first control.MaxFile/2 bytes that a program prints.
type capture struct {
	mu  sync.Mutex
	buf bytes.Buffer
	cut bool
}

// pipe returns the end to give to the program.
func (c *capture) pipe(wg *sync.WaitGroup) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	wg.Go(func() {
		defer r.Close()
		_, _ = io.Copy(c, r)
	})
	return w, nil
}

func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	room := control.MaxFile/2 - c.buf.Len()
	if len(p) > room {
		c.cut = true
		c.buf.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return c.buf.Write(p)
}

func (c *capture) take() ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.buf.Bytes()), c.cut
}

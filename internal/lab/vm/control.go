package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"ward/internal/lab/control"
)

// readControl receives responses until the channel ends.
func (v *VM) readControl() {
	in := bufio.NewReaderSize(v.conn, 64<<10)
	for {
		var resp control.Response
		if err := control.ReadLine(in, &resp); err != nil {
			v.mu.Lock()
			v.lost = fmt.Errorf("control channel ended: %w", err)
			for id, answer := range v.pending {
				close(answer)
				delete(v.pending, id)
			}
			v.mu.Unlock()
			return
		}
		v.mu.Lock()
		if resp.Ready != nil && v.readyAt.IsZero() {
			v.state, v.readyAt = *resp.Ready, time.Now()
			close(v.ready)
		}
		if answer, ok := v.pending[resp.ID]; ok {
			delete(v.pending, resp.ID)
			answer <- resp
		}
		v.mu.Unlock()
	}
}

// Do sends one request and waits for its response. The ID is set here. An error
// means that the request was not carried out; a program that ran and failed has
// Exit alone.
func (v *VM) Do(ctx context.Context, req control.Request) (control.Response, error) {
	answer := make(chan control.Response, 1)
	v.mu.Lock()
	if v.lost != nil {
		defer v.mu.Unlock()
		return control.Response{}, v.lost
	}
	v.nextID++
	req.ID = v.nextID
	v.pending[req.ID] = answer
	v.mu.Unlock()
	if err := v.send(ctx, req); err != nil {
		return control.Response{}, err
	}
	select {
	case resp, ok := <-answer:
		if !ok {
			return control.Response{}, errors.New("control channel ended before the answer")
		}
		if resp.Error != "" {
			return resp, fmt.Errorf("device: %s", resp.Error)
		}
		return resp, nil
	case <-ctx.Done():
		v.mu.Lock()
		delete(v.pending, req.ID)
		v.mu.Unlock()
		return control.Response{}, fmt.Errorf("wait for the device's answer: %w", ctx.Err())
	}
}

// send writes one request. A device that does not read any more holds it up
// until ctx ends; the channel is of no use then.
func (v *VM) send(ctx context.Context, req control.Request) error {
	v.writing.Lock()
	defer v.writing.Unlock()
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = v.conn.SetWriteDeadline(time.Unix(1, 0))
		close(expired)
	})
	err := control.WriteLine(v.conn, req)
	if !stop() {
		<-expired
		_ = v.conn.SetWriteDeadline(time.Time{}) // perhaps after the last byte
	}
	if err != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.pending, req.ID)
		if !errors.Is(err, control.ErrTooLong) && v.lost == nil {
			v.lost = fmt.Errorf("control channel broken: %w", err)
		}
	}
	return err
}

// A Result is the end of a program in the device.
type Result struct {
	Stdout, Stderr []byte
	Exit           int
}

// Run runs a program in the device as root and waits for it. A status other
// than zero is no error.
func (v *VM) Run(ctx context.Context, argv ...string) (Result, error) {
	return v.RunAs(ctx, 0, argv...)
}

// RunAs is Run as another user, with the group of the same number.
func (v *VM) RunAs(ctx context.Context, uid uint32, argv ...string) (Result, error) {
	resp, err := v.Do(ctx, control.Request{Argv: argv, UID: uid})
	if err != nil {
		return Result{}, fmt.Errorf("run %s in the device: %w", argv[0], err)
	}
	return Result{resp.Stdout, resp.Stderr, resp.Exit}, nil
}

// Pull returns a file of the device. It works for files without a size, such as
// those of securityfs, and executes nothing there.
func (v *VM) Pull(ctx context.Context, path string) ([]byte, error) {
	resp, err := v.Do(ctx, control.Request{Get: path})
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", path, err)
	}
	if resp.Truncated {
		return nil, fmt.Errorf("pull %s: larger than %d bytes", path, control.MaxFile)
	}
	return resp.Stdout, nil
}

// putChunk is how much of a file goes in one request.
const putChunk = 4 << 20

// Put writes a file in the device.
func (v *VM) Put(ctx context.Context, path string, mode os.FileMode, data []byte) error {
	for first := true; first || len(data) > 0; first = false {
		n := min(len(data), putChunk)
		put := &control.Put{Path: path, Mode: uint32(mode.Perm()), Append: !first, Data: data[:n]}
		if _, err := v.Do(ctx, control.Request{Put: put}); err != nil {
			return fmt.Errorf("put %s: %w", path, err)
		}
		data = data[n:]
	}
	return nil
}

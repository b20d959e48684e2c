package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

const (
	// operationBound ends an operation whose caller set no earlier deadline.
	// Slow TPMs make a key in seconds and sign in 600 ms.
	operationBound = 30 * time.Second
	// maxAttempts and the waits between bound the retries of one command: 20
	// attempts take about 6 s.
	maxAttempts = 20
	firstWait   = 2 * time.Millisecond
	longestWait = 500 * time.Millisecond
	// cleanUpBound is what flushing may take after the caller has gone.
	cleanUpBound = 2 * time.Second
	// maxResponse is the longest response that is taken: MAX_RESPONSE_SIZE of
	// the reference implementation (TPM 2.0 Library, Part 2, section 6.13).
	maxResponse = 4096
	// headerSize is tag, size and response code (Part 1, section 18.5).
	headerSize = 10
)

// Transport carries commands to one TPM and its responses back.
type Transport interface {
	Send(command []byte) ([]byte, error)
	Close() error
}

// TPM is one TPM. It is safe for concurrent use; commands go one at a time.
type TPM struct {
	open  func() (Transport, error)
	bound time.Duration
	slot  chan struct{} // who has put a token in may send

	mu     sync.Mutex
	conn   Transport // nil when it must be opened anew
	closed bool
}

// Open opens a TPM's device file ("/dev/tpmrm0") or the UNIX socket of a
// software TPM. A path where there is nothing gives ErrAbsent.
func Open(path string) (*TPM, error) {
	t := New(func() (Transport, error) { return openPath(path) })
	if _, err := t.connect(); err != nil {
		return nil, fmt.Errorf("open TPM %s: %w", path, err)
	}
	return t, nil
}

// New makes a TPM of a transport. It is opened at the first command, and anew
// after it has failed.
func New(open func() (Transport, error)) *TPM {
	return &TPM{open: open, bound: operationBound, slot: make(chan struct{}, 1)}
}

func openPath(path string) (Transport, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTransport, err)
	}
	open := linuxtpm.Open
	if info.Mode()&fs.ModeSocket != 0 {
		open = linuxudstpm.Open
	}
	conn, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTransport, err)
	}
	return conn, nil
}

// Close closes the transport, also under a command that hangs.
func (t *TPM) Close() error {
	select {
	case t.slot <- struct{}{}:
		defer func() { <-t.slot }()
	case <-time.After(cleanUpBound):
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.conn == nil {
		return nil
	}
	err := t.conn.Close()
	t.conn = nil
	return err
}

func (t *TPM) connect() (Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, fmt.Errorf("%w: it was closed", ErrTransport)
	}
	if t.conn == nil {
		conn, err := t.open()
		if err != nil {
			return nil, err
		}
		t.conn = conn
	}
	return t.conn, nil
}

// drop closes a transport that has failed, so that the next command opens it
// anew.
func (t *TPM) drop(conn Transport) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == conn {
		_ = conn.Close()
		t.conn = nil
	}
}

// channel is the TPM as one operation sees it: every command is retried while
// the TPM is busy, its response is checked for its length, and nothing is sent
// after the operation's context has ended.
type channel struct {
	tpm *TPM
	ctx context.Context
}

var _ transport.TPM = channel{}

func (c channel) Send(command []byte) ([]byte, error) {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		if err := c.ctx.Err(); err != nil {
			return nil, ended(err)
		}
		conn, err := c.tpm.connect()
		if err != nil {
			return nil, err
		}
		response, err := conn.Send(command)
		if err != nil {
			c.tpm.drop(conn)
			return nil, fmt.Errorf("%w: %w", ErrTransport, err)
		}
		code, err := responseCode(response)
		if err != nil {
			c.tpm.drop(conn)
			return nil, err
		}
		if !transient(code) {
			return response, nil
		}
		if attempt == maxAttempts {
			return nil, fmt.Errorf("%w: %w, %d times", ErrBusy, code, attempt)
		}
		select {
		case <-c.ctx.Done():
			return nil, ended(c.ctx.Err())
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, longestWait)
	}
}

// flush removes a loaded object, also when the operation's time is over.
func (c channel) flush(h tpm2.TPMHandle) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), cleanUpBound)
	defer cancel()
	_, _ = tpm2.FlushContext{FlushHandle: h}.Execute(channel{c.tpm, ctx})
}

// responseCode reads the header of a response: tag, size and code. go-tpm
// hands an empty response on without an error when its own retries have run
// out, so the length is checked before anything is read.
func responseCode(r []byte) (tpm2.TPMRC, error) {
	if len(r) < headerSize || len(r) > maxResponse {
		return 0, fmt.Errorf("%w: %d bytes, want %d to %d", ErrResponse, len(r), headerSize, maxResponse)
	}
	if size := binary.BigEndian.Uint32(r[2:]); int64(size) != int64(len(r)) {
		return 0, fmt.Errorf("%w: %d bytes of %d", ErrResponse, len(r), size)
	}
	return tpm2.TPMRC(binary.BigEndian.Uint32(r[6:])), nil
}

// transient says whether the same command may succeed a little later (Part 2,
// section 6.6.3, and "Response Code Details").
func transient(code tpm2.TPMRC) bool {
	switch code {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate,
		tpm2.TPMRCNVUnavailable, tpm2.TPMRCObjectMemory, tpm2.TPMRCSessionMemory:
		return true
	}
	return false
}

// run does one operation with the TPM to itself. When ctx or the bound ends
// first, run returns and the operation ends in the background as soon as the
// TPM answers; until then the TPM is not given to anybody else.
func run[T any](ctx context.Context, t *TPM, what string, operation func(channel) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	ctx, cancel := context.WithTimeout(ctx, t.bound)
	defer cancel()
	select {
	case t.slot <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w", what, ended(ctx.Err()))
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-t.slot }()
		var r result
		// go-tpm reads responses by reflection; whatever a broken TPM sends
		// must not end the daemon.
		defer func() {
			if p := recover(); p != nil {
				r = result{err: fmt.Errorf("%w: %v", ErrResponse, p)}
			}
			done <- r
		}()
		r.value, r.err = operation(channel{t, ctx})
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return none, fmt.Errorf("%s: %w", what, named(r.err))
		}
		return r.value, nil
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w", what, ended(ctx.Err()))
	}
}

// ended turns a deadline that passed into ErrTimeout; a caller that gave up
// gets its own error.
func ended(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}

// named adds this package's name for a response code to an error.
func named(err error) error {
	for code, name := range map[tpm2.TPMRC]error{
		tpm2.TPMRCLockout: ErrLockout, tpm2.TPMRCAuthFail: ErrAuthorization, tpm2.TPMRCBadAuth: ErrAuthorization,
		tpm2.TPMRCAuthMissing: ErrAuthorization, tpm2.TPMRCAuthUnavailable: ErrAuthorization,
	} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: %w", name, err)
		}
	}
	return err
}

package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

const (
	// maxAttempts and the waits between bound the retries of one command: 20
	// attempts take about 6 s.
	maxAttempts = 20
	firstWait   = 2 * time.Millisecond
	longestWait = 500 * time.Millisecond
	// maxResponse is the longest response that is taken: MAX_RESPONSE_SIZE of
	// the reference implementation (TPM 2.0 Library, Part 2, section 6.13).
	maxResponse = 4096
	// headerSize is tag, size and code, of a command as of a response (Part 1,
	// section 18.5).
	headerSize = 10
	// maxLoaded is how many objects, and how many sessions, an operation may
	// have loaded at once: what the PC Client Platform TPM Profile (section 4.5)
	// grants everybody, and the kernel's resource manager each open file.
	maxLoaded = 3
)

// Channel is the TPM as one operation sees it: every command is retried while
// the TPM is busy, its response is checked for its length, and nothing is sent
// after the operation's context has ended. It keeps account of what the
// operation has loaded; the rest is flushed at its end.
type Channel struct {
	link   *Link
	ctx    context.Context
	loaded []tpm2.TPMHandle // objects and sessions, oldest first
}

var _ transport.TPM = (*Channel)(nil)

// Context ends with the operation.
func (c *Channel) Context() context.Context { return c.ctx }

// Send sends a command and returns the response, whatever its code.
func (c *Channel) Send(command []byte) ([]byte, error) {
	if err := c.room(command); err != nil {
		return nil, err
	}
	response, code, err := c.send(command)
	if err == nil && code == tpm2.TPMRCSuccess {
		c.account(command, response)
	}
	return response, err
}

func (c *Channel) send(command []byte) ([]byte, tpm2.TPMRC, error) {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		if err := c.ctx.Err(); err != nil {
			return nil, 0, ended(err)
		}
		conn, err := c.link.connect()
		if err != nil {
			return nil, 0, err
		}
		response, err := conn.Send(command)
		if err != nil {
			c.link.drop(conn)
			return nil, 0, fmt.Errorf("%w: %w", ErrTransport, err)
		}
		code, err := responseCode(response)
		if err != nil {
			c.link.drop(conn)
			return nil, 0, err
		}
		again, cause := transient(code)
		if !again {
			return response, code, nil
		}
		if attempt == maxAttempts {
			return nil, 0, fmt.Errorf("%w: %w, %d times", cause, code, attempt)
		}
		select {
		case <-c.ctx.Done():
			return nil, 0, ended(c.ctx.Err())
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, longestWait)
	}
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

// loads says whether a command's response begins with the handle of something
// new, and whether it is a session.
func loads(code tpm2.TPMCC) (loads, session bool) {
	switch code {
	case tpm2.TPMCCCreatePrimary, tpm2.TPMCCLoad, tpm2.TPMCCLoadExternal:
		return true, false
	case tpm2.TPMCCStartAuthSession:
		return true, true
	}
	return false, false
}

func isSession(h tpm2.TPMHandle) bool {
	kind := tpm2.TPMHT(h >> 24)
	return kind == tpm2.TPMHTHMACSession || kind == tpm2.TPMHTPolicySession
}

func commandCode(command []byte) tpm2.TPMCC {
	if len(command) < headerSize {
		return 0
	}
	return tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
}

// room refuses a command that would need a fourth slot: with a TPM that has
// more, the mistake would show in the field only.
func (c *Channel) room(command []byte) error {
	loads, session := loads(commandCode(command))
	if !loads {
		return nil
	}
	n := 0
	for _, h := range c.loaded {
		if isSession(h) == session {
			n++
		}
	}
	if n == maxLoaded {
		return fmt.Errorf("send %v: %d objects or sessions are loaded already", commandCode(command), n)
	}
	return nil
}

// account notes what was loaded and flushed. It reads the bytes and not go-tpm's
// values: go-tpm forgets the handle of a session whose policy failed.
func (c *Channel) account(command, response []byte) {
	code := commandCode(command)
	switch loads, _ := loads(code); {
	case loads && len(response) >= headerSize+4:
		c.loaded = append(c.loaded, tpm2.TPMHandle(binary.BigEndian.Uint32(response[headerSize:])))
	case code == tpm2.TPMCCFlushContext && len(command) >= headerSize+4:
		gone := tpm2.TPMHandle(binary.BigEndian.Uint32(command[headerSize:]))
		c.loaded = slices.DeleteFunc(c.loaded, func(h tpm2.TPMHandle) bool { return h == gone })
	}
}

// Flush removes a loaded object or session, also when the operation's time is
// over. What the TPM does not know any more is gone as well.
func (c *Channel) Flush(h tpm2.TPMHandle) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), cleanUpBound)
	defer cancel()
	rest := &Channel{link: c.link, ctx: ctx}
	if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(rest); err == nil || errors.Is(err, tpm2.TPMRCHandle) {
		c.loaded = slices.DeleteFunc(c.loaded, func(l tpm2.TPMHandle) bool { return l == h })
	}
}

// clean flushes what the operation left, the newest first. What could not be
// flushed is tried once more.
func (c *Channel) clean() {
	for range 2 {
		for _, h := range slices.Backward(slices.Clone(c.loaded)) {
			c.Flush(h)
		}
	}
}

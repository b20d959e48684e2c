// Package link carries commands to one TPM 2.0: one operation at a time, each
// command retried within a bound while the TPM says that it is busy, every
// answer checked for its length, what was loaded flushed, and the whole ended
// with its context even when the TPM hangs (TPM 2.0 Library Specification, Part
// 1, sections 18 and 30, and Part 2, section 6.6). It knows response codes and
// handles, not what Ward keeps in the TPM.
package link

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

const (
	// operationBound ends an operation whose caller set no earlier deadline.
	// Slow TPMs make a key in seconds and sign in 600 ms.
	operationBound = 30 * time.Second
	// cleanUpBound is what flushing may take after the caller has gone.
	cleanUpBound = 2 * time.Second
)

// Transport carries commands to one TPM and its responses back.
type Transport interface {
	Send(command []byte) ([]byte, error)
	Close() error
}

// Link is the way to one TPM. It is safe for concurrent use; operations have it
// one after the other, in the order in which they came.
type Link struct {
	open  func() (Transport, error)
	bound time.Duration
	slot  chan struct{} // who has put a token in may send

	mu     sync.Mutex
	conn   Transport // nil when it must be opened anew
	closed bool
}

// Open opens a TPM's device file ("/dev/tpmrm0") or the UNIX socket of a
// software TPM. A path where there is nothing gives ErrAbsent.
func Open(path string) (*Link, error) {
	l := New(func() (Transport, error) { return openPath(path) })
	if _, err := l.connect(); err != nil {
		return nil, fmt.Errorf("open TPM %s: %w", path, err)
	}
	return l, nil
}

// New makes a link of a transport. It is opened at the first command, and anew
// after it has failed.
func New(open func() (Transport, error)) *Link {
	return &Link{open: open, bound: operationBound, slot: make(chan struct{}, 1)}
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
func (l *Link) Close() error {
	select {
	case l.slot <- struct{}{}:
		defer func() { <-l.slot }()
	case <-time.After(cleanUpBound):
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.conn == nil {
		return nil
	}
	err := l.conn.Close()
	l.conn = nil
	return err
}

func (l *Link) connect() (Transport, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("%w: it was closed", ErrTransport)
	}
	if l.conn == nil {
		conn, err := l.open()
		if err != nil {
			return nil, err
		}
		l.conn = conn
	}
	return l.conn, nil
}

// drop closes a transport that has failed, so that the next command opens it
// anew.
func (l *Link) drop(conn Transport) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == conn {
		_ = conn.Close()
		l.conn = nil
	}
}

// renew closes the transport, so that the next command opens it anew.
func (l *Link) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

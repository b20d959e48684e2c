// Package tpmtest is a TPM transport that injects faults in front of another
// one: it answers that it is busy, cuts answers short, hangs, is slow, fails,
// answers with any response code, changes what goes past, is reset, or is
// another TPM. It counts and records the commands that went through, and what
// they loaded.
package tpmtest

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// Transport is what device/tpm sends through.
type Transport interface {
	Send(command []byte) ([]byte, error)
	Close() error
}

// Fault changes the answer to one command.
type Fault func(next Transport, command []byte) ([]byte, error)

// Code answers with a response code and nothing else.
func Code(rc uint32) Fault {
	return func(Transport, []byte) ([]byte, error) { return Response(rc), nil }
}

// Response is a response without sessions that holds only its header.
func Response(rc uint32) []byte {
	b := []byte{0x80, 0x01, 0, 0, 0, 10}
	return binary.BigEndian.AppendUint32(b, rc)
}

// Raw answers with these bytes.
func Raw(b []byte) Fault {
	return func(Transport, []byte) ([]byte, error) { return b, nil }
}

// Cut lets the command through and shortens the answer to n bytes.
func Cut(n int) Fault {
	return func(next Transport, command []byte) ([]byte, error) {
		b, err := next.Send(command)
		return b[:min(n, len(b))], err
	}
}

// Flip lets the command through and changes one byte of the answer, counted
// from its end.
func Flip(fromEnd int) Fault {
	return func(next Transport, command []byte) ([]byte, error) {
		b, err := next.Send(command)
		if err == nil && fromEnd < len(b) {
			b[len(b)-1-fromEnd] ^= 0xff
		}
		return b, err
	}
}

// Gone fails as a device file does whose device has vanished.
func Gone() Fault {
	return func(Transport, []byte) ([]byte, error) { return nil, errors.New("no such device") }
}

// Hang answers only after release is closed.
func Hang(release <-chan struct{}) Fault {
	return func(next Transport, command []byte) ([]byte, error) {
		<-release
		return next.Send(command)
	}
}

// Injector hands commands to the transport behind it, except where a fault is
// due.
type Injector struct {
	mu     sync.Mutex
	next   Transport
	faults []Fault
	always Fault
	sent   int
	opened int
	busy   bool
	clash  bool
	ledger ledger
}

// New puts an injector in front of a transport; nil answers success to
// everything.
func New(next Transport) *Injector {
	if next == nil {
		next = success{}
	}
	return &Injector{next: next}
}

// Inject adds faults for the next commands, one each.
func (i *Injector) Inject(f ...Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.faults = append(i.faults, f...)
}

// Always sets a fault for every command; nil ends it.
func (i *Injector) Always(f Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.always = f
}

// Sent counts the commands, with those that met a fault.
func (i *Injector) Sent() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.sent
}

// Opened counts how often the transport was opened.
func (i *Injector) Opened() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.opened
}

// Clashed says whether two commands were ever sent at the same time.
func (i *Injector) Clashed() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.clash
}

// Open is what device/tpm opens the transport with.
func (i *Injector) Open() Transport {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.opened++
	return connection{i}
}

func (i *Injector) send(command []byte) ([]byte, error) {
	i.mu.Lock()
	i.sent++
	i.clash = i.clash || i.busy
	i.busy = true
	fault := i.always
	if len(i.faults) > 0 {
		fault, i.faults = i.faults[0], i.faults[1:]
	}
	i.mu.Unlock()
	defer func() { i.mu.Lock(); i.busy = false; i.mu.Unlock() }()
	next := watched{i}
	if fault != nil {
		return fault(next, command)
	}
	return next.Send(command)
}

// watched is the transport behind the injector, with everything noted that
// reaches the TPM and that comes from it.
type watched struct{ *Injector }

func (w watched) Send(command []byte) ([]byte, error) {
	w.mu.Lock()
	next := w.next
	w.mu.Unlock()
	b, err := next.Send(command)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.ledger.note(Exchange{command, b})
	}
	return b, err
}

func (w watched) Close() error { return nil }

// connection is one opening of the transport; closing it leaves the one behind
// the injector open.
type connection struct{ *Injector }

func (c connection) Send(command []byte) ([]byte, error) { return c.send(command) }
func (c connection) Close() error                        { return nil }

type success struct{}

func (success) Send([]byte) ([]byte, error) { return Response(0), nil }
func (success) Close() error                { return io.EOF }

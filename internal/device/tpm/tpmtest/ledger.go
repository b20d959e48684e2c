package tpmtest

import (
	"encoding/binary"
	"slices"
)

// Command codes that load and flush (TPM 2.0 Library, Part 2, section 6.5.2).
const (
	createPrimary    = 0x131
	load             = 0x157
	flushContext     = 0x165
	loadExternal     = 0x167
	startAuthSession = 0x176
	nvIncrement      = 0x134
)

const headerSize = 10

// Exchange is one command with the answer to it.
type Exchange struct{ Command, Response []byte }

// Code is the command's code.
func (e Exchange) Code() uint32 { return word(e.Command, 6) }

func word(b []byte, at int) uint32 {
	if len(b) < at+4 {
		return 0
	}
	return binary.BigEndian.Uint32(b[at:])
}

// ledger counts what is loaded in the TPM by the commands that go past, and
// keeps the commands when it is asked to.
type ledger struct {
	loaded                    []uint32
	mostObjects, mostSessions int
	recording                 bool
	record                    []Exchange
}

func isSession(h uint32) bool { return h>>24 == 2 || h>>24 == 3 }

func (l *ledger) note(e Exchange) {
	if l.recording {
		l.record = append(l.record, Exchange{slices.Clone(e.Command), slices.Clone(e.Response)})
	}
	if len(e.Response) < headerSize || word(e.Response, 6) != 0 {
		return
	}
	switch e.Code() {
	case createPrimary, load, loadExternal, startAuthSession:
		l.loaded = append(l.loaded, word(e.Response, headerSize))
	case flushContext:
		l.loaded = slices.DeleteFunc(l.loaded, func(h uint32) bool { return h == word(e.Command, headerSize) })
	}
	sessions := 0
	for _, h := range l.loaded {
		if isSession(h) {
			sessions++
		}
	}
	l.mostSessions = max(l.mostSessions, sessions)
	l.mostObjects = max(l.mostObjects, len(l.loaded)-sessions)
}

// Loaded counts the objects and sessions that are in the TPM now.
func (i *Injector) Loaded() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.ledger.loaded)
}

// Most returns the most objects and the most sessions that ever were in the TPM
// at once.
func (i *Injector) Most() (objects, sessions int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.ledger.mostObjects, i.ledger.mostSessions
}

// Record begins a record of what crosses the bus and returns the end of it.
func (i *Injector) Record() func() []Exchange {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ledger.recording, i.ledger.record = true, nil
	return func() []Exchange {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.ledger.recording = false
		return i.ledger.record
	}
}

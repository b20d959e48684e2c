package tpmtest

import (
	"encoding/binary"
	"time"
)

// After lets n commands through and then does the fault to one.
func (i *Injector) After(n int, f Fault) {
	through := make([]Fault, n)
	i.Inject(append(through, f)...)
}

// Clear takes back the faults that are not due yet.
func (i *Injector) Clear() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.faults = nil
}

// On does a fault to every command of this code, and lets the others through.
func On(code uint32, f Fault) Fault {
	return func(next Transport, command []byte) ([]byte, error) {
		if word(command, 6) == code {
			return f(next, command)
		}
		return next.Send(command)
	}
}

// Slow answers after a while.
func Slow(d time.Duration) Fault {
	return func(next Transport, command []byte) ([]byte, error) {
		time.Sleep(d)
		return next.Send(command)
	}
}

// Change lets the command through and changes one byte of it, counted from its
// beginning.
func Change(at int) Fault {
	return func(next Transport, command []byte) ([]byte, error) {
		changed := append([]byte(nil), command...)
		if at < len(changed) {
			changed[at] ^= 1
		}
		return next.Send(changed)
	}
}

// ChangeAnswer lets the command through and changes one byte of the answer,
// counted from its beginning.
func ChangeAnswer(at int) Fault {
	return func(next Transport, command []byte) ([]byte, error) {
		b, err := next.Send(command)
		if err == nil && at < len(b) {
			b[at] ^= 1
		}
		return b, err
	}
}

// Twice sends the command twice, as somebody on the bus could, and gives the
// second answer.
func Twice() Fault {
	return func(next Transport, command []byte) ([]byte, error) {
		if b, err := next.Send(command); err != nil {
			return b, err
		}
		return next.Send(command)
	}
}

// FlushAll empties the TPM, as a reset does, and as the kernel does when the
// device file is closed: every object and session is gone.
func (i *Injector) FlushAll() {
	i.mu.Lock()
	loaded, next := i.ledger.loaded, i.next
	i.ledger.loaded = nil
	i.mu.Unlock()
	for _, h := range loaded {
		flush := []byte{0x80, 0x01, 0, 0, 0, 14}
		flush = binary.BigEndian.AppendUint32(flush, flushContext)
		_, _ = next.Send(binary.BigEndian.AppendUint32(flush, h))
	}
}

// Reset resets the TPM before the command.
func (i *Injector) Reset() Fault {
	return func(next Transport, command []byte) ([]byte, error) {
		i.FlushAll()
		return next.Send(command)
	}
}

// Exchange puts another TPM behind the same path.
func (i *Injector) Exchange(next Transport) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.next, i.ledger.loaded = next, nil
}

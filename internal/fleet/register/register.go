// Package register is the fleet's register of devices: a folder with each device's
// attestation key, TENANT/DEVICE.ak.pem, which the verifier judges evidence by,
// the record of acts, acts.jsonl, and the record of certificates, issued.jsonl, a
// line of JSON each. The records are what counts: one endorsement key is one
// device for ever, and one device has one, until an operator says otherwise (RFC
// 7030, section 3; IEEE 802.1AR, section 5). Several processes may use one folder:
// a lock on the file .lock keeps writers apart.
package register

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	actsFile   = "acts.jsonl"
	issuedFile = "issued.jsonl"
	lockFile   = ".lock"
	// maxReason bounds the text of an operator's reason, in bytes.
	maxReason = 512
	// maxRecord bounds a record that is read, in bytes: some twenty-five million
	// lines.
	maxRecord = 8 << 30
	// maxLine bounds one line of a record: names, three digests and a reason.
	maxLine = 8 << 10
)

// What the register refuses.
var (
	ErrOtherKey = errors.New("another attestation key is registered for this device")
	ErrOtherTPM = errors.New("another TPM is enrolled as this device")
	ErrTaken    = errors.New("this TPM or its attestation key is another device's")
	ErrRevoked  = errors.New("the device is revoked")
	ErrOften    = errors.New("the device was given too many certificates within an hour")
	ErrUnknown  = errors.New("it is not registered here")
)

// Register is the folder. Its methods may be called by several goroutines.
type Register struct {
	dir string

	mu     sync.Mutex
	cache  map[string]cached
	acts   record
	issued record
	state  state
	certs  certificates
	late   uint64 // certificates recorded here that were revoked by then
}

// Open opens a folder, which must be there.
func Open(dir string) (*Register, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open keys of devices: %w", err)
	}
	return &Register{
		dir: dir, cache: make(map[string]cached),
		acts:   record{path: filepath.Join(dir, actsFile)},
		issued: record{path: filepath.Join(dir, issuedFile)},
	}, nil
}

// read brings what is known up to what the records hold. The caller holds mu.
func (r *Register) read() error {
	if err := r.acts.follow(r.state.reset, r.state.take); err != nil {
		return err
	}
	return r.state.adopt(r.dir)
}

// change runs f as the only writer of all processes, with what the records hold.
func (r *Register) change(f func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	unlock, err := lock(filepath.Join(r.dir, lockFile))
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.read(); err != nil {
		return err
	}
	return f()
}

// act records an act, and lets it count.
func (r *Register) act(a Act) error {
	line, err := r.acts.append(a)
	if err != nil {
		return err
	}
	return r.state.take(line)
}

// put writes a device's key file, where it does not stand yet.
func (r *Register) put(tenant, device string, k *Key) error {
	file := r.file(tenant, device)
	if there, err := readKey(file); err == nil && there.ID == k.ID {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	delete(r.cache, file)
	return writeKey(file, k)
}

func checkReason(reason string) error {
	if strings.TrimSpace(reason) == "" || len(reason) > maxReason || !printable(reason) {
		return fmt.Errorf("it takes a reason, of at most %d bytes in one line", maxReason)
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) < 0
}

// lockWait is how long a writer waits for another process.
const lockWait = 10 * time.Second

package verifier

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ward/internal/format/dsse"
	"ward/internal/trust/presence"
	"ward/internal/trust/quote"
)

const (
	// keySuffix ends the name of a file with a device's attestation key.
	keySuffix = ".ak.pem"
	// actsFile is the record of acts, in the folder of the keys.
	actsFile = "acts.jsonl"
	// maxKeyFile, maxActs and maxReason bound what is read and written, in bytes.
	maxKeyFile = 64 << 10
	maxActs    = 64 << 20
	maxReason  = 512
	// lookAgain is how long a key that was read is good for, so that a new file
	// counts without a restart.
	lookAgain = 10 * time.Second
)

// What Register refuses.
var (
	ErrOtherKey = errors.New("another attestation key is registered for this device")
	ErrTaken    = errors.New("this attestation key is another device's")
)

// Key is a device's attestation key.
type Key struct {
	ID     string           `json:"id"`   // as dsse.KeyID names it
	DER    []byte           `json:"spki"` // SubjectPublicKeyInfo
	Public *ecdsa.PublicKey `json:"-"`
}

// UnmarshalJSON reads a key of the state file.
func (k *Key) UnmarshalJSON(b []byte) error {
	type plain Key
	var p plain
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	read, err := parseKey(p.DER)
	if err != nil {
		return err
	}
	if read.ID != p.ID {
		return fmt.Errorf("parse attestation key: it is %s and not %.64q", read.ID, p.ID)
	}
	*k = *read
	return nil
}

func parseKey(b []byte) (*Key, error) {
	public, err := quote.ParseKey(b)
	if err != nil {
		return nil, err
	}
	id, err := dsse.KeyID(public)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode attestation key: %w", err)
	}
	return &Key{ID: id, DER: der, Public: public}, nil
}

// Registry is a folder of attestation keys, TENANT/DEVICE.ak.pem, with the record
// of the acts that put them there, acts.jsonl, a line each. It is not for several
// goroutines.
type Registry struct {
	dir   string
	cache map[string]cached
}

type cached struct {
	key  *Key
	err  error
	when time.Time
}

// NewRegistry opens a folder.
func NewRegistry(dir string) (*Registry, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open keys of devices: %w", err)
	}
	return &Registry{dir: dir, cache: make(map[string]cached)}, nil
}

func (r *Registry) file(tenant, device string) string {
	return filepath.Join(r.dir, tenant, device+keySuffix)
}

// Lookup returns a device's key, nil when none is registered. A file that cannot
// be read is an error: what it was meant to be must not be guessed.
func (r *Registry) Lookup(now time.Time, tenant, device string) (*Key, error) {
	file := r.file(tenant, device)
	if c, ok := r.cache[file]; ok && now.Sub(c.when) < lookAgain {
		return c.key, c.err
	}
	c := cached{when: now}
	c.key, c.err = readKey(file)
	if errors.Is(c.err, fs.ErrNotExist) {
		c.err = nil
	}
	r.cache[file] = c
	return c.key, c.err
}

func readKey(file string) (*Key, error) {
	b, err := readBounded(file, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read attestation key: %w", err)
	}
	k, err := parseKey(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return k, nil
}

// Act is one line of the record of acts.
type Act struct {
	Time   time.Time `json:"time"`
	Act    string    `json:"act"` // "add" or "replace"
	Tenant string    `json:"tenant"`
	Device string    `json:"device"`
	Key    string    `json:"key"`              // id of the key
	Was    string    `json:"was,omitempty"`    // id of the key before it
	Reason string    `json:"reason,omitempty"` // why it was replaced
}

// lastAct returns the last recorded act on a device, the zero Act when there is
// none.
func (r *Registry) lastAct(tenant, device string) (Act, error) {
	b, err := readBounded(filepath.Join(r.dir, actsFile), maxActs)
	if errors.Is(err, fs.ErrNotExist) {
		return Act{}, nil
	}
	if err != nil {
		return Act{}, fmt.Errorf("read record of acts: %w", err)
	}
	var last Act
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		var a Act
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return Act{}, fmt.Errorf("read record of acts: line %d: %w", n, err)
		}
		if a.Tenant == tenant && a.Device == device {
			last = a
		}
	}
	if err := lines.Err(); err != nil {
		return Act{}, fmt.Errorf("read record of acts: %w", err)
	}
	return last, nil
}

// Replaced says whether the last recorded act on a device put this key in the
// place of another.
func (r *Registry) Replaced(tenant, device, id string) (bool, error) {
	last, err := r.lastAct(tenant, device)
	return err == nil && last.Act == "replace" && last.Key == id, err
}

// before is the id of the key that a device has, by its file or, where somebody
// took that away, by the record of acts; "" when it never had one.
func (r *Registry) before(tenant, device string) (string, bool, error) {
	k, err := readKey(r.file(tenant, device))
	if err == nil {
		return k.ID, true, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	last, err := r.lastAct(tenant, device)
	return last.Key, false, err
}

// Register puts a key into the folder and the act into the record. A device that
// has another key keeps it (ErrOtherKey), unless replace is set and a reason
// given; a key that is another device's is refused (ErrTaken): one TPM is one
// device. A key that stands there already gives no act.
func (r *Registry) Register(now time.Time, tenant, device string, key []byte, replace bool, reason string) (*Act, error) {
	if err := presence.CheckNames(tenant, device); err != nil {
		return nil, fmt.Errorf("register device: %w", err)
	}
	k, err := parseKey(key)
	if err != nil {
		return nil, fmt.Errorf("register device: %w", err)
	}
	file := r.file(tenant, device)
	before, there, err := r.before(tenant, device)
	if err != nil {
		return nil, fmt.Errorf("register device: %w", err)
	}
	act := &Act{Time: now.UTC(), Act: "add", Tenant: tenant, Device: device, Key: k.ID}
	switch {
	case before == "", before == k.ID && !there:
	case before == k.ID:
		return nil, nil
	case !replace:
		return nil, fmt.Errorf("register device %s of %s: %w: %s", device, tenant, ErrOtherKey, before)
	case reason == "" || len(reason) > maxReason || !printable(reason):
		return nil, fmt.Errorf("register device %s of %s: to replace a key takes a reason, of at most %d bytes in one line", device, tenant, maxReason)
	default:
		act.Act, act.Was, act.Reason = "replace", before, reason
	}
	owner, err := r.owner(k.ID, file)
	if err != nil {
		return nil, fmt.Errorf("register device: %w", err)
	}
	if owner != "" {
		return nil, fmt.Errorf("register device %s of %s: %w: %s", device, tenant, ErrTaken, owner)
	}
	if err := r.record(*act); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return nil, fmt.Errorf("register device: %w", err)
	}
	if err := writeKey(file, k); err != nil {
		return nil, fmt.Errorf("register device: %w", err)
	}
	delete(r.cache, file)
	return act, nil
}

func writeKey(file string, k *Key) error {
	return replace(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.DER}))
}

// owner names the device that has a key, "" when nobody has; but is not looked at.
func (r *Registry) owner(id, but string) (string, error) {
	files, err := filepath.Glob(filepath.Join(r.dir, "*", "*"+keySuffix))
	if err != nil {
		return "", fmt.Errorf("list keys of devices: %w", err)
	}
	for _, f := range files {
		if f == but {
			continue
		}
		k, err := readKey(f)
		if err != nil {
			return "", err
		}
		if k.ID == id {
			return fmt.Sprintf("%s of %s", strings.TrimSuffix(filepath.Base(f), keySuffix), filepath.Base(filepath.Dir(f))), nil
		}
	}
	return "", nil
}

// record appends an act, synced: it is written before the act is done.
func (r *Registry) record(a Act) error {
	b, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("record act: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(r.dir, actsFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("record act: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("record act: %w", err)
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) < 0
}

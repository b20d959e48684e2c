package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"ward/internal/fleet/files"
)

// errStore is a failure to keep what receipts promise; listening ends with it.
var errStore = errors.New("the fleet's files cannot be written")

// stateSchema is the version of the state file.
const stateSchema = 1

// maxState bounds the state file that is read: some 300 bytes a device.
const maxState = 64 << 20

// state is the state file.
type state struct {
	Schema  int                `json:"schema"`
	Devices map[string]*device `json:"devices"` // by "tenant/device"
	Events  int64              `json:"events"`  // bytes of the events file that the devices' heads cover
}

// store keeps the chains' heads and, if asked to, the records themselves.
type store struct {
	path    string
	events  *os.File
	pending bool  // records were appended since the last sync
	size    int64 // of the events file
	covered int64 // of it, by the state file that was loaded
}

func openStore(statePath, eventsPath string) (*store, error) {
	s := &store{path: statePath}
	if eventsPath != "" {
		f, err := os.OpenFile(eventsPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return nil, fmt.Errorf("open events file: %w", err)
		}
		s.events = f
	}
	return s, nil
}

func (s *store) load() (map[string]*device, error) {
	if s.path == "" {
		return nil, nil
	}
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	if info.Size() > maxState {
		return nil, fmt.Errorf("read state file %s: %d bytes, at most %d are read", s.path, info.Size(), maxState)
	}
	b, err := os.ReadFile(s.path)
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	var st state
	if err := json.Unmarshal(b, &st); err != nil {
		return nil, fmt.Errorf("read state file %s: %w; restore it from its backup, or begin anew with another file", s.path, err)
	}
	if st.Schema != stateSchema {
		return nil, fmt.Errorf("read state file %s: schema %d, want %d", s.path, st.Schema, stateSchema)
	}
	for name, d := range st.Devices {
		if d == nil || slices.Contains(d.Volatile, nil) {
			return nil, fmt.Errorf("read state file %s: device %q is empty", s.path, name)
		}
	}
	s.covered = st.Events
	return st.Devices, nil
}

// append writes a record; sync makes it durable.
func (s *store) append(record []byte) error {
	if s.events == nil {
		return nil
	}
	n, err := s.events.Write(append(record[:len(record):len(record)], '\n'))
	if err != nil {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	s.size += int64(n)
	s.pending = true
	return nil
}

// sync makes durable what a receipt is about to cover: the records first, then
// the heads (written aside, synced, renamed).
func (s *store) sync(devices map[string]*device) error {
	if s.pending {
		if err := s.events.Sync(); err != nil {
			return fmt.Errorf("%w: %w", errStore, err)
		}
		s.pending = false
	}
	if s.path == "" {
		return nil
	}
	b, err := json.Marshal(state{Schema: stateSchema, Devices: devices, Events: s.size})
	if err != nil {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	if err := files.Replace(s.path, b); err != nil {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	return nil
}

func (s *store) close() {
	if s.events != nil {
		_ = s.events.Close()
	}
}

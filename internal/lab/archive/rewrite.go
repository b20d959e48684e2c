package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ward/internal/device/wal"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
)

// Rewrite leaves out of a journal what drop names, and gives everything behind it
// new numbers, hashes and checksums; the state file says what a journal says that
// was never longer. It returns how many records went. What a TPM has certified
// stays as it is: no program can make that anew for a value that has passed.
func Rewrite(dir string, drop func(event.Decoded) bool) (int, error) {
	var kept []event.Decoded
	var first uint64
	dropped := 0
	scan, err := wal.Inspect(wal.Dir(dir), func(r wal.Record) error {
		if first == 0 {
			first = r.Sequence
		}
		if r.Kind != wal.Full {
			return errors.New("a record has lost its content")
		}
		e, err := event.Parse(r.Payload)
		if err != nil {
			return err
		}
		if drop(e) {
			dropped++
			return nil
		}
		kept = append(kept, e)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("rewrite journal: %w", err)
	}
	if len(kept) == 0 {
		return 0, errors.New("rewrite journal: nothing would be left")
	}
	if err := removeSegments(dir); err != nil {
		return 0, err
	}
	known := wal.Place{Epoch: scan.Epoch, Sequence: first - 1}
	log, _, err := wal.Open(wal.Dir(dir), wal.Options{Epoch: scan.Epoch, MaxBytes: 1 << 30, MaxPending: 64 << 20, Known: known})
	if err != nil {
		return 0, fmt.Errorf("rewrite journal: %w", err)
	}
	head := kept[0].Prev
	for _, e := range kept {
		s := e.Stamp
		s.Sequence, s.Prev = log.Next(), head
		b, err := event.Encode(e.Event, s)
		if err != nil {
			return 0, fmt.Errorf("rewrite journal: %w", err)
		}
		if _, err := log.Append(b); err != nil {
			return 0, fmt.Errorf("rewrite journal: %w", err)
		}
		head = chain.Next(b)
	}
	last := log.Next() - 1
	if err := log.Close(); err != nil {
		return 0, fmt.Errorf("rewrite journal: %w", err)
	}
	return dropped, restate(dir, last, head)
}

func removeSegments(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".wal") {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// restate makes the state file fit: what is durable and acknowledged ends with
// the last record.
func restate(dir string, last uint64, head chain.Hash) error {
	file := filepath.Join(dir, "state.json")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s map[string]any
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return fmt.Errorf("rewrite the journal's state: %w", err)
	}
	s["durable"], s["head"] = last, head
	if a, ok := s["acknowledged"].(float64); ok {
		s["acknowledged"] = min(uint64(a), last)
	}
	if b, err = json.Marshal(s); err != nil {
		return fmt.Errorf("rewrite the journal's state: %w", err)
	}
	return os.WriteFile(file, b, 0o600)
}

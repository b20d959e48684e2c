package forward

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"ward/internal/device/statefile"
)

// state is a sink's cursor, in a file of its own. It can be lost: then what the
// journal still holds is sent again.
type state struct {
	Sink     string `json:"sink"`
	Device   string `json:"device"`
	Epoch    uint64 `json:"epoch"`
	Sequence uint64 `json:"sequence"`
}

// file is named for the sink: a sink at another address or in another format begins
// anew.
func (s *Sink) file() string {
	sum := sha256.Sum256([]byte(s.config.Name))
	return filepath.Join(s.config.State, hex.EncodeToString(sum[:8])+".json")
}

// load reads the cursor of an earlier run. One that is of another device, or of a
// journal that was begun anew since, is no place in this journal.
func (s *Sink) load(ctx context.Context) {
	if s.config.State == "" {
		return
	}
	b, err := statefile.Read(s.file())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var old state
	if err == nil {
		err = json.Unmarshal(b, &old)
	}
	switch {
	case err != nil || old.Sink != s.config.Name:
		s.config.Log.Warn("the sink's cursor cannot be read; what the journal holds is sent again", "error", err)
	case old.Device != s.config.Origin.Device:
		s.config.Log.Info("the sink's cursor is of another device", "device", old.Device)
	case old.Epoch != s.config.Epoch, old.Sequence > s.config.Journal.Newest():
		s.broken, s.known = s.brokenOff(&old), true
		s.tell(ctx, s.broken)
	default:
		s.cursor, s.safe, s.saved, s.known = old.Sequence, old.Sequence, old.Sequence, true
	}
	s.confirm(time.Now())
}

// save writes the safe cursor down where it has moved, seldom or now.
func (s *Sink) save(now bool) {
	if s.config.State == "" || s.safe == s.saved || !now && time.Since(s.savedAt) < saveEvery {
		return
	}
	s.savedAt = time.Now()
	b, err := json.Marshal(state{Sink: s.config.Name, Device: s.config.Origin.Device, Epoch: s.config.Epoch, Sequence: s.safe})
	if err == nil {
		if err = os.MkdirAll(s.config.State, 0o700); err == nil {
			err = statefile.Write(s.file(), append(b, '\n'))
		}
	}
	if err != nil {
		s.config.Log.Warn("save the sink's cursor", "error", err)
		return
	}
	s.saved = s.safe
}

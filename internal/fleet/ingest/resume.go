package ingest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/trust/event"
	"ward/internal/trust/presence"
)

// resume takes up what the events file holds beyond the state file: records that
// were accepted and that no receipt covered when the fleet stopped or was killed.
// They are the chains' next ones, so that none of them is written a second time
// when the device sends it again. A last line without its end was torn, and goes:
// the device has that record still. A line that names no device (a record that lost
// its content there) or does not follow is left as it is, and not counted.
func (s *store) resume(b *book, now time.Time) error {
	if s.events == nil {
		return nil
	}
	info, err := s.events.Stat()
	if err != nil {
		return fmt.Errorf("resume from the events file: %w", err)
	}
	if s.size = info.Size(); s.path == "" || s.size <= s.covered {
		return nil
	}
	f, err := os.Open(s.events.Name())
	if err != nil {
		return fmt.Errorf("resume from the events file: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(s.covered, io.SeekStart); err != nil {
		return fmt.Errorf("resume from the events file: %w", err)
	}
	end := s.covered
	for r := bufio.NewReaderSize(f, mqtt.MaxPayload+1); ; {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, io.EOF):
			if err := s.events.Truncate(end); err != nil {
				return fmt.Errorf("resume from the events file: %w", err)
			}
			s.size = end
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("resume from the events file: %w", err)
		}
		end += int64(len(line))
		if err == nil {
			b.resume(now, line[:len(line)-1])
		}
	}
}

// resume takes a record that was accepted before.
func (b *book) resume(now time.Time, record []byte) {
	e, err := event.Parse(record)
	if err != nil {
		return
	}
	topic := presence.Topic(e.Source.Tenant, e.Source.Device, presence.Event)
	b.take(now, mqtt.Message{Topic: topic, Payload: append([]byte(nil), record...)})
	b.device(e.Source.Tenant, e.Source.Device).unborn = time.Time{} // it said that it is there when it sent this
}

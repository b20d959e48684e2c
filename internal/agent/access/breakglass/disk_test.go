package breakglass

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/journal"
	"ward/internal/device/wal/waltest"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// With the journal's disk full, and then with its memory full too, an access is answered
// at once and the answer says what is so; what memory took is on the disk when it mends.
//
// Verifies: SR-102
func TestTheJournalsDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New(2)
		j, err := journal.Open(journal.Config{Source: event.Source{Tenant: "lab", Device: "pump-1"}, Boot: "b", Monotonic: func() time.Duration { return 0 }, FS: disk})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { _ = j.Run(ctx); close(ended) }()
		d := New(Config{Recorder: j, Kept: func() error {
			if e := j.Status().Error; e != "" {
				return errors.New(e)
			}
			return nil
		}})
		begun := time.Now()
		report := func() Answer {
			return d.Report(t.Context(), event.ByService, []byte(`{"role":"nurse","why":"asystole"}`))
		}
		if a := report(); !a.Recorded || a.Detail != "" {
			t.Errorf("on a good disk %+v", a)
		}
		disk.Break(syscall.ENOSPC, func(op string) bool { return op == "write" || op == "create" })
		if a := report(); !a.Recorded || !strings.Contains(a.Detail, "it is in memory only: ") || !strings.Contains(a.Detail, "no space left") {
			t.Errorf("on a full disk %+v", a)
		}
		full := event.Event{Type: event.DaemonStarted, Severity: finding.Critical, Report: []byte(`{"x":"` + strings.Repeat("x", 32<<10) + `"}`)}
		small := event.Event{Type: event.DaemonStarted, Severity: finding.Critical}
		for _, e := range []event.Event{full, small} {
			for n := 0; j.Record(ctx, e) == nil; n++ {
				if n == 100000 {
					t.Fatal("the memory has no end")
				}
			}
		}
		if a := report(); a.Recorded || a.ID == "" || !strings.Contains(a.Detail, "it is not recorded: ") {
			t.Errorf("with no memory left %+v", a)
		}
		if waited := time.Since(begun); waited > 0 {
			t.Errorf("an asker waited for %s", waited)
		}
		disk.Mend()
		time.Sleep(10 * time.Second)
		if a := report(); !a.Recorded || a.Detail != "" {
			t.Errorf("on the mended disk %+v", a)
		}
		records, err := j.Read(ctx, 0, 100000)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, r := range records {
			if strings.Contains(string(r.Bytes), event.BreakGlass) {
				n++
			}
		}
		if n != 3 {
			t.Errorf("%d accesses are on the disk, want 3", n)
		}
		cancel()
		<-ended
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
}

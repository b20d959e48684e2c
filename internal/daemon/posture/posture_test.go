package posture

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"ward/internal/agent/attester"
	"ward/internal/agent/localapi"
	"ward/internal/contracttest"
	"ward/internal/device/tpm"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/event"
	"ward/internal/trust/posture"
)

type boot struct{ attester.Snapshot }

func (b boot) Latest() (attester.Snapshot, bool)                 { return b.Snapshot, true }
func (b boot) Judged(context.Context) (attester.Snapshot, error) { return b.Snapshot, nil }

// chip answers the second question.
type chip struct{ asked int }

func (c *chip) Maker(context.Context) (tpm.Maker, error) {
	if c.asked++; c.asked == 1 {
		return tpm.Maker{}, errors.New("busy")
	}
	return tpm.Maker{Name: "IFX", Firmware: [2]uint32{7<<16 | 40}}, nil
}

type journal struct {
	mu     sync.Mutex
	events []event.Event
}

func (j *journal) Record(_ context.Context, e event.Event) error {
	contracttest.Recorded(e)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
	return nil
}

// All collectors together: what wardd tells of a device on which somebody was, and
// what of it stays at home.
//
// Verifies: SR-093 SR-094
func TestWholePart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := appraisaltest.New(t)
		var j journal
		tpm := new(chip)
		p := New(Config{
			Root: fstest.MapFS{
				"proc/sys/kernel/tainted": {Data: []byte("8192\n")}, "proc/modules": {Data: []byte("rootkit 1 0 - Live 0x0 (E)\n")},
				"proc/cmdline": {Data: []byte("init=/home/smith/x luks.key=smith\n")},
			},
			Boot: boot{attester.Snapshot{Release: d.Verified(t), Baseline: d.Index(t)}}, TPM: tpm,
			Hide: func(string) string { return "/~path" }, Mark: func(string) string { return "~mark" }, Recorder: &j, Alive: func() {}, Log: slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		var said []string
		for _, e := range j.events {
			if e.Type == event.FindingRaised && e.Finding.Code != "posture.unreadable" {
				said = append(said, e.Finding.Detail)
			}
		}
		if got := strings.Join(said, "; "); got != "kernel.unsigned-modules: not released: rootkit unsigned; kernel.taint: not released: unsigned-module; "+
			"tpm.weakness: not released: ROCA CVE-2017-15361 in firmware 7.40" {
			t.Errorf("raised: %s", got)
		}
		if tpm.asked != 2 {
			t.Errorf("the TPM was asked %d times", tpm.asked)
		}
		told, err := p.Tell(func() localapi.Release { return localapi.Release{Version: "2.0"} }).Do(ctx, localapi.Request{})
		if err != nil {
			t.Fatal(err)
		}
		all := told.(localapi.Posture)
		if all.Release.Version != "2.0" || all.At.IsZero() || len(all.Claims) != len(p.Claims()) || len(all.Claims) < 30 {
			t.Errorf("told %+v", all)
		}
		for _, c := range all.Claims {
			if text := strings.Join(c.Values, " ") + c.Error; strings.Contains(text, "smith") || c.Name == posture.CommandLine && !strings.HasPrefix(text, "init=/~path luks.key=~") {
				t.Errorf("%s: %s", c.Name, text)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestWithoutAReleaseNothingIsExpected(t *testing.T) {
	if p := (&Part{boot: boot{}}); p.Expected() != nil {
		t.Error("without a release something is expected")
	}
}

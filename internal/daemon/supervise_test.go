package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/health"
	"ward/internal/trust/event"
)

type deaf struct{}

func (deaf) Record(context.Context, event.Event) error { return nil }

// supervised runs a role in a bubble of time and returns its board.
func supervised(ctx context.Context, name string, run func(context.Context) error) *health.Role {
	board := health.New(deaf{}, nil, slog.New(slog.DiscardHandler)).Role(name, 0)
	go supervise(ctx, slog.New(slog.DiscardHandler), board, name, run)
	return board
}

// Verifies: SR-017
func TestRolesBeginAnewAfterGrowingDelays(t *testing.T) {
	failures := map[string]func() error{
		"error":   func() error { return errors.New("the disk is gone") },
		"panic":   func() error { panic("a defect") },
		"nothing": func() error { return nil },
	}
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				begun := time.Now()
				var starts []time.Duration
				supervised(ctx, "broken", func(context.Context) error {
					starts = append(starts, time.Since(begun)/time.Second)
					return fail()
				})
				time.Sleep(4*time.Minute + time.Millisecond)
				synctest.Wait()
				want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183}
				if !slices.Equal(starts, want) {
					t.Errorf("begun after %v s, want %v", starts, want)
				}
				cancel()
				synctest.Wait()
				time.Sleep(5 * time.Minute)
				if len(starts) != len(want) {
					t.Error("begun anew after the daemon was asked to stop")
				}
			})
		})
	}
}

// Verifies: SR-017
func TestRoleThatRanLongBeginsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		begun := time.Now()
		var starts []time.Duration
		supervised(ctx, "brittle", func(ctx context.Context) error {
			starts = append(starts, time.Since(begun)/time.Second)
			if len(starts) == 5 { // after delays of 1, 2, 4 and 8 s
				time.Sleep(10 * time.Minute)
			}
			return errors.New("once more")
		})
		time.Sleep(12 * time.Minute)
		synctest.Wait()
		want := []time.Duration{0, 1, 3, 7, 15, 616}
		if len(starts) < len(want) || !slices.Equal(starts[:len(want)], want) {
			t.Errorf("begun after %v s, want %v", starts, want)
		}
	})
}

// Verifies: SR-017
func TestPanicLeavesTheOthersAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		boards := health.New(deaf{}, nil, slog.New(slog.DiscardHandler))
		beats, stopped := 0, false
		var log bytes.Buffer
		go supervise(ctx, slog.New(slog.NewTextHandler(&log, nil)), boards.Role("broken", time.Minute), "broken", func(context.Context) error {
			panic("the role is broken")
		})
		go supervise(ctx, slog.New(slog.DiscardHandler), boards.Role("sound", time.Minute), "sound", func(ctx context.Context) error {
			for ctx.Err() == nil {
				beats++
				boards.Role("sound", 0).Alive()
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
			stopped = true
			return ctx.Err()
		})
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if beats != 11 {
			t.Errorf("the sound role was at work %d times, want 11", beats)
		}
		states := boards.Roles()
		if states[0].State != "stopped" || states[0].Detail != "panic: the role is broken" {
			t.Errorf("the broken role is %q, %q", states[0].State, states[0].Detail)
		}
		if !strings.Contains(log.String(), "supervise_test.go") {
			t.Errorf("the panic's place is not in the log: %s", log.String())
		}
		if states[1].State != "running" {
			t.Errorf("the sound role is %q", states[1].State)
		}
		cancel()
		synctest.Wait()
		if !stopped {
			t.Error("the sound role did not stop with the daemon")
		}
	})
}

// Verifies: SR-025
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		if within(farewell, func() { <-release }) {
			t.Error("what hangs counts as done")
		}
		close(release)
		if !within(farewell, func() { time.Sleep(farewell / 2) }) {
			t.Error("what is done in time counts as late")
		}
	})
}

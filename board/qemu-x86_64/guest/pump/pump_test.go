package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The controller reaches the prescribed rate, stays within the motor's limits
// and delivers what rate and time say.
func TestInfusionReachesItsTarget(t *testing.T) {
	i := newInfusion(period)
	for range int(10 * time.Minute / period) {
		i.step()
		if i.rate < 0 || i.rate > maxRate {
			t.Fatalf("rate %f is outside the limits", i.rate)
		}
	}
	if math.Abs(i.rate-target) > 0.01 {
		t.Errorf("rate %f, want %f", i.rate, target)
	}
	if want := target / 6; math.Abs(i.volume-want) > want/50 {
		t.Errorf("volume %f ml in ten minutes, want about %f", i.volume, want)
	}
}

func TestJitterSummary(t *testing.T) {
	j := newJitter(200)
	full := false
	for n := range 200 {
		if full {
			t.Fatal("full too early")
		}
		full = j.add(time.Duration(200-n) * time.Microsecond)
	}
	if !full {
		t.Fatal("not full after all samples")
	}
	s := j.summarise()
	if s.Min != 1 || s.Max != 200 || s.Mean != 100 || s.P99 != 198 || s.Count != 200 {
		t.Errorf("got %+v", s)
	}
	if j.add(0) {
		t.Error("full after one sample of the next window")
	}
}

func TestReportFallsBackAndRotates(t *testing.T) {
	dir := t.TempDir()
	r := newReport(filepath.Join(dir, "missing"), dir)
	if r.logDir != dir {
		t.Fatalf("log goes to %s", r.logDir)
	}
	first := statusOf(t, dir, r)
	if first.State != degraded || first.Detail == "" {
		t.Errorf("without a data volume the status is %+v", first)
	}
	log := filepath.Join(dir, "jitter.log")
	if err := os.WriteFile(log, make([]byte, logLimit), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.write(summary{Count: 7}); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(log + ".1"); err != nil || st.Size() != logLimit {
		t.Errorf("old log: %v, %v", st, err)
	}
	for _, file := range []string{log, filepath.Join(dir, "status.json")} {
		var got summary
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &got)
		}
		if err != nil || got.Count != 7 || got.State != degraded {
			t.Errorf("%s: %+v, %v", file, got, err)
		}
	}
}

// statusOf begins a report and reads the status.
func statusOf(t *testing.T, dir string, r *report) summary {
	t.Helper()
	if err := r.begin(); err != nil {
		t.Fatal(err)
	}
	var got summary
	text, err := os.ReadFile(filepath.Join(dir, "status.json"))
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestStatusWithDataVolume(t *testing.T) {
	dir := t.TempDir()
	if got := statusOf(t, dir, newReport(t.TempDir(), dir)); got.State != running || got.Detail != "" {
		t.Errorf("status %+v", got)
	}
}

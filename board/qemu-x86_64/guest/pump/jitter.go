package main

import (
	"slices"
	"time"
)

// A jitter collects the lateness of one window of wake-ups.
type jitter struct {
	samples []time.Duration
}

// A summary is one window's report; durations are in microseconds.
type summary struct {
	State     string  `json:"state"`            // "running", or "degraded"
	Detail    string  `json:"detail,omitempty"` // why degraded
	UptimeS   float64 `json:"uptimeS"`
	Count     int     `json:"count"`
	Min       int64   `json:"minUs"`
	Mean      int64   `json:"meanUs"`
	P99       int64   `json:"p99Us"`
	Max       int64   `json:"maxUs"`
	Scheduler string  `json:"scheduler"`
	Rate      float64 `json:"rateMlH"`
	Volume    float64 `json:"volumeMl"`
}

func newJitter(size int) *jitter {
	return &jitter{samples: make([]time.Duration, 0, size)}
}

// add records one lateness and says whether the window is full.
func (j *jitter) add(late time.Duration) bool {
	j.samples = append(j.samples, late)
	return len(j.samples) == cap(j.samples)
}

// summarise reports the window and begins the next in the same memory.
func (j *jitter) summarise() summary {
	slices.Sort(j.samples)
	n := len(j.samples)
	var sum time.Duration
	for _, s := range j.samples {
		sum += s
	}
	out := summary{
		UptimeS: monotonic().Seconds(),
		Count:   n,
		Min:     j.samples[0].Microseconds(),
		Mean:    (sum / time.Duration(n)).Microseconds(),
		P99:     j.samples[(n*99+99)/100-1].Microseconds(),
		Max:     j.samples[n-1].Microseconds(),
	}
	j.samples = j.samples[:0]
	return out
}

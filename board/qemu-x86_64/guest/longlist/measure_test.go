package main

import (
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	if got := median([]time.Duration{9 * time.Microsecond, time.Microsecond, 2 * time.Microsecond}); got != 2 {
		t.Errorf("median %v µs, want 2", got)
	}
}

func TestLengthsMustBeNumbers(t *testing.T) {
	if err := run([]string{"many"}); err == nil {
		t.Error("a length that is no number is taken")
	}
}

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"ward/internal/lab/stranger"
)

// Files of the list, and where the programs lie that make it long.
const (
	listFile  = "/sys/kernel/security/ima/binary_runtime_measurements"
	countFile = "/sys/kernel/security/ima/runtime_measurements_count"
	program   = "/tmp/longlist-stranger"
)

// rounds is how often each cost is measured; the median counts.
const rounds = 21

// Cost is what reading the end of a list costs, in microseconds, each with one new
// entry to read.
type Cost struct {
	Entries int     `json:"entries"`
	Bytes   int64   `json:"bytes"`
	CountUS float64 `json:"countUs"` // reading the count
	KeptUS  float64 `json:"keptUs"`  // reading on with a descriptor that stands at the end
	FreshUS float64 `json:"freshUs"` // opening the list and reading at the offset of its end
}

func count() (int, error) {
	b, err := os.ReadFile(countFile)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// grow runs new programs until the list has so many entries.
func grow(entries int) error {
	for {
		n, err := count()
		if err != nil || n >= entries {
			return err
		}
		if err := runStranger(); err != nil {
			return err
		}
	}
}

// runStranger runs a program that the kernel has not measured yet.
func runStranger() error {
	b, err := stranger.New()
	if err != nil {
		return err
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		return err
	}
	defer os.Remove(program)
	if out, err := exec.Command(program).CombinedOutput(); err != nil {
		return fmt.Errorf("run a program: %w: %s", err, out)
	}
	return nil
}

func measure() (Cost, error) {
	var c Cost
	kept, err := os.Open(listFile)
	if err != nil {
		return c, err
	}
	defer kept.Close()
	end, err := io.Copy(io.Discard, kept)
	if err != nil {
		return c, err
	}
	var counts, keeps, freshes []time.Duration
	for range rounds {
		if err := runStranger(); err != nil {
			return c, err
		}
		begun := time.Now()
		if c.Entries, err = count(); err != nil {
			return c, err
		}
		counts = append(counts, time.Since(begun))

		begun = time.Now()
		n, err := readOn(kept)
		if err != nil || n == 0 {
			return c, fmt.Errorf("read on at the end: %d bytes, %w", n, err)
		}
		keeps = append(keeps, time.Since(begun))

		begun = time.Now()
		if err := readFresh(end, n); err != nil {
			return c, err
		}
		freshes = append(freshes, time.Since(begun))
		end += n
	}
	c.Bytes, c.CountUS, c.KeptUS, c.FreshUS = end, median(counts), median(keeps), median(freshes)
	return c, nil
}

// readOn reads what was added since the descriptor's last read.
func readOn(f *os.File) (int64, error) { return io.Copy(io.Discard, f) }

// readFresh opens the list and reads n bytes at an offset.
func readFresh(offset, n int64) error {
	f, err := os.Open(listFile)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(make([]byte, n), offset)
	return err
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Nanoseconds()) / 1000
}

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ward/internal/lab/stage"
)

// listLengths are the lengths at which the cost of following the list is
// measured.
var listLengths = []string{"100", "1000", "3000"}

// followLongList makes the device's measurement list long and measures what
// following it costs; what the kernel itself walks stands in the difference
// between a descriptor that is kept and a fresh one. Then the fleet asks, and the
// whole list convinces it that only the strangers are strange.
func followLongList(ctx context.Context, s *stage.Stage) (Outcome, error) {
	if err := s.GoodBoot(ctx); err != nil {
		return Outcome{}, err
	}
	program, err := s.GuestProgram(ctx, "longlist")
	if err != nil {
		return Outcome{}, err
	}
	const path = "/tmp/longlist"
	if err := s.VM.Put(ctx, path, 0o755, program); err != nil {
		return Outcome{}, err
	}
	begun := time.Now()
	s.Line.Say("attack", "running some thousand programs that are in no release")
	r, err := s.VM.Run(ctx, append([]string{path}, listLengths...)...)
	if err != nil {
		return Outcome{}, err
	}
	if r.Exit != 0 {
		return Outcome{}, fmt.Errorf("longlist: exit status %d: %s", r.Exit, r.Stderr)
	}
	took := time.Since(begun)
	var costs []struct {
		Entries                  int
		Bytes                    int64
		CountUS, KeptUS, FreshUS float64
	}
	if err := json.Unmarshal(r.Stdout, &costs); err != nil {
		return Outcome{}, fmt.Errorf("read longlist's table: %w", err)
	}
	for _, c := range costs {
		s.Line.Say("device", "%5d entries, %7d bytes: count %4.0f µs, one new entry on a kept descriptor %4.0f µs, on a fresh one %6.0f µs",
			c.Entries, c.Bytes, c.CountUS, c.KeptUS, c.FreshUS)
	}
	attested, err := s.AwaitAttested(ctx, s.Fleet.Mark())
	if err != nil {
		return Outcome{}, err
	}
	at := attested.Verdict
	if at.Verdict.String() != "warning" || at.Claims["quote"].String() != "affirming" || at.IMAEntries < costs[len(costs)-1].Entries {
		return Outcome{}, fmt.Errorf("the fleet's own verdict is %s (%v) over %d entries", at.Verdict, at.Claims, at.IMAEntries)
	}
	first, last := costs[0], costs[len(costs)-1]
	return Outcome{
		Attack: fmt.Sprintf("%d strange programs", last.Entries-first.Entries), After: took,
		Seen: fmt.Sprintf("verdict %s over %d entries; a kept descriptor reads the next one in %.0f µs, at %d entries %.0f µs", at.Verdict, at.IMAEntries, last.KeptUS, first.Entries, first.KeptUS),
	}, nil
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"ward/internal/fleet/ingest"
	"ward/internal/lab/archive"
	"ward/internal/lab/stage"
	"ward/internal/trust/finding"
)

const (
	// powerCuts is how often the power is cut while the journal is written.
	powerCuts = 20
	// longestLoad bounds how long the device works before a cut.
	longestLoad = 3 * time.Second
	// confirmTime bounds how long the fleet may take to confirm what a load left.
	confirmTime = 3 * time.Minute
)

// followed is what the fleet accepted of a device's record.
type followed struct {
	first, last uint64
	shed        int
}

// follow reads what the fleet has told and wants every record of one epoch once
// and in order, those that lost their content included.
func follow(all []ingest.Received, epoch uint64) (followed, error) {
	var f followed
	for _, r := range all {
		var sequence uint64
		switch {
		case r.Kind == ingest.KindEvent && r.Event.Epoch == epoch && !r.Held:
			sequence = r.Event.Sequence
		case r.Kind == ingest.KindShed && r.Epoch == epoch:
			sequence = r.Sequence
			f.shed++
		case r.Kind == ingest.KindFinding && r.Finding.Code == finding.LinkSequenceGap:
			return f, fmt.Errorf("the fleet says: %s: %s", r.Finding.Code, r.Finding.Detail)
		default:
			continue
		}
		switch {
		case f.last == 0:
			f.first = sequence
		case sequence != f.last+1:
			return f, fmt.Errorf("the fleet accepted record %d after %d", sequence, f.last)
		}
		f.last = sequence
	}
	return f, nil
}

// journalPowerCuts cuts the power again and again while strange programs fill the
// journal, which lies on ext4 on an encrypted volume. At the end the fleet must
// have every record once and in order, and the journal must hold together and fit
// what the TPM has certified.
func journalPowerCuts(ctx context.Context, s *stage.Stage) (Outcome, error) {
	program, err := s.GuestProgram(ctx, "longlist")
	if err != nil {
		return Outcome{}, err
	}
	begun, mark := time.Now(), s.Fleet.Mark()
	rnd := rand.New(rand.NewPCG(1, powerCuts))
	for n := range powerCuts {
		if err := s.GoodBoot(ctx); err != nil {
			return Outcome{}, fmt.Errorf("after %d power cuts: %w", n, err)
		}
		const path = "/tmp/longlist"
		if err := s.VM.Put(ctx, path, 0o755, program); err != nil {
			return Outcome{}, err
		}
		m := s.VM
		go func() { _, _ = m.Run(ctx, path, "100000") }() // ends with the power
		load := time.Duration(rnd.Int64N(int64(longestLoad)))
		time.Sleep(load)
		s.VM.Kill()
		s.VM = nil
		s.Line.Say("attack", "power cut %d of %d, %d ms after a load of strange programs began", n+1, powerCuts, load.Milliseconds())
	}
	if err := s.GoodBoot(ctx); err != nil {
		return Outcome{}, fmt.Errorf("after %d power cuts: %w", powerCuts, err)
	}
	st, err := confirmed(ctx, s, confirmTime)
	if err != nil {
		return Outcome{}, err
	}
	f, err := follow(s.Fleet.Received(mark), st.Journal.Epoch)
	if err != nil {
		return Outcome{}, s.Explain(err)
	}
	if f.first != 1 || f.last < st.Journal.Acknowledged {
		return Outcome{}, fmt.Errorf("the fleet has records %d to %d, the device says that %d are confirmed", f.first, f.last, st.Journal.Acknowledged)
	}
	dir := s.File("cut")
	if err := archive.Pull(ctx, s.VM, dir); err != nil {
		return Outcome{}, err
	}
	codes, err := verdictOnCopy(ctx, s, dir)
	if err != nil {
		return Outcome{}, err
	}
	jumps := 0
	for _, c := range codes {
		switch finding.Code(c) {
		case finding.JournalTorn, finding.JournalCounterJump:
			jumps++ // what a power cut leaves, told with its size
		default:
			return Outcome{}, errors.Join(fmt.Errorf("wardctl journal verify finds %v", codes))
		}
	}
	return Outcome{
		Attack: fmt.Sprintf("%d power cuts while the journal is written", powerCuts), After: time.Since(begun),
		Seen: fmt.Sprintf("%d records once and in order at the fleet; on a copy %d marks of power cuts and nothing else", f.last, jumps),
	}, nil
}

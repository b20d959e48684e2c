package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/agent/journal/audit"
	"ward/internal/cli"
	"ward/internal/device/wal"
	"ward/internal/trust/event"
)

// lookEvery is how often tail -f looks at the folder.
const lookEvery = time.Second

func newJournalTail() *cobra.Command {
	var t tail
	cmd := &cobra.Command{
		Use:   "tail DIR|FILE",
		Short: "List the last events of a journal, and wait for more",
		Long: `List the last events of a journal. With --follow, wait for more until interrupted: it
reads the folder, so that it works without the daemon's socket. Events are shown
when they stand in the folder; a power cut may still take the last ones away.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return t.run(cmd.Context(), cmd.OutOrStdout(), args[0]) },
	}
	cmd.Flags().BoolVarP(&t.follow, "follow", "f", false, "wait for new events until interrupted")
	cmd.Flags().IntVarP(&t.lines, "lines", "n", 10, "begin with the last `N` events")
	cmd.Flags().BoolVar(&t.asJSON, "json", false, "print each event as one line of JSON, as it was recorded")
	cmd.Flags().StringVar(&t.filter.severity, "severity", "", "only events of at least this `severity`")
	cmd.Flags().StringVar(&t.filter.code, "code", "", "only events with this finding `code`")
	return cmd
}

type tail struct {
	follow, asJSON bool
	lines          int
	filter         eventFilter
	epoch, last    uint64
}

func (t *tail) run(ctx context.Context, out io.Writer, name string) error {
	if _, err := t.filter.fits(event.Decoded{}); err != nil {
		return cli.Fail(cli.Usage, "--severity: %w", err)
	}
	if t.lines < 0 {
		return cli.Fail(cli.Usage, "--lines: want a number from 0 on")
	}
	var newest []wal.Record
	v, err := readJournal(name, audit.Against{}, func(r wal.Record) error {
		if t.last = r.Sequence; t.lines == 0 || !t.wanted(r) {
			return nil
		}
		r.Payload = bytes.Clone(r.Payload)
		if len(newest) == t.lines {
			newest = append(newest[:0], newest[1:]...)
		}
		newest = append(newest, r)
		return nil
	})
	if err != nil {
		return err
	}
	t.epoch = v.Epoch
	for _, r := range newest {
		if err := showRecord(out, r, t.filter, t.asJSON); err != nil {
			return err
		}
	}
	if !t.follow {
		return nil
	}
	log, done, err := openJournalCopy(name)
	if err != nil {
		return err
	}
	defer done()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for before := ""; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := sizes(log)
		if err != nil {
			return cli.Fail(cli.Usage, "%s: %w", name, err)
		}
		if now == before {
			continue
		}
		before = now
		if err := t.more(out, log); err != nil {
			return err
		}
	}
}

func (t *tail) wanted(r wal.Record) bool {
	if r.Kind != wal.Full {
		return t.filter == (eventFilter{}) && !t.asJSON
	}
	e, err := event.Parse(r.Payload)
	if err != nil {
		return true
	}
	ok, _ := t.filter.fits(e)
	return ok
}

// more prints what stands behind the last event in the newest segments. A journal
// that was begun anew is shown from its first record on.
func (t *tail) more(out io.Writer, log wal.FS) error {
	var behind []wal.Record
	scan, err := wal.Inspect(newestSegments{log}, func(r wal.Record) error {
		r.Payload = bytes.Clone(r.Payload)
		behind = append(behind, r)
		return nil
	})
	if err != nil {
		return cli.Fail(cli.Usage, "%w", err)
	}
	if scan.Epoch != t.epoch && scan.Epoch != 0 {
		t.epoch, t.last = scan.Epoch, 0
	}
	for _, r := range behind {
		if r.Sequence <= t.last {
			continue
		}
		t.last = r.Sequence
		if err := showRecord(out, r, t.filter, t.asJSON); err != nil {
			return err
		}
	}
	return nil
}

// sizes tells one state of a log's folder from another.
func sizes(log wal.FS) (string, error) {
	names, err := segments(log)
	if err != nil || len(names) == 0 {
		return "", err
	}
	newest := names[len(names)-1]
	f, err := log.Open(newest, false)
	if err != nil {
		return newest, nil // it went this moment; the next look sees what came
	}
	size, err := f.Size()
	return fmt.Sprint(newest, size), errors.Join(err, f.Close())
}

// newestSegments is a log's folder as if all but its last segments were recycled: a
// look every second reads no more.
type newestSegments struct{ wal.FS }

// keptSegments may be written within a second: a start begins one of its own.
const keptSegments = 3

func (n newestSegments) List() ([]string, error) {
	names, err := segments(n.FS)
	if err != nil {
		return nil, err
	}
	return names[max(0, len(names)-keptSegments):], nil
}

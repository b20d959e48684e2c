package lab

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"ward/internal/lab/stage"
	"ward/internal/lab/timeline"
)

// Demo runs the main job from the build to the last attack and prints it as it
// happens, with a table at the end.
func (l *Lab) Demo(ctx context.Context, w io.Writer) error {
	begun := time.Now()
	l.Line.Heading("A virtual infusion pump, its TPM, a real broker, a fleet")
	s, err := stage.Set(ctx, l.Works)
	if err != nil {
		return err
	}
	defer s.Close()
	l.Line.Heading("The device boots and proves what it booted")
	if err := s.GoodBoot(ctx); err != nil {
		return err
	}
	var rows [][]string
	for _, d := range Drills() {
		if !d.Demo {
			continue
		}
		l.Line.Heading("Attack %d: %s", len(rows)+1, d.Title)
		o, err := d.Run(ctx, s)
		if err != nil {
			return fmt.Errorf("drill %s: %w", d.Name, err)
		}
		rows = append(rows, []string{o.Attack, o.Seen, strconv.FormatInt(o.After.Milliseconds(), 10) + " ms"})
	}
	l.Line.Heading("What the fleet saw (virtual device, no KVM)")
	fmt.Fprintln(w)
	timeline.Table(w, []string{"attack", "seen", "after"}, rows)
	fmt.Fprintf(w, "\n%d of %d attacks seen, in %s. Nothing is left running.\n", len(rows), len(rows), time.Since(begun).Round(time.Second))
	return nil
}

// RunDrills runs drills by name, all of them without a name, each on a stage of
// its own.
func (l *Lab) RunDrills(ctx context.Context, w io.Writer, names []string) (failed int, err error) {
	var chosen []Drill
	for _, d := range Drills() {
		if len(names) == 0 {
			chosen = append(chosen, d)
		}
	}
	for _, n := range names {
		d, ok := drillByName(n)
		if !ok {
			return 0, fmt.Errorf("there is no drill %q; see 'wardlab drill --list'", n)
		}
		chosen = append(chosen, d)
	}
	var rows [][]string
	for _, d := range chosen {
		l.Line.Heading("Drill %s: %s", d.Name, d.Title)
		row := []string{d.Name, "passed", "", ""}
		o, err := l.runDrill(ctx, d)
		if ctx.Err() != nil {
			return failed, ctx.Err()
		}
		if err != nil {
			failed++
			row[1], row[3] = "FAILED", err.Error()
			l.Line.Say("drill", "FAILED: %v", err)
		} else {
			row[2], row[3] = strconv.FormatInt(o.After.Milliseconds(), 10)+" ms", o.Seen
		}
		rows = append(rows, row)
	}
	fmt.Fprintln(w)
	timeline.Table(w, []string{"drill", "result", "after", "seen"}, rows)
	return failed, nil
}

func (l *Lab) runDrill(ctx context.Context, d Drill) (Outcome, error) {
	s, err := stage.Set(ctx, l.Works)
	if err != nil {
		return Outcome{}, err
	}
	defer s.Close()
	return d.Run(ctx, s)
}

func drillByName(name string) (Drill, bool) {
	for _, d := range Drills() {
		if d.Name == name {
			return d, true
		}
	}
	return Drill{}, false
}

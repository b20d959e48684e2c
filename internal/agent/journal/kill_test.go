package journal_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"ward/internal/agent/journal"
	"ward/internal/device/wal"
)

// victimDir tells the test program to be the process that is killed.
const victimDir = "WARD_JOURNAL_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
	}
	os.Exit(m.Run())
}

// victim records without end and prints each sequence that is durable.
func victim(dir string) {
	j, err := journal.Open(journal.Config{
		Dir: dir, Source: source, Boot: "b", MaxBytes: 8 << 20, Monotonic: func() time.Duration { return 0 },
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for n := 0; ; n++ {
		e := low("may be lost")
		if n%5 == 4 {
			e = grave("must stay")
		}
		if err := j.Record(context.Background(), e); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if n%5 == 4 {
			fmt.Println(j.Status().Sequence)
		}
	}
}

// Verifies: SR-009
func TestAKilledProcessLosesNothingDurable(t *testing.T) {
	dir := t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	durable := uint64(0)
	for round := range 12 {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), victimDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(20+13*round)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for s := bufio.NewScanner(out); s.Scan(); {
			if durable, err = strconv.ParseUint(s.Text(), 10, 64); err != nil {
				t.Fatalf("the process says %q", s.Text())
			}
		}
		_ = cmd.Wait() // killed
		kill.Stop()
		v := verify(t, wal.Dir(dir))
		if v.Last < durable || len(v.Problems) > 0 || v.Records != int(v.Last) {
			t.Fatalf("round %d: record %d was durable, the journal has %d up to %d, problems %q", round, durable, v.Records, v.Last, v.Problems)
		}
	}
	if durable < 50 {
		t.Errorf("only %d records were made: the test shows little", durable)
	}
}

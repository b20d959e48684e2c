package peers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"ward/internal/format/pcr"
)

// childVariable makes the test program a child that asks tcglog-parser one thing.
const childVariable = "WARD_PEERS_CHILD"

// memoryBound is the address space of the child: a Go program of this size needs
// less than half of it.
const memoryBound = 2 << 30

// question is what the child is asked on its standard input.
type question struct {
	Log    []byte
	Bank   pcr.Algorithm
	Values pcr.Values
}

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	if err := child(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

func child() error {
	limit := syscall.Rlimit{Cur: memoryBound, Max: memoryBound}
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &limit); err != nil {
		return err
	}
	var q question
	b, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = json.Unmarshal(b, &q)
	}
	if err == nil {
		_, err = fmt.Print(tcglogParser(q.Log, q.Bank, q.Values))
	}
	return err
}

// boundedTCGLog asks tcglog-parser in a process of bounded memory.
func boundedTCGLog(raw []byte, m *Machine) (Answer, error) {
	q, err := json.Marshal(question{raw, m.Bank, m.Values})
	if err != nil {
		return "", err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=tcglog-parser")
	cmd.Stdin = bytes.NewReader(q)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return Answer(stdout.String()), nil
	case errors.As(err, &exit) && strings.Contains(stderr.String(), "out of memory"):
		return Exhausts, nil
	}
	return "", fmt.Errorf("ask tcglog-parser: %w: %s", err, stderr.String())
}

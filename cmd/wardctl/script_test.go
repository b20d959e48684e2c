package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/format/pcr"
	"ward/internal/scripttest"
)

var update = flag.Bool("update", false, "rewrite golden parts of the scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"wardctl": func() {
		status := run(os.Args[1:])
		notePeak()
		os.Exit(status)
	}})
}

// captured are a device's logs, under the names that scripts know them by.
var captured = map[string]string{
	"boot.bin":       "../../internal/format/eventlog/testdata/qemu-x86_64.bin",
	"boot.pcrs.json": "../../internal/format/eventlog/testdata/qemu-x86_64.pcrs.json",
	"ima.bin":        "../../internal/format/ima/testdata/qemu-x86_64.bin",
	"ima.ascii":      "../../internal/format/ima/testdata/qemu-x86_64.ascii",
}

// Each script starts with a device's event log (boot.bin), its registers
// (boot.pcrs.json) and its measurement list (ima.bin, ima.ascii), and with the
// lists of imaFiles, a device on paper with evidence (folder paper), and releases
// to update to (folder releases).
//
// Verifies: SR-018
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			for name, source := range captured {
				b, err := os.ReadFile(source)
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), b, 0o644); err != nil {
					return err
				}
			}
			if err := paper(t, filepath.Join(env.WorkDir, "paper")); err != nil {
				return err
			}
			if err := releases(t, filepath.Join(env.WorkDir, "releases")); err != nil {
				return err
			}
			return imaFiles(env.WorkDir)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status":    scripttest.Status,
			"bounded":   bounded,
			"cut":       cut,
			"pad":       pad,
			"patch":     patch,
			"same-pcrs": samePCRs,
			"same":      same,
		},
	})
}

func write(ts *testscript.TestScript, name string, b []byte) {
	ts.Check(os.WriteFile(ts.MkAbs(name), b, 0o644))
}

func number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}

// cut writes a file without its last N bytes: "cut FILE NEW N".
func cut(ts *testscript.TestScript, _ bool, args []string) {
	b := ts.ReadFile(args[0])
	write(ts, args[1], []byte(b[:len(b)-number(ts, args[2])]))
}

// pad writes a file with N zeros behind it: "pad FILE NEW N".
func pad(ts *testscript.TestScript, _ bool, args []string) {
	write(ts, args[1], append([]byte(ts.ReadFile(args[0])), make([]byte, number(ts, args[2]))...))
}

// patch replaces the last place of a text by another as long: "patch FILE NEW
// OLD TEXT".
func patch(ts *testscript.TestScript, _ bool, args []string) {
	b := []byte(ts.ReadFile(args[0]))
	i := bytes.LastIndex(b, []byte(args[2]))
	if i < 0 || len(args[2]) != len(args[3]) {
		ts.Fatalf("no %q in %s, or another length", args[2], args[0])
	}
	copy(b[i:], args[3])
	write(ts, args[1], b)
}

// samePCRs compares what "eventlog replay --json" printed with the registers of
// a device: "same-pcrs stdout FILE".
func samePCRs(ts *testscript.TestScript, _ bool, args []string) {
	var got struct {
		Banks map[string]pcr.Values
	}
	var want map[string]pcr.Values
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &got))
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &want))
	for bank, values := range got.Banks {
		if len(want[bank]) == 0 && len(want) > 0 {
			continue // the device has no such bank
		}
		for i, v := range values {
			if !bytes.Equal(v, want[bank][i]) {
				ts.Fatalf("%s PCR %d: %s, the device held %s", bank, i, v, want[bank][i])
			}
		}
	}
}

// same wants two files to be equal: "same ONE OTHER".
func same(ts *testscript.TestScript, _ bool, args []string) {
	if ts.ReadFile(args[0]) != ts.ReadFile(args[1]) {
		ts.Fatalf("%s and %s differ", args[0], args[1])
	}
}

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/format/chain"
	"ward/internal/format/pcr"
	"ward/internal/scripttest"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
)

var update = flag.Bool("update", false, "rewrite golden parts of the scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"wardctl": func() { os.Exit(run(os.Args[1:])) }})
}

// captured are a device's logs, under the names that scripts know them by.
var captured = map[string]string{
	"boot.bin":       "../../internal/format/eventlog/testdata/qemu-x86_64.bin",
	"boot.pcrs.json": "../../internal/format/eventlog/testdata/qemu-x86_64.pcrs.json",
	"ima.bin":        "../../internal/format/ima/testdata/qemu-x86_64.bin",
	"ima.ascii":      "../../internal/format/ima/testdata/qemu-x86_64.ascii",
}

// Each script starts with a device's event log (boot.bin), its registers
// (boot.pcrs.json) and its measurement list (ima.bin, ima.ascii), and with a
// list of two entries, of which the second is a violation (violation.bin), and a
// device on paper with evidence and what it is judged by (folder paper).
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
			return os.WriteFile(filepath.Join(env.WorkDir, "violation.bin"), violation(), 0o644)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status":    scripttest.Status,
			"cut":       cut,
			"pad":       pad,
			"patch":     patch,
			"same-pcrs": samePCRs,
			"same":      same,
		},
	})
}

// violation is a binary list: boot_aggregate, and a violation.
func violation() []byte {
	entry := func(path string, violated bool) []byte {
		le := binary.LittleEndian
		digest := append([]byte("sha256:\x00"), make([]byte, 32)...)
		data := append(le.AppendUint32(nil, uint32(len(digest))), digest...)
		data = append(le.AppendUint32(data, uint32(len(path)+1)), path+"\x00"...)
		hash := sha1.Sum(data)
		if violated {
			hash = [sha1.Size]byte{}
		}
		e := append(le.AppendUint32(nil, 10), hash[:]...)
		e = append(le.AppendUint32(e, 6), "ima-ng"...)
		return append(le.AppendUint32(e, uint32(len(data))), data...)
	}
	return append(entry("boot_aggregate", false), entry("/usr/bin/\x1b[31mred", true)...)
}

// paper writes the evidence of a device on paper: one that answers the nonce
// 6e6f6e6365 (evidence.cbor), one that nobody asked for and that leaves the event
// log out (later.cbor), its altered twin, whose command line is another
// (altered.cbor), what they are judged by, and another device's key (other.pem).
func paper(t *testing.T, dir string) error {
	d := appraisaltest.New(t)
	twin := appraisaltest.New(t)
	events := appraisaltest.Events()
	last := &events[len(events)-1]
	*last = appraisaltest.Text(last.PCR, last.Type, "load options and more")
	twin.Log, twin.AK = appraisaltest.Log(events...), d.AK
	twin.PCRs = appraisaltest.Replay(t, twin.Log)
	twin.SetList(t, appraisaltest.Program("/tmp/stranger"))

	record := evidence.Record{Epoch: 1, Sequence: 9, Head: chain.Hash{1}}
	later := d.Quoted(t, nil, record)
	digest := sha256.Sum256(later.EventLog)
	later.EventLog, later.EventLogDigest = nil, digest[:]
	files := map[string][]byte{
		"release.dsse": d.Envelope(t), "release.pem": appraisaltest.KeyPEM(t, d.Key), "baseline": d.Baseline, "eventlog.bin": d.Log,
		"stranger.pem": appraisaltest.KeyPEM(t, appraisaltest.Key(9)),
	}
	for name, key := range map[string]*ecdsa.PublicKey{"ak.pem": &d.AK.PublicKey, "other.pem": &appraisaltest.New(t).AK.PublicKey} {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return err
		}
		files[name] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	for name, e := range map[string]evidence.Evidence{
		"evidence.cbor": d.Quoted(t, []byte("nonce"), record), "later.cbor": later, "altered.cbor": twin.Quoted(t, []byte("nonce"), record),
	} {
		b, err := evidence.Encode(e)
		if err != nil {
			return err
		}
		files[name] = b
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
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

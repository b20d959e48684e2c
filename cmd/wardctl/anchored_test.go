package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/cmd/wardctl/record"
	"ward/internal/agent/anchor/anchortest"
	"ward/internal/agent/journal"
	"ward/internal/agent/localapi"
	"ward/internal/device/tpm"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/receipt"
)

// anchored makes a journal with checkpoints of a software TPM: "anchored DIR". Beside
// it lie the attestation key (ak.pem, ak.pub as the TPM has it), the newest
// checkpoint (checkpoint.json), a receipt for the newest record (receipt.json,
// receipt.pem), and the same of a device that nobody knows (other.pem).
func anchored(t *testing.T) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		chip := anchortest.New(t)
		j := openJournal(ts, args[0])
		source := event.Source{Tenant: "lab", Device: "pump-1"}
		var last []byte
		for _, c := range []checkpoint.Counter{checkpoint.Durable, checkpoint.Orderly, checkpoint.Orderly} {
			ts.Check(j.Record(context.Background(), history[1])) // high: it is durable
			sequence, head, err := j.Head()
			ts.Check(err)
			e := chip.Event(t, c, source, checkpoint.Place{Epoch: j.Epoch(), Sequence: sequence, Head: head}, nil)
			e.Time = when
			ts.Check(j.Record(context.Background(), e))
		}
		ts.Check(j.Record(context.Background(), history[1]))
		ts.Check(j.Record(context.Background(), history[1]))
		sequence, head, err := j.Head()
		ts.Check(err)
		records, err := j.Read(context.Background(), 0, 100)
		ts.Check(err)
		for _, r := range records {
			if bytes.Contains(r.Bytes, []byte(event.Checkpoint)) {
				last = r.Bytes
			}
		}
		epoch := j.Epoch()
		ts.Check(j.Close())
		fleet, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ts.Check(err)
		envelope, err := receipt.Sign(receipt.Receipt{Tenant: "lab", Device: "pump-1", Epoch: epoch, Sequence: sequence, Head: head, Time: when}, fleet)
		ts.Check(err)
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ts.Check(err)
		key, err := chip.TPM.ReadPublic(context.Background(), tpm.HandleAK)
		ts.Check(err)
		for name, b := range map[string][]byte{
			"ak.pem": publicPEM(ts, chip.AK), "ak.pub": key.Area, "other.pem": publicPEM(ts, &other.PublicKey),
			"checkpoint.json": append(last, '\n'), "receipt.json": envelope, "receipt.pem": publicPEM(ts, &fleet.PublicKey),
		} {
			write(ts, name, b)
		}
	}
}

func publicPEM(ts *testscript.TestScript, key *ecdsa.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	ts.Check(err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// checkpointAnswers is the action of taking a checkpoint: the text of a file, and a
// refusal when it is asked for again.
func checkpointAnswers(ts *testscript.TestScript, file string) []localapi.Action {
	text, asked := strings.TrimSpace(ts.ReadFile(file)), false
	return []localapi.Action{localapi.TakeCheckpoint(func(context.Context) (json.RawMessage, error) {
		if asked {
			return nil, localapi.Refuse(429, "a checkpoint was asked for less than 10 seconds ago")
		}
		asked = true
		return json.RawMessage(text), nil
	})}
}

// TestTailFollow: an event that comes later is printed without another call, and so
// is a journal that is begun anew in the same folder.
//
// Verifies: SR-055
func TestTailFollow(t *testing.T) {
	dir := t.TempDir()
	open := func() *journal.Journal {
		j, err := journal.Open(journal.Config{Dir: dir, Source: event.Source{Tenant: "lab", Device: "pump-1"}, Boot: "b", Monotonic: func() time.Duration { return 0 }})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	j := open()
	for _, e := range []event.Event{history[1], history[1], history[1]} {
		if err := j.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	lines := make(chan string, 10)
	following, stop := context.WithCancel(t.Context())
	cmd := record.NewJournal(defaultSocket)
	cmd.SetArgs([]string{"tail", "-f", "-n", "2", dir})
	cmd.SetOut(sink(lines))
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(following) }()
	want := func(text string) {
		t.Helper()
		select {
		case line := <-lines:
			if !strings.Contains(line, text) {
				t.Errorf("printed %q, want %s", line, text)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing is printed, want %s", text)
		}
	}
	want("     3  ")
	want("     4  ")
	if err := j.Record(t.Context(), history[1]); err != nil {
		t.Fatal(err)
	}
	want("     5  ")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := os.Remove(n); err != nil {
			t.Fatal(err)
		}
	}
	j = open()
	want("     1  ")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("following ended with %v", err)
	}
}

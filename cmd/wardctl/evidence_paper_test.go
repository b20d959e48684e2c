package main

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"ward/internal/format/chain"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
)

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

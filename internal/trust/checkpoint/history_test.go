package checkpoint_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"ward/internal/format/chain"
	"ward/internal/format/tpmwire"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/finding"
)

// step is one checkpoint of a history. The key is the test's, so that resets and
// clocks can be anything that a TPM could say.
type step struct {
	counter checkpoint.Counter
	value   uint64
	record  uint64 // of the checkpoint's own event; the named one is the one before
	resets  uint32
	clock   uint64
	epoch   uint64 // 1 if zero
	lost    uint64 // records without content before it
	named   uint64 // the named record, if it is not the one before
	other   bool   // the chain holds another record there
	gone    bool   // the chain does not hold that record any more
}

func statement(counter checkpoint.Counter, value uint64, resets uint32, clock uint64, qualifying [32]byte) []byte {
	index, _ := counter.Index()
	b := binary.BigEndian.AppendUint32(nil, tpmwire.Generated)
	b = binary.BigEndian.AppendUint16(b, tpmwire.AttestNV)
	b = append(b, 0, 0) // signer's name
	b = append(append(b, 0, 32), qualifying[:]...)
	b = binary.BigEndian.AppendUint64(b, clock)
	b = binary.BigEndian.AppendUint32(b, resets)
	b = append(b, 0, 0, 0, 0, 1) // restarts, safe
	b = append(b, make([]byte, 8)...)
	b = append(append(b, 0, 34), index.Name(true)...)
	b = append(b, 0, 0, 0, 8)
	return binary.BigEndian.AppendUint64(b, value)
}

func sign(t testing.TB, key *ecdsa.PrivateKey, b []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(b)
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	scalar := func(n *big.Int) []byte { return append([]byte{0, 32}, n.FillBytes(make([]byte, 32))...) }
	return append(append([]byte{0, 0x18, 0, 0x0b}, scalar(r)...), scalar(s)...)
}

func (s step) entry(t testing.TB, key *ecdsa.PrivateKey) checkpoint.Entry {
	t.Helper()
	p := checkpoint.Place{Epoch: max(s.epoch, 1), Sequence: s.record - 1, Head: chain.Next([]byte{byte(s.record)})}
	if s.named != 0 {
		p.Sequence = s.named
	}
	attest := statement(s.counter, s.value, s.resets, s.clock, checkpoint.Qualifying(source, p, nil))
	r := checkpoint.Report{Counter: s.counter, Value: s.value, Sequence: p.Sequence, Head: p.Head, Attest: attest, Signature: sign(t, key, attest)}
	v, err := checkpoint.Verify(r, source, p.Epoch, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	e := checkpoint.Entry{Verified: v, Record: s.record, Known: p.Head}
	switch {
	case s.other:
		e.Known = chain.Next([]byte("another"))
	case s.gone:
		e.Known = chain.Hash{}
	}
	return e
}

// Honest courses show nothing, or a jump with its size; everything else is told.
//
// Verifies: SR-053
func TestHistory(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const o, d = checkpoint.Orderly, checkpoint.Durable
	// two boots' worth of an honest device: both, then the everyday one
	begin := []step{{counter: o, value: 5, record: 10, resets: 7, clock: 1000}, {counter: d, value: 2, record: 11, resets: 7, clock: 1000}, {counter: o, value: 6, record: 20, resets: 7, clock: 2000}}
	for name, c := range map[string]struct {
		then []step
		want string // codes, and a part of the last detail behind a blank
	}{
		"the next of each":                                {[]step{{counter: o, value: 7, record: 30, resets: 7, clock: 3000}, {counter: d, value: 3, record: 31, resets: 7, clock: 3000}}, ""},
		"the next boot, shut down in order":               {[]step{{counter: o, value: 7, record: 30, resets: 8, clock: 100}, {counter: d, value: 3, record: 31, resets: 8, clock: 100}}, ""},
		"the begin was recycled and the record is gone":   {[]step{{counter: o, value: 7, record: 30, resets: 7, clock: 3000, gone: true}}, ""},
		"a power cut":                                     {[]step{{counter: o, value: 256, record: 30, resets: 8, clock: 100}, {counter: d, value: 3, record: 31, resets: 8, clock: 100}}, "journal.counter-jump 249 values"},
		"one everyday checkpoint was removed":             {[]step{{counter: o, value: 8, record: 30, resets: 7, clock: 3000}}, "journal.anchor-gap 1 values"},
		"many were, and the clock fits":                   {[]step{{counter: o, value: 66, record: 30, resets: 7, clock: 3000}}, "journal.anchor-gap 59 values"},
		"one durable checkpoint was removed":              {[]step{{counter: d, value: 4, record: 30, resets: 7, clock: 3000}}, "journal.anchor-gap 1 values"},
		"one durable checkpoint, a power cut does not do": {[]step{{counter: d, value: 4, record: 30, resets: 8, clock: 100}}, "journal.anchor-gap 1 values"},
		"a value twice":                                   {[]step{{counter: o, value: 6, record: 30, resets: 7, clock: 3000}}, "journal.anchor-invalid value 6 was certified"},
		"a value that is back":                            {[]step{{counter: d, value: 1, record: 30, resets: 7, clock: 3000}}, "journal.anchor-invalid value 2 was certified"},
		"two checkpoints exchanged":                       {[]step{{counter: o, value: 8, record: 30, resets: 7, clock: 4000}, {counter: o, value: 7, record: 40, resets: 7, clock: 3000}}, "journal.anchor-gap journal.anchor-invalid journal.anchor-invalid value 8 was certified"},
		"the clock went back":                             {[]step{{counter: o, value: 7, record: 30, resets: 7, clock: 1999}}, "journal.anchor-invalid clock went back"},
		"resets went back":                                {[]step{{counter: o, value: 7, record: 30, resets: 6, clock: 3000}}, "journal.anchor-invalid reset 1 times less"},
		"the counts of resets run over":                   {[]step{{counter: o, value: 7, record: 30, resets: 7 + 1<<31 - 1, clock: 1}}, ""},
		"the record before it was written anew":           {[]step{{counter: o, value: 7, record: 30, resets: 7, clock: 3000, other: true}}, "journal.anchor-invalid written anew"},
		"it names a record behind it":                     {[]step{{counter: o, value: 7, record: 30, resets: 7, clock: 3000, named: 30}}, "journal.anchor-invalid does not stand before it"},
		"content was lost between":                        {[]step{{counter: o, value: 8, record: 30, resets: 7, clock: 3000, lost: 1}}, "journal.counter-jump lost their content"},
		"less content was lost than values are missing":   {[]step{{counter: o, value: 9, record: 30, resets: 7, clock: 3000, lost: 1}}, "journal.anchor-gap 2 values"},
		"content was lost, and nothing is missing":        {[]step{{counter: o, value: 7, record: 30, resets: 7, clock: 3000, lost: 5}, {counter: o, value: 9, record: 40, resets: 7, clock: 4000}}, "journal.anchor-gap 1 values"},
		"the journal was begun anew":                      {[]step{{counter: d, value: 9, record: 4, resets: 7, clock: 3000, epoch: 2}}, "journal.counter-jump since epoch 1"},
		"the journal was begun anew, with an old value":   {[]step{{counter: d, value: 2, record: 4, resets: 7, clock: 3000, epoch: 2}}, "journal.anchor-invalid value 2 was certified"},
	} {
		var h checkpoint.History
		for _, s := range begin {
			if found := h.Add(s.entry(t, key)); len(found) > 0 {
				t.Fatalf("%s: at the begin %v", name, found)
			}
		}
		// Who keeps a history keeps all of it.
		b, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		h = checkpoint.History{}
		if err := json.Unmarshal(b, &h); err != nil {
			t.Fatal(err)
		}
		var codes, detail string
		for _, s := range c.then {
			h.Lose(s.lost)
			for _, f := range h.Add(s.entry(t, key)) {
				codes += string(f.Code) + " "
				detail = f.Detail
			}
		}
		i := strings.LastIndex(c.want, "journal.")
		if i < 0 {
			if codes != "" {
				t.Errorf("%s: %s%s, want nothing", name, codes, detail)
			}
			continue
		}
		_, part, _ := strings.Cut(c.want[i:], " ")
		if want := strings.TrimSuffix(c.want, part); codes != want || !strings.Contains(detail, part) {
			t.Errorf("%s: %s%q, want %s", name, codes, detail, c.want)
		}
		for _, f := range h.Judge(c.then[len(c.then)-1].entry(t, key)) {
			if f.Code == finding.JournalAnchorGap {
				t.Errorf("%s: judged without going on: %v", name, f)
			}
		}
	}
}

package peers

import (
	"bytes"
	"crypto"
	"errors"
	"slices"

	"github.com/canonical/go-tpm2"
	tcglog "github.com/canonical/tcglog-parser"
	"github.com/google/go-attestation/attest"

	"ward/internal/format/pcr"
)

// A peer's answers.
const (
	Follows Answer = "follows" // it says that the registers follow from the log
	Differs Answer = "differs" // it says that they do not
	Refuses Answer = "refuses" // it cannot read the log
	Crashes Answer = "crashes" // it was ended by a signal
	Hangs   Answer = "hangs"   // it did not end in time
	// Exhausts: it asked for more than memoryBound for a log of some KiB.
	Exhausts Answer = "exhausts"
)

// goAttestation asks go-attestation: parse, then verify against the registers of
// one bank, as it is meant to be used after a quote.
func goAttestation(raw []byte, bank pcr.Algorithm, values pcr.Values) Answer {
	log, err := attest.ParseEventLog(raw)
	if err != nil {
		return Refuses
	}
	if _, err := log.Verify(attestPCRs(bank, values)); err != nil {
		return Differs
	}
	return Follows
}

func attestPCRs(bank pcr.Algorithm, values pcr.Values) []attest.PCR {
	hash, _ := bank.Hash()
	var list []attest.PCR
	for i := range pcr.Count {
		list = append(list, attest.PCR{Index: i, Digest: values[i], DigestAlg: hash})
	}
	return list
}

// GoAttestation parses a log and verifies it; for measuring.
func GoAttestation(raw []byte, m *Machine) error {
	log, err := attest.ParseEventLog(raw)
	if err != nil {
		return err
	}
	_, err = log.Verify(attestPCRs(m.Bank, m.Values))
	return err
}

// tcglogParser asks tcglog-parser, which reads and decodes but does not replay:
// its events are extended here as it reads them.
func tcglogParser(raw []byte, bank pcr.Algorithm, values pcr.Values) Answer {
	log, err := tcglog.ReadLog(bytes.NewReader(raw), &tcglog.LogOptions{})
	if err != nil {
		return Refuses
	}
	hash, _ := bank.Hash()
	registers, err := replayTCGLog(log, hash)
	if err != nil {
		return Refuses
	}
	for i, v := range registers {
		if !bytes.Equal(v, values[i]) {
			return Differs
		}
	}
	return Follows
}

func replayTCGLog(log *tcglog.Log, hash crypto.Hash) ([pcr.Count][]byte, error) {
	var registers [pcr.Count][]byte
	for i := range registers {
		registers[i] = make([]byte, hash.Size())
		if i >= 17 && i <= 22 {
			registers[i] = slices.Repeat([]byte{0xff}, hash.Size())
		}
	}
	extended := false
	for _, e := range log.Events {
		if e.EventType == tcglog.EventTypeNoAction {
			if l, ok := e.Data.(*tcglog.StartupLocalityEventData); ok && e.PCRIndex == 0 && !extended {
				registers[0][hash.Size()-1] = l.StartupLocality
			}
			continue
		}
		if int(e.PCRIndex) >= len(registers) {
			return registers, errors.New("no such register")
		}
		digest, ok := e.Digests[tpm2.HashAlgorithmId(algorithmOf(hash))]
		if !ok {
			return registers, errors.New("no digest of the bank")
		}
		h := hash.New()
		h.Write(registers[e.PCRIndex])
		h.Write(digest)
		registers[e.PCRIndex] = h.Sum(nil)
		extended = extended || e.PCRIndex == 0
	}
	return registers, nil
}

func algorithmOf(hash crypto.Hash) pcr.Algorithm {
	if hash == crypto.SHA1 {
		return pcr.SHA1
	}
	return pcr.SHA256
}

// Package registers reads PCRs of one moment (TPM 2.0 Library Specification, Part
// 3, section 22.4): a TPM gives eight at most at once, and they may move between
// two commands.
package registers

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/link"
	"ward/internal/format/pcr"
)

// maxRounds bounds how often the registers are read again because one was
// extended in between.
const maxRounds = 5

var errMove = errors.New("registers were extended while they were read")

// Read reads registers of one bank. All values are of one moment: when the TPM's
// update counter moves between two commands, they are read anew, at most 5
// times. A bank that the TPM does not have is an error. A session authenticates
// the answers.
func Read(c *link.Channel, bank pcr.Algorithm, indexes []int, session ...tpm2.Session) (pcr.Values, error) {
	for range maxRounds {
		values, err := read(c, bank, indexes, session...)
		if !errors.Is(err, errMove) {
			return values, err
		}
	}
	return nil, errMove
}

func read(c *link.Channel, bank pcr.Algorithm, indexes []int, session ...tpm2.Session) (pcr.Values, error) {
	values := make(pcr.Values, len(indexes))
	var counter uint32
	for first := true; len(values) < len(indexes); first = false {
		var missing []uint
		for _, i := range indexes {
			if _, ok := values[i]; !ok {
				missing = append(missing, uint(i))
			}
		}
		rsp, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
			{Hash: tpm2.TPMAlgID(bank), PCRSelect: tpm2.PCClientCompatible.PCRs(missing...)},
		}}}.Execute(c, session...)
		if err != nil {
			return nil, err
		}
		if !first && rsp.PCRUpdateCounter != counter {
			return nil, errMove
		}
		counter = rsp.PCRUpdateCounter
		got, err := selected(rsp.PCRSelectionOut, bank)
		if err != nil {
			return nil, err
		}
		if len(got) == 0 {
			return nil, fmt.Errorf("the TPM has no %s bank, or not all of PCR %v in it", bank, missing)
		}
		if len(got) != len(rsp.PCRValues.Digests) {
			return nil, fmt.Errorf("%w: %d values for %d registers", link.ErrResponse, len(rsp.PCRValues.Digests), len(got))
		}
		for n, i := range got {
			d := rsp.PCRValues.Digests[n].Buffer
			if len(d) != bank.Size() {
				return nil, fmt.Errorf("%w: PCR %d has %d bytes, want %d", link.ErrResponse, i, len(d), bank.Size())
			}
			values[i] = pcr.Digest(d)
		}
	}
	return values, nil
}

// selected lists the registers of a selection, in the order of their values.
func selected(s tpm2.TPMLPCRSelection, bank pcr.Algorithm) ([]int, error) {
	var got []int
	for _, sel := range s.PCRSelections {
		if pcr.Algorithm(sel.Hash) != bank {
			return nil, fmt.Errorf("%w: values of another bank", link.ErrResponse)
		}
		for i := range min(8*len(sel.PCRSelect), pcr.Count) {
			if sel.PCRSelect[i/8]&(1<<(i%8)) != 0 {
				got = append(got, i)
			}
		}
	}
	return got, nil
}

package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/format/pcr"
)

// maxPCRRounds bounds how often the registers are read again because one was
// extended in between.
const maxPCRRounds = 5

var errPCRsMove = errors.New("registers were extended while they were read")

// ReadPCRs reads registers of one bank (TPM2_PCR_Read, Part 3, section 22.4).
// All values are of one moment: when the TPM's update counter moves between
// two commands, they are read anew, at most 5 times. A bank that the TPM does
// not have is an error. When the TPM is pinned, nobody between it and the
// processor can change the values; else only a quote vouches for them.
func (t *TPM) ReadPCRs(ctx context.Context, bank pcr.Algorithm, indexes []int) (pcr.Values, error) {
	for _, i := range indexes {
		if i < 0 || i >= pcr.Count {
			return nil, fmt.Errorf("read PCRs: there is no PCR %d", i)
		}
	}
	return run(ctx, t, "read PCRs", func(c *channel) (pcr.Values, error) {
		session, err := t.auditPinned(c)
		if err != nil {
			return nil, err
		}
		for range maxPCRRounds {
			values, err := readPCRs(c, bank, indexes, session...)
			if !errors.Is(err, errPCRsMove) {
				return values, err
			}
		}
		return nil, errPCRsMove
	})
}

// auditPinned opens the session that authenticates answers of commands that
// take no authorisation, if the TPM is pinned.
func (t *TPM) auditPinned(c *channel) ([]tpm2.Session, error) {
	t.mu.Lock()
	pinned := t.pin != nil
	t.mu.Unlock()
	if !pinned {
		return nil, nil
	}
	root, _, err := t.storageSalt(c)
	if err != nil {
		return nil, err
	}
	session, err := protected(c, root, tpm2.Audit())
	return []tpm2.Session{session}, err
}

func readPCRs(c *channel, bank pcr.Algorithm, indexes []int, session ...tpm2.Session) (pcr.Values, error) {
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
			return nil, errPCRsMove
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
			return nil, fmt.Errorf("%w: %d values for %d registers", ErrResponse, len(rsp.PCRValues.Digests), len(got))
		}
		for n, i := range got {
			d := rsp.PCRValues.Digests[n].Buffer
			if len(d) != bank.Size() {
				return nil, fmt.Errorf("%w: PCR %d has %d bytes, want %d", ErrResponse, i, len(d), bank.Size())
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
			return nil, fmt.Errorf("%w: values of another bank", ErrResponse)
		}
		for i := range min(8*len(sel.PCRSelect), pcr.Count) {
			if sel.PCRSelect[i/8]&(1<<(i%8)) != 0 {
				got = append(got, i)
			}
		}
	}
	return got, nil
}

package tpm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/object"
	"ward/internal/device/tpm/registers"
	"ward/internal/format/pcr"
	"ward/internal/trust/quote"
)

// Quote has the attestation key sign registers of one bank with qualifying data
// (TPM2_Quote, Part 3, section 18.4), and reads the same registers. A register
// that was extended between the two gives values that the quote does not fit:
// quote.Verify tells, and the caller asks again.
func (t *TPM) Quote(ctx context.Context, qualifying [32]byte, bank pcr.Algorithm, which []int) (quote.Quote, pcr.Values, error) {
	var selected []uint
	for _, i := range which {
		if i < 0 || i >= pcr.Count || slices.Contains(selected, uint(i)) {
			return quote.Quote{}, nil, fmt.Errorf("quote: PCR %d: want each of 0 to %d once", i, pcr.Count-1)
		}
		selected = append(selected, uint(i))
	}
	if len(selected) == 0 {
		return quote.Quote{}, nil, errors.New("quote: no register was asked for")
	}
	type answer struct {
		quote  quote.Quote
		values pcr.Values
	}
	a, err := run(ctx, t, "quote", func(c *channel) (answer, error) {
		ak, _, err := object.ReadPublic(c, HandleAK)
		if err != nil {
			return answer{}, err
		}
		// One session over both commands: what is quoted and what is read are
		// from the same TPM, and neither was changed.
		audit, err := t.audit(c)
		if err != nil {
			return answer{}, err
		}
		rsp, err := tpm2.Quote{
			SignHandle:     ak.With(audit),
			QualifyingData: tpm2.TPM2BData{Buffer: qualifying[:]},
			InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
				{Hash: tpm2.TPMAlgID(bank), PCRSelect: tpm2.PCClientCompatible.PCRs(selected...)},
			}},
		}.Execute(c)
		if err != nil {
			return answer{}, err
		}
		values, err := registers.Read(c, bank, which, audit)
		return answer{quote.Quote{Attest: rsp.Quoted.Bytes(), Signature: tpm2.Marshal(rsp.Signature)}, values}, err
	})
	return a.quote, a.values, err
}

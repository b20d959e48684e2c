package tpm_test

import (
	"bytes"
	"errors"
	"testing"

	"ward/internal/format/chain"
	"ward/internal/format/pcr"
	"ward/internal/trust/quote"
)

// Verifies: SR-001
func TestQuote(t *testing.T) {
	socket := startTPM(t, false)
	d := open(t, socket)
	keys, err := d.ProvisionKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	blob, err := d.CreateKey(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	certified, err := d.CertifyKey(t.Context(), blob)
	if err != nil {
		t.Fatal(err)
	}
	extend(t, socket, 4, 7)
	question := quote.Qualifying([]byte("nonce"), chain.Hash{1}, [32]byte{3})
	registers := []int{0, 4, 7, 11}
	q, values, err := d.Quote(t.Context(), question, pcr.SHA256, registers)
	if err != nil {
		t.Fatal(err)
	}
	v, err := quote.Verify(q, keys.AK.Public, question, pcr.SHA256, values)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Values(); len(got) != len(registers) || !bytes.Equal(got[4], values[4]) || pcr.IsReset(pcr.SHA256, 7, got[7]) {
		t.Errorf("verified values %v, read %v", got, values)
	}
	if v.Clock().ResetCount == 0 && v.Clock().Milliseconds == 0 {
		t.Errorf("clock %+v says nothing", v.Clock())
	}
	t.Logf("clock %+v, firmware %x", v.Clock(), v.Firmware())

	other := values
	other[4] = bytes.Repeat([]byte{1}, 32)
	for name, c := range map[string]struct {
		verify func() error
		want   error
	}{
		"another nonce": {func() error {
			_, err := quote.Verify(q, keys.AK.Public, quote.Qualifying([]byte("nonce2"), chain.Hash{1}, [32]byte{3}), pcr.SHA256, v.Values())
			return err
		}, quote.ErrNonce},
		"another chain head": {func() error {
			_, err := quote.Verify(q, keys.AK.Public, quote.Qualifying([]byte("nonce"), chain.Hash{2}, [32]byte{3}), pcr.SHA256, v.Values())
			return err
		}, quote.ErrNonce},
		"other claims": {func() error {
			_, err := quote.Verify(q, keys.AK.Public, quote.Qualifying([]byte("nonce"), chain.Hash{1}, [32]byte{4}), pcr.SHA256, v.Values())
			return err
		}, quote.ErrNonce},
		"another key of the same TPM": {func() error {
			_, err := quote.Verify(q, keys.SRK.Public, question, pcr.SHA256, v.Values())
			return err
		}, quote.ErrSignature},
		"a changed value": {func() error {
			_, err := quote.Verify(q, keys.AK.Public, question, pcr.SHA256, other)
			return err
		}, quote.ErrRegisters},
		"fewer registers": {func() error {
			fewer := v.Values()
			delete(fewer, 7)
			_, err := quote.Verify(q, keys.AK.Public, question, pcr.SHA256, fewer)
			return err
		}, quote.ErrSelection},
		"another bank": {func() error {
			_, err := quote.Verify(q, keys.AK.Public, question, pcr.SM3256, v.Values())
			return err
		}, quote.ErrSelection},
		"a certification in the place of a quote": {func() error {
			_, err := quote.Verify(quote.Quote(certified), keys.AK.Public, question, pcr.SHA256, v.Values())
			return err
		}, quote.ErrMalformed},
	} {
		if err := c.verify(); !errors.Is(err, c.want) {
			t.Errorf("%s gives %v, want %v", name, err, c.want)
		}
	}

	extend(t, socket, 4)
	again, moved, err := d.Quote(t.Context(), question, pcr.SHA256, registers)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := quote.Verify(again, keys.AK.Public, question, pcr.SHA256, v.Values()); !errors.Is(err, quote.ErrRegisters) {
		t.Errorf("values from before an extend give %v", err)
	}
	if _, err := quote.Verify(again, keys.AK.Public, question, pcr.SHA256, moved); err != nil {
		t.Error(err)
	}
}

func TestQuoteRefusesStrangeRegisters(t *testing.T) {
	d := open(t, startTPM(t, false))
	for _, registers := range [][]int{nil, {24}, {-1}, {4, 4}} {
		if _, _, err := d.Quote(t.Context(), [32]byte{}, pcr.SHA256, registers); err == nil {
			t.Errorf("registers %v were quoted", registers)
		}
	}
}

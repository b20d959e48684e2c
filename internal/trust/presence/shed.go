package presence

import (
	"encoding/json"
	"errors"
	"fmt"

	"ward/internal/format/chain"
)

// Shed stands for a record whose content the device had to give up for want of
// space (docs/schema/shed.v1.schema.json). Its hash holds the chain together:
// the next record names it.
type Shed struct {
	Epoch    uint64     `json:"epoch"`
	Sequence uint64     `json:"sequence"`
	Hash     chain.Hash `json:"hash"`
}

// EncodeShed writes a shed record as one line of JSON.
func EncodeShed(s Shed) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("encode shed record: %w", err)
	}
	return json.Marshal(s)
}

// ParseShed reads a shed record. Keys that this version does not know are
// ignored.
func ParseShed(b []byte) (Shed, error) {
	if len(b) > MaxStatus {
		return Shed{}, fmt.Errorf("parse shed record: %d bytes, want at most %d", len(b), MaxStatus)
	}
	var s Shed
	if err := json.Unmarshal(b, &s); err != nil {
		return Shed{}, fmt.Errorf("parse shed record: %w", err)
	}
	if err := s.check(); err != nil {
		return Shed{}, fmt.Errorf("parse shed record: %w", err)
	}
	return s, nil
}

func (s Shed) check() error {
	if s.Epoch == 0 || s.Sequence == 0 {
		return fmt.Errorf("epoch %d, sequence %d: both count from 1", s.Epoch, s.Sequence)
	}
	if s.Hash == (chain.Hash{}) {
		return errors.New("no hash")
	}
	return nil
}

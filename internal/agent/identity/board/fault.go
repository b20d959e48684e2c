package board

import (
	"fmt"

	"ward/internal/trust/finding"
)

// Fault is why there is no usable identity, as a finding.
type Fault struct {
	Finding finding.Finding
	Err     error
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

// NewFault makes a fault of a code of the catalogue.
func NewFault(code finding.Code, format string, args ...any) *Fault {
	err := fmt.Errorf(format, args...)
	return &Fault{Finding: finding.New(code, err.Error()), Err: err}
}

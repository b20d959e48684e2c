package attester

import (
	"fmt"
	"strconv"

	"ward/internal/format/ima"
	"ward/internal/trust/baseline"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/measured"
)

// hide takes the paths of files that are in no release out of the list that others
// get: whoever may create a file chooses its name, and it may be a patient's. The
// list gives PCR 10 all the same, and each of these files is a finding for its
// reader. What a release holds keeps its path, under whatever name it ran; without
// a trusted baseline nothing can be told apart, and nothing is hidden.
func (a *Attester) hide(e *evidence.Evidence) error {
	s, _ := a.Latest()
	if a.config.Hide == nil || s.Baseline == nil {
		return nil
	}
	list, err := ima.Hide(e.IMA, e.From.Entries, func(entry ima.Entry) (string, bool) {
		standing, _ := measured.JudgeEntry(entry, s.Baseline)
		strange := standing == measured.Unknown ||
			standing == measured.Violated && s.Baseline.Lookup(entry.Path, [32]byte{}) == baseline.UnknownPath
		if !strange {
			return "", false
		}
		return a.config.Hide(entry.Path), true
	})
	if err != nil {
		return fmt.Errorf("hide paths of strange files: %w", err)
	}
	e.IMA = list
	return nil
}

// discreet is the path of a finding as it may leave the device. Paths of the
// measurement list are quoted where they are not fit to be shown
// (measured.UntrustedPath).
func (a *Attester) discreet(f finding.Finding) string {
	if a.config.Hide == nil || f.Path == "" || f.Code.Area() != "ima" {
		return f.Path
	}
	path, err := strconv.Unquote(f.Path)
	if err != nil {
		path = f.Path
	}
	if shown := a.config.Hide(path); shown != path {
		return shown
	}
	return f.Path
}

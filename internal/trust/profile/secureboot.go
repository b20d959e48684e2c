package profile

import (
	"bytes"
	"slices"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/secureboot"
)

// demands is what a release demands of Secure Boot: what all its profiles have.
// It is the one place that makes the policy of a manifest. Where Secure Boot was
// off in one of them, or not measured so that it hashes, nothing is demanded.
func demands(profiles []Profile) *secureboot.Policy {
	var all secureboot.Policy
	for i, p := range profiles {
		one := secureboot.PolicyOf(p.secureBoot())
		switch {
		case !one.Required:
			return nil
		case i == 0:
			all = one
			continue
		}
		all.Deployed = all.Deployed && one.Deployed
		all.PK, all.KEK, all.DB = union(all.PK, one.PK), union(all.KEK, one.KEK), union(all.DB, one.DB)
		all.MinimumDBX = slices.DeleteFunc(all.MinimumDBX, func(d pcr.Digest) bool { return !holds(one.MinimumDBX, d) })
		all.MinimumSBAT = min(all.MinimumSBAT, one.MinimumSBAT) // dates; none is the least
	}
	return &all
}

// secureBoot tells how Secure Boot stands by the events of PCR 7, those that were
// predicted among them.
func (p *Profile) secureBoot() secureboot.State {
	log := &eventlog.Log{Algorithms: []eventlog.AlgorithmSize{{Algorithm: pcr.SHA256, Size: pcr.SHA256.Size()}}}
	for i, e := range p.PCRs[secureBootRegister].Events {
		log.Events = append(log.Events, eventlog.Event{
			Index: i, PCR: secureBootRegister, Data: e.Data,
			Digests: []eventlog.TaggedDigest{{Algorithm: pcr.SHA256, Digest: e.Digest}},
		})
	}
	return secureboot.Derive(log, pcr.SHA256)
}

func union(a, b []pcr.Digest) []pcr.Digest {
	for _, d := range b {
		if !holds(a, d) {
			a = append(a, d)
		}
	}
	slices.SortFunc(a, func(x, y pcr.Digest) int { return bytes.Compare(x, y) })
	return a
}

func holds(list []pcr.Digest, d pcr.Digest) bool {
	return slices.ContainsFunc(list, func(e pcr.Digest) bool { return slices.Equal(e, d) })
}

package profile

import (
	"slices"

	"ward/internal/format/efi"
	"ward/internal/format/pcr"
	"ward/internal/trust/secureboot"
)

// demands is what a release demands of Secure Boot: what all its profiles have.
// It is the one place that makes the policy of a manifest. Where Secure Boot was
// off in one of them, or not measured so that it hashes, nothing is demanded.
func demands(profiles []Profile) *secureboot.Policy {
	policy := &secureboot.Policy{Required: true}
	for i, p := range profiles {
		if !p.secureBootOn() {
			return nil
		}
		policy.PK = union(policy.PK, p.keys(namePK))
		policy.KEK = union(policy.KEK, p.keys(nameKEK))
		policy.DB = union(policy.DB, p.keys(nameDB))
		if dbx := p.keys(nameDBX); i == 0 {
			policy.MinimumDBX = dbx
		} else {
			policy.MinimumDBX = slices.DeleteFunc(policy.MinimumDBX, func(d pcr.Digest) bool { return !holds(dbx, d) })
		}
	}
	slices.SortFunc(policy.MinimumDBX, func(a, b pcr.Digest) int { return slices.Compare(a, b) })
	return policy
}

// keys names the entries of a variable as secureboot.Policy does: a certificate
// by its SHA-256, a hash by itself.
func (p *Profile) keys(name string) []pcr.Digest {
	v, _, ok := p.variable(name)
	if !ok {
		return nil
	}
	lists, err := efi.ParseSignatureLists(v.Data)
	if err != nil {
		return nil
	}
	var keys []pcr.Digest
	for _, l := range lists {
		for _, s := range l.Signatures {
			switch {
			case l.Type == efi.CertX509:
				keys = union(keys, []pcr.Digest{pcr.SHA256.Sum(s.Data)})
			default:
				keys = union(keys, []pcr.Digest{slices.Clone(s.Data)})
			}
		}
	}
	return keys
}

func union(a, b []pcr.Digest) []pcr.Digest {
	for _, d := range b {
		if !holds(a, d) {
			a = append(a, d)
		}
	}
	return a
}

func holds(list []pcr.Digest, d pcr.Digest) bool {
	return slices.ContainsFunc(list, func(e pcr.Digest) bool { return slices.Equal(e, d) })
}

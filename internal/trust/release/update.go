package release

import (
	"errors"
	"fmt"
	"slices"
)

// Update says from which releases this one may be installed. A release without
// it may be installed from every one that it does not step behind.
type Update struct {
	From []From `json:"from"` // one of them must fit the running release
}

// From are releases from which an update may start.
type From struct {
	Version string  `json:"version,omitempty"` // this one; empty: any
	AtLeast uint64  `json:"atLeast,omitempty"` // rollback index from here on
	AtMost  *uint64 `json:"atMost,omitempty"`  // and up to here; nil: without end
}

// maxFrom bounds the rules; a product has a few hundred releases in its life.
const maxFrom = 256

// fits tells whether a release is one of them.
func (f From) fits(m Manifest) bool {
	return (f.Version == "" || f.Version == m.Version) && m.RollbackIndex >= f.AtLeast && (f.AtMost == nil || m.RollbackIndex <= *f.AtMost)
}

// String is the rule in words, "version 1.2.3, rollback index 2 to 5".
func (f From) String() string {
	version := "every version"
	if f.Version != "" {
		version = "version " + f.Version
	}
	switch {
	case f.AtMost == nil && f.AtLeast == 0:
		return version
	case f.AtMost == nil:
		return fmt.Sprintf("%s, rollback index from %d", version, f.AtLeast)
	}
	return fmt.Sprintf("%s, rollback index %d to %d", version, f.AtLeast, *f.AtMost)
}

// check is step 10 of Parse. Errors begin with the field's name.
func (u *Update) check() error {
	if len(u.From) == 0 || len(u.From) > maxFrom {
		return fmt.Errorf("from: %d rules, want 1 to %d; without update every release is admitted", len(u.From), maxFrom)
	}
	for i, f := range u.From {
		switch {
		case f == From{}:
			return fmt.Errorf("from[%d]: admits every release; leave update out", i)
		case f.AtMost != nil && *f.AtMost < f.AtLeast:
			return fmt.Errorf("from[%d].atMost: %d is below atLeast, %d", i, *f.AtMost, f.AtLeast)
		case f.Version != "":
			if err := checkText(f.Version, maxText); err != nil {
				return fmt.Errorf("from[%d].version: %w", i, err)
			}
		}
	}
	return nil
}

func (u *Update) clone() *Update {
	if u == nil {
		return nil
	}
	c := Update{From: slices.Clone(u.From)}
	for i, f := range c.From {
		if f.AtMost != nil {
			n := *f.AtMost
			c.From[i].AtMost = &n
		}
	}
	return &c
}

// MayInstall decides whether a release may take the place of the running one,
// and says why not. In this order:
//
//  1. both were verified;
//  2. it is for the same product and board;
//  3. its rollback index is not below the running one's;
//  4. its identity policy opens what the running one's opens: the same policy
//     key and base;
//  5. its own rules admit the running release.
func MayInstall(running, next *Verified) (bool, string) {
	if running == nil || next == nil {
		return false, "a release that was not verified is neither left nor installed"
	}
	r, n := &running.manifest, &next.manifest
	switch {
	case n.Product == "" || n.Product != r.Product:
		return false, fmt.Sprintf("it is for product %q, this is %q", n.Product, r.Product)
	case n.Board != r.Board:
		return false, fmt.Sprintf("it is for board %q, this is %q", n.Board, r.Board)
	case n.RollbackIndex < r.RollbackIndex:
		return false, fmt.Sprintf("its rollback index %d is below the running release's, %d", n.RollbackIndex, r.RollbackIndex)
	}
	if err := keepsOpen(r.IdentityPolicy, n.IdentityPolicy); err != nil {
		return false, err.Error()
	}
	if n.Update != nil && !slices.ContainsFunc(n.Update.From, func(f From) bool { return f.fits(*r) }) {
		return false, fmt.Sprintf("its rules do not admit an update from version %s with rollback index %d: install a release between them first", r.Version, r.RollbackIndex)
	}
	return true, ""
}

// keepsOpen says why keys and secrets of the running release would stay shut.
func keepsOpen(running, next *IdentityPolicy) error {
	switch {
	case running == nil:
		return nil
	case next == nil:
		return errors.New("it has no identity policy: keys and secrets that are bound to the boot state would stay shut")
	case string(running.PolicyKey) != string(next.PolicyKey):
		return errors.New("its identity policy is by another policy key: keys and secrets that are bound to the boot state would stay shut")
	case running.Base != next.Base:
		return fmt.Errorf("its identity policy counts from base %d, the running release's from %d", next.Base, running.Base)
	}
	return nil
}

package diff

import (
	"errors"
	"fmt"
	"strings"

	"ward/internal/trust/baseline"
	"ward/internal/trust/finding"
)

// modes of set-uid and set-gid, and of programs.
const (
	setID = 0o6000
	runs  = 0o111
)

// Finding says what a difference means. It is false where the release's flags say
// that it means nothing:
//
//  1. what gains set-uid, set-gid or file capabilities, has them from another
//     owner, or is new with them, is file.new-setuid, whatever the flags and
//     wherever it lies;
//  2. what could not be read is file.unreadable;
//  3. a volatile entry may come, go and change, and yet not become a program;
//  4. a mutable entry may change its content, and with it its size and the
//     security attributes of its content, and nothing else;
//  5. what is new is file.new in a folder that the release lists and that is
//     neither mutable nor volatile, else nothing;
//  6. changed content is file.config-changed for settings, else file.changed,
//     and critical for programs; changed mode, owner or attributes alone are
//     file.attributes-changed.
//
// The path is as a baseline spells it. One that the release does not name must
// not leave the device: the caller replaces it. Nothing else in the finding is a
// name that somebody on the device has chosen.
func (d Difference) Finding() (finding.Finding, bool) {
	code, some := d.code()
	if !some {
		return finding.Finding{}, false
	}
	f := finding.New(code, d.detail())
	f.Path = spell(d.Path)
	switch {
	case code == finding.FileChanged && d.exec():
		f.Severity = finding.Critical
	case code == finding.FileNew && d.exec():
		f.Severity = finding.High
	}
	if d.Kind == Changed {
		f.Expected, f.Found = told(d.Want, d.What[0]), told(d.Have, d.What[0])
	}
	return f, true
}

func (d *Difference) code() (finding.Code, bool) {
	if d.newPrivileges() || d.newCapability() {
		return finding.FileNewSetuid, true
	}
	switch d.Kind {
	case Unreadable:
		return finding.FileUnreadable, true
	case Missing:
		return finding.FileMissing, d.Want.Flags&baseline.Volatile == 0
	case New:
		return finding.FileNew, d.Listed && d.Folder&(baseline.Mutable|baseline.Volatile) == 0
	case Changed:
		return d.changed()
	}
	return "", false
}

// changed judges an entry that both have.
func (d *Difference) changed() (finding.Code, bool) {
	if d.Want.Flags&baseline.Volatile != 0 {
		return finding.FileAttributesChanged, d.Have.Type == baseline.File && d.Have.Mode&runs&^d.Want.Mode != 0
	}
	some, file := false, false
	for _, what := range d.What {
		if d.Want.Flags&baseline.Mutable != 0 && ofContent(what) {
			continue
		}
		some, file = true, file || ofFile(what)
	}
	switch {
	case !file:
		return finding.FileAttributesChanged, some
	case d.Want.Flags&baseline.Config != 0 && !d.exec():
		return finding.FileConfigChanged, true
	}
	return finding.FileChanged, true
}

// ofContent tells what changes with a file's content, a link's being its target.
func ofContent(what string) bool {
	switch what {
	case WhatContent, WhatSize, WhatLink, WhatXattr + baseline.IMA, WhatXattr + baseline.EVM:
		return true
	}
	return false
}

// ofFile tells what a file is from how it may be used.
func ofFile(what string) bool {
	switch what {
	case WhatType, WhatContent, WhatSize, WhatLink, WhatDevice, WhatVerity:
		return true
	}
	return false
}

// newPrivileges tells of set-uid and set-gid that the release does not give, or
// gives for another owner.
func (d *Difference) newPrivileges() bool {
	have, want := privileges(d.Have), privileges(d.Want)
	return have&^want != 0 || have != 0 && (d.Have.UID != d.Want.UID || d.Have.GID != d.Want.GID)
}

// privileges are the bits by which a program runs with other rights than its
// caller's. On a folder they say who owns what is made in it.
func privileges(e *baseline.Entry) uint16 {
	if e == nil || e.Type != baseline.File {
		return 0
	}
	return e.Mode & setID
}

// newCapability tells of capabilities that the release does not give.
func (d *Difference) newCapability() bool {
	if d.Have == nil {
		return false
	}
	have, there := d.Have.Xattrs.Get(baseline.Capability)
	if !there || d.Want == nil {
		return there
	}
	want, _ := d.Want.Xattrs.Get(baseline.Capability)
	return have != want
}

// exec tells whether a program is concerned.
func (d *Difference) exec() bool {
	return d.Want != nil && d.Want.Flags&baseline.Exec != 0 || d.Have != nil && d.Have.Type == baseline.File && d.Have.Mode&runs != 0
}

func (d *Difference) detail() string {
	var text string
	switch d.Kind {
	case Changed:
		text = d.whatDiffers()
		if d.Err != nil {
			text += "; " + reason(d.Err)
		}
	case Unreadable:
		text = reason(d.Err)
	case New:
		text = fmt.Sprintf("type %c, mode %04o, owner %d:%d", d.Have.Type, d.Have.Mode, d.Have.UID, d.Have.GID)
	case Missing:
		text = fmt.Sprintf("type %c", d.Want.Type)
	}
	if d.Component != "" {
		text += "; of " + d.Component
	}
	return text
}

// labels are the security attributes whose names may be told where the release
// does not have them: those of the kernel's own modules.
const labels = " security.ima security.evm security.selinux security.SMACK64 security.SMACK64EXEC security.apparmor "

// whatDiffers lists what differs, without names that the release does not know.
func (d *Difference) whatDiffers() string {
	var list []string
	others := false
	for _, what := range d.What {
		if name, ok := strings.CutPrefix(what, WhatXattr); ok && !strings.Contains(labels, " "+name+" ") {
			if _, released := d.Want.Xattrs.Get(name); !released {
				others = true
				continue
			}
		}
		list = append(list, what)
	}
	if others {
		list = append(list, "security attributes that the release does not name")
	}
	return strings.Join(list, ", ")
}

// told spells what of an entry may be told of a device: no text that somebody
// there has chosen.
func told(e *baseline.Entry, what string) string {
	switch what {
	case WhatType:
		return string(rune(e.Type))
	case WhatContent:
		if e.SHA256 == [32]byte{} {
			return fmt.Sprintf("verity:%x", e.Verity)
		}
		return fmt.Sprintf("sha256:%x", e.SHA256)
	case WhatMode:
		return fmt.Sprintf("%04o", e.Mode)
	case WhatOwner:
		return fmt.Sprintf("%d:%d", e.UID, e.GID)
	}
	return ""
}

// reason is the innermost error: those around it name the path, which may not be
// the release's.
func reason(err error) string {
	for {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
			continue
		}
		if _, several := err.(interface{ Unwrap() []error }); several {
			return "it could not be read"
		}
		return err.Error()
	}
}

// maxShown is how much of a path is shown, in bytes: far above what programs are
// installed at, far below what would fill an event.
const maxShown = 512

// spell writes a path as the baseline's text does, cut at maxShown bytes.
func spell(path string) string {
	s := baseline.Escape(path)
	if len(s) > maxShown {
		return s[:maxShown] + "..."
	}
	return s
}

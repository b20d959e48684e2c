package diff

import (
	"fmt"
	"strings"

	"ward/internal/trust/baseline"
)

// aspect spells one thing of an entry for people on a build host.
func aspect(e *baseline.Entry, what string) string {
	if s := told(e, what); s != "" {
		return s
	}
	switch what {
	case WhatSize:
		return fmt.Sprintf("%d bytes", e.Size)
	case WhatLink:
		return spell(e.Link)
	case WhatDevice:
		return fmt.Sprintf("%d:%d", e.Device.Major, e.Device.Minor)
	case WhatVerity:
		if e.Verity == [32]byte{} {
			return "none"
		}
		return fmt.Sprintf("verity:%x", e.Verity)
	case WhatFlags:
		return baseline.Escape(e.Flags.String())
	case WhatComponent:
		return baseline.Escape(e.Component)
	case WhatCapabilities:
		what = WhatXattr + baseline.Capability
	}
	value, there := e.Xattrs.Get(strings.TrimPrefix(what, WhatXattr))
	switch {
	case !there:
		return "none"
	case len(value) > maxValue:
		return value[:maxValue] + "..."
	}
	return value
}

// maxValue is how much of an attribute is shown, in hexadecimal digits.
const maxValue = 80

// String is one line for people.
func (d Difference) String() string {
	text := d.Kind.String() + " " + spell(d.Path) + ": "
	if d.Kind != Changed {
		return text + d.detail()
	}
	for i, what := range d.What {
		if i > 0 {
			text += ", "
		}
		text += what + " " + aspect(d.Want, what) + " -> " + aspect(d.Have, what)
	}
	if d.Component != "" {
		text += "; of " + d.Component
	}
	return text
}

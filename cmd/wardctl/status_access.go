package main

import (
	"io"
	"time"

	"ward/cmd/wardctl/console"
	"ward/internal/agent/localapi"
)

// printAccess tells who works on the device and what is plugged in that should not be.
func printAccess(w io.Writer, a localapi.Access, devices []localapi.Device) {
	left := func(seconds int64) time.Duration { return time.Duration(seconds) * time.Second }
	if s := a.Service; s.On {
		console.Row(w, "Service", "service mode is on by %s, %s left", s.By, left(s.LeftSeconds))
		if s.Reason != "" {
			console.Row(w, "", "%s", s.Reason)
		}
	}
	for _, l := range a.Leases {
		console.Row(w, "Therapy", "%s holds heavy work off for %s, %s left", l.Holder, left(l.HeldSeconds), left(l.LeftSeconds))
	}
	if a.Logins != "" {
		console.Row(w, "Logins", "seen by: %s", a.Logins)
		if a.Detail != "" {
			console.Row(w, "", "%s", a.Detail)
		}
	}
	for _, d := range devices {
		if !d.Expected {
			console.Row(w, "USB", "not expected: %s at port %s, class %s, vendor %s, product %s", console.OrNothing(d.Name), d.Port, d.Class, d.Vendor, d.Product)
		}
	}
}

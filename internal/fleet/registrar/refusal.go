package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"ward/internal/fleet/issue"
	"ward/internal/fleet/register"
	"ward/internal/trust/enrolment"
)

// Refusal is why a device gets nothing, and what it should do.
type Refusal struct {
	Status int           // of HTTP
	Kind   string        // by which it is counted
	Do     string        // what to do, for the device's record and for people
	Wait   time.Duration // before the next attempt; zero: it will not get better by itself
	Err    error         // why
}

func (r *Refusal) Error() string { return fmt.Sprintf("%v; %s", r.Err, r.Do) }

func (r *Refusal) Unwrap() error { return r.Err }

func refuse(status int, kind, do string, err error) *Refusal {
	return &Refusal{Status: status, Kind: kind, Do: do, Err: err}
}

// What a device or its people can do.
const (
	doReport   = "this is a defect of the program that asks: report it"
	doAgain    = "ask for a new challenge and enrol with it"
	doOperator = "an operator of the fleet must look: wardfleet devices list"
	doReplace  = "if the main board or its TPM was exchanged, an operator opens the device with 'wardfleet devices replace'"
	doMaker    = "the operator adds the TPM maker's certificates to the registrar, or the board is no genuine one"
	doLater    = "try again later"
	doEnrol    = "enrol anew with a challenge (simpleenroll)"
)

// ofRequest tells why a request or its TPM was refused.
func ofRequest(err error) *Refusal {
	for _, c := range []struct {
		err        error
		kind, what string
	}{
		{enrolment.ErrSerial, "serial", "the device's serial number is set at manufacture: wardctl identity show"},
		{enrolment.ErrEKMissing, "ek-missing", "the TPM's certificate is in its NV memory or comes from its maker: have it put there at manufacture"},
		{enrolment.ErrEKUntrusted, "unknown-maker", doMaker},
		{enrolment.ErrEKProfile, "ek-profile", doMaker},
		{enrolment.ErrAK, "ak", "provision the TPM's keys anew"},
		{enrolment.ErrKey, "key", "make the key anew beneath this TPM, with the attributes of its use"},
	} {
		if errors.Is(err, c.err) {
			return refuse(http.StatusForbidden, c.kind, c.what, err)
		}
	}
	return refuse(http.StatusBadRequest, "malformed", doReport, err)
}

// ofRegister tells why the register refused a device.
func ofRegister(err error) *Refusal {
	switch {
	case errors.Is(err, register.ErrRevoked):
		return refuse(http.StatusForbidden, "revoked", "this device gets nothing more from the fleet until an operator decides otherwise", err)
	case errors.Is(err, register.ErrOtherTPM):
		return refuse(http.StatusForbidden, "other-tpm", doReplace, err)
	case errors.Is(err, register.ErrOtherKey):
		return refuse(http.StatusForbidden, "other-ak", doReplace, err)
	case errors.Is(err, register.ErrTaken):
		return refuse(http.StatusForbidden, "taken", "one TPM is one device for ever: its serial number was set wrongly, or the board comes from another device", err)
	case errors.Is(err, register.ErrOften):
		f := refuse(http.StatusTooManyRequests, "often", "try again later; a device renews at two thirds of a certificate's time", err)
		f.Wait = 10 * time.Minute
		return f
	case errors.Is(err, register.ErrUnknown):
		return refuse(http.StatusForbidden, "certificate", doEnrol, err)
	}
	return ofFault(err)
}

// ofFault is what is no fault of the device; what it was is logged and not told.
func ofFault(err error) *Refusal {
	f := refuse(http.StatusServiceUnavailable, "fault", doLater, err)
	f.Wait = time.Minute
	if errors.Is(err, issue.ErrAway) {
		f.Kind = "away"
	}
	return f
}

// told is what the device reads.
func (r *Refusal) told() string {
	switch r.Kind {
	case "fault":
		return "the registrar has a fault, which its log names; " + r.Do
	case "away":
		return issue.ErrAway.Error() + "; " + r.Do
	}
	return r.Error()
}

// Event is something that happened at the registrar.
type Event struct {
	Kind     string     `json:"kind"` // "listening", "issued" or "refused"
	Time     time.Time  `json:"time"`
	Address  string     `json:"address,omitempty"` // that it listens at, or of who was refused
	Tenant   string     `json:"tenant,omitempty"`
	Device   string     `json:"device,omitempty"`
	Use      string     `json:"use,omitempty"`
	Act      string     `json:"act,omitempty"` // "enrol", "renew" or "answer"
	Serial   string     `json:"serial,omitempty"`
	NotAfter *time.Time `json:"notAfter,omitempty"`
	Status   int        `json:"status,omitempty"`
	Refusal  string     `json:"refusal,omitempty"` // kind of the refusal
	Reason   string     `json:"reason,omitempty"`
}

// Line is the event for people.
func (e Event) Line() string {
	switch e.Kind {
	case "listening":
		return "registrar listens at https://" + e.Address
	case "issued":
		return fmt.Sprintf("issued %s certificate %s to %s of %s (%s), good until %s", e.Use, e.Serial, e.Device, e.Tenant, e.Act, e.NotAfter.Format(time.RFC3339))
	}
	return fmt.Sprintf("refused %s: %s: %s", e.Address, e.Refusal, e.Reason)
}

// floodGap is the least wait between two lines of the log on what comes in floods.
const floodGap = 10 * time.Second

// refused counts a refusal and tells of it.
func (r *Registrar) refused(now time.Time, source, path string, f *Refusal) {
	switch f.Kind {
	case "rate", "busy":
		r.flooding(now, f.Kind, f.Err)
		return
	}
	r.count(f.Kind)
	level := slog.LevelWarn
	if f.Kind == "fault" {
		level = slog.LevelError
	}
	r.config.Log.Log(context.Background(), level, "refused", "kind", f.Kind, "status", f.Status, "source", source, "path", path, "reason", f.Err)
	r.config.Report(Event{Kind: "refused", Time: now.UTC(), Address: source, Status: f.Status, Refusal: f.Kind, Reason: oneLine(f.Error())})
}

// flooding counts a refusal that anybody can cause as often as he likes, and tells
// of it now and then.
func (r *Registrar) flooding(now time.Time, kind string, err error) {
	r.count(kind)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flood++
	if since := now.Sub(r.flooded); since >= 0 && since < floodGap {
		return
	}
	r.config.Log.Warn("refused", "kind", kind, "reason", err, "refusals", r.flood)
	r.flood, r.flooded = 0, now
}

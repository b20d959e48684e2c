package localapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Where service mode is switched and emergency access reported.
const (
	servicePath    = "/v1/service-mode"
	breakGlassPath = "/v1/break-glass"
)

// Access is who works on the device.
type Access struct {
	Logins  string      `json:"logins,omitempty"` // where logins are seen: audit, utmp, none
	Detail  string      `json:"detail,omitempty"` // what is missing there
	Service ServiceMode `json:"service"`
	Leases  []Lease     `json:"leases"` // of host applications: heavy work waits
}

// ServiceMode is the time in which a technician works on the device.
type ServiceMode struct {
	On          bool       `json:"on"`
	By          string     `json:"by,omitempty"`     // the role that switched it on: "root", "service"
	Reason      string     `json:"reason,omitempty"` // as given; it stays on the device
	Since       *time.Time `json:"since,omitempty"`  // wall clock, for people
	LeftSeconds int64      `json:"leftSeconds,omitempty"`
}

// Device is something that is plugged in.
type Device struct {
	Port     string `json:"port"`  // of the USB bus, "1-1:1.0"
	Class    string `json:"class"` // USB-IF class code, "08" is mass storage
	Vendor   string `json:"vendor,omitempty"`
	Product  string `json:"product,omitempty"`
	Name     string `json:"name,omitempty"` // as the device calls itself; it stays on the device
	Expected bool   `json:"expected"`       // the release allows it now
}

// ServiceModeRequest switches service mode. Off needs neither time nor reason.
type ServiceModeRequest struct {
	On      bool   `json:"on"`
	Minutes int    `json:"minutes,omitempty"` // 1 to 480
	Reason  string `json:"reason,omitempty"`
}

// SwitchServiceMode is the action that switches service mode: for readers, the
// technician is one of them. It is done for a role.
func SwitchServiceMode(do func(ctx context.Context, by string, want ServiceModeRequest) (ServiceMode, error)) Action {
	return Action{Pattern: "POST " + servicePath, Who: Readers, Do: func(ctx context.Context, r Request) (any, error) {
		var in ServiceModeRequest
		if err := json.Unmarshal(r.Body, &in); err != nil {
			return nil, Refuse(http.StatusBadRequest, `want {"on":true,"minutes":60,"reason":"…"} or {"on":false}`)
		}
		return do(ctx, r.Role, in)
	}}
}

// BreakGlass is an emergency access. Role and Why go to the fleet and name no person;
// Person stays on the device.
type BreakGlass struct {
	Role   string `json:"role"`
	Why    string `json:"why"`
	Person string `json:"person,omitempty"`
}

// BreakGlassAnswer says under which id it is recorded. There is always one.
type BreakGlassAnswer struct {
	ID       string `json:"id"`
	Recorded bool   `json:"recorded"`
	Detail   string `json:"detail,omitempty"` // what is wrong with that, or with the request
}

// BreakGlassNote is an access as it is kept on the device.
type BreakGlassNote struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	By   string    `json:"by"`
	BreakGlass
}

// BreakGlassNotes are those that are kept, oldest first.
type BreakGlassNotes struct {
	Notes []BreakGlassNote `json:"notes"`
}

// ReportBreakGlass is the action that records an emergency access: for readers, and
// whatever the request says.
func ReportBreakGlass(report func(ctx context.Context, by string, body []byte) BreakGlassAnswer) Action {
	return Action{Pattern: "POST " + breakGlassPath, Who: Readers, Always: true, Do: func(ctx context.Context, r Request) (any, error) {
		return report(ctx, r.Role, r.Body), nil
	}}
}

// ListBreakGlass is the action that tells who was let in, by name: root alone.
func ListBreakGlass(list func() ([]BreakGlassNote, error)) Action {
	return Action{Pattern: "GET " + breakGlassPath, Who: Root, Do: func(context.Context, Request) (any, error) {
		notes, err := list()
		return BreakGlassNotes{notes}, err
	}}
}

// SwitchServiceMode switches service mode and says how it is now. A *Refusal says why
// not.
func (c *Client) SwitchServiceMode(ctx context.Context, want ServiceModeRequest) (ServiceMode, error) {
	var s ServiceMode
	return s, c.Do(ctx, servicePath, want, &s)
}

// ReportBreakGlass has an emergency access recorded.
func (c *Client) ReportBreakGlass(ctx context.Context, b BreakGlass) (BreakGlassAnswer, error) {
	var a BreakGlassAnswer
	return a, c.Do(ctx, breakGlassPath, b, &a)
}

// BreakGlassNotes lists who was let in, for root alone.
func (c *Client) BreakGlassNotes(ctx context.Context) ([]BreakGlassNote, error) {
	var n BreakGlassNotes
	err := c.get(ctx, breakGlassPath, nil, &n)
	return n.Notes, err
}

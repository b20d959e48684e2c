package localapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// scanPath is where the scan of the files is asked for, and asked about.
const scanPath = "/v1/scan"

// Scan is how the comparison of all files with the release stands.
type Scan struct {
	State   string `json:"state"` // waiting, scanning, paused (a therapy lease is held), no-baseline
	Detail  string `json:"detail,omitempty"`
	Reason  string `json:"reason,omitempty"` // of the scan that runs
	Full    bool   `json:"full,omitempty"`
	Percent int    `json:"percent"`
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"`
	Where   string `json:"where,omitempty"` // folder of the release in which it is
	// NextSeconds is the time until the next scan begins, while none runs.
	NextSeconds int64 `json:"nextSeconds,omitempty"`
	Ended       int   `json:"ended"`     // scans that ended since the daemon's start
	Coming      int   `json:"coming"`    // the number that Ended has when what was asked for by now is done
	Overdue     bool  `json:"overdue"`   // none has come to its end for longer than the release allows
	LateHours   int64 `json:"lateHours"` // hours of running since one has
	// Last is the report of the scan that ended last, as the event ward.integrity.scan
	// has it; absent: none did since the daemon's start.
	Last   json.RawMessage `json:"last,omitempty"`
	LastAt *time.Time      `json:"lastAt,omitempty"`
}

// scanRequest asks for a scan.
type scanRequest struct {
	Full bool `json:"full"`
}

// ScanFiles are the actions that have all files compared with the release, and say
// how that stands. Readers may: the technician at the bedside is one, and it costs
// therapy nothing.
func ScanFiles(ask func(full bool), status func() Scan) []Action {
	return []Action{
		{Pattern: "GET " + scanPath, Who: Readers, Do: func(context.Context, Request) (any, error) { return status(), nil }},
		{Pattern: "POST " + scanPath, Who: Readers, Do: func(_ context.Context, r Request) (any, error) {
			var in scanRequest
			if err := json.Unmarshal(r.Body, &in); err != nil {
				return nil, Refuse(http.StatusBadRequest, `want {"full":false}`)
			}
			if s := status(); s.State == "no-baseline" {
				return nil, Refuse(http.StatusConflict, "no scan can be made: %s", s.Detail)
			}
			ask(in.Full)
			return status(), nil
		}},
	}
}

// Scan says how the scan of the files stands.
func (c *Client) Scan(ctx context.Context) (Scan, error) {
	var s Scan
	return s, c.get(ctx, scanPath, nil, &s)
}

// AskScan has all files compared with the release; a full scan reads the content of
// files, too, for which the kernel vouches. A *Refusal of status 409 says why none
// can be made.
func (c *Client) AskScan(ctx context.Context, full bool) (Scan, error) {
	var s Scan
	return s, c.Do(ctx, scanPath, scanRequest{full}, &s)
}

package localapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/localapi"
)

// leases note what they are asked for.
type leases struct {
	asked []string
	err   error
}

func (l *leases) Take(uid uint32, by, holder string, d time.Duration) (time.Duration, error) {
	l.asked = append(l.asked, fmt.Sprint("take ", uid, " ", by, " ", holder, " ", d))
	return min(d, time.Hour), l.err
}

func (l *leases) End(uid uint32, by, holder string) error {
	l.asked = append(l.asked, fmt.Sprint("end ", uid, " ", by, " ", holder))
	return l.err
}

// accessActions are those of the bedside, with what the daemon does replaced by notes.
func accessActions(l *leases, glass *[]string) []localapi.Action {
	refuse := func(err error) error {
		if err != nil {
			return localapi.Refuse(http.StatusConflict, "%v", err)
		}
		return nil
	}
	return append(localapi.KeepLeases(l, refuse),
		localapi.SwitchServiceMode(func(_ context.Context, by string, want localapi.ServiceModeRequest) (localapi.ServiceMode, error) {
			return localapi.ServiceMode{On: want.On, By: by, Reason: want.Reason, LeftSeconds: int64(want.Minutes) * 60}, nil
		}),
		localapi.ReportBreakGlass(func(_ context.Context, by string, body []byte) localapi.BreakGlassAnswer {
			*glass = append(*glass, by+" "+string(body[:min(len(body), 40)]))
			return localapi.BreakGlassAnswer{ID: "0123456789ab", Recorded: true}
		}),
		localapi.ListBreakGlass(func() ([]localapi.BreakGlassNote, error) {
			return []localapi.BreakGlassNote{{ID: "0123456789ab", BreakGlass: localapi.BreakGlass{Person: "Anna Petersen"}}}, nil
		}))
}

// Verifies: SR-104
func TestTheClientAtTheBedside(t *testing.T) {
	l, glass := &leases{}, []string{}
	c := localapi.NewClient(serveActions(t, &journal{n: 1}, accessActions(l, &glass)))
	if d, err := c.TakeLease(t.Context(), "pump-ui", 2*time.Hour); err != nil || d != time.Hour {
		t.Errorf("granted %s, error %v", d, err)
	}
	if err := c.EndLease(t.Context(), "pump-ui"); err != nil {
		t.Error(err)
	}
	l.err = errors.New("another user holds it")
	var r *localapi.Refusal
	if _, err := c.TakeLease(t.Context(), "pump-ui", time.Hour); !errors.As(err, &r) || r.Status != http.StatusConflict || r.Reason != "another user holds it" {
		t.Errorf("refused with %v", err)
	}
	if s, err := c.SwitchServiceMode(t.Context(), localapi.ServiceModeRequest{On: true, Minutes: 5, Reason: "pump"}); err != nil || !s.On || s.LeftSeconds != 300 || s.Reason != "pump" {
		t.Errorf("service mode %+v, error %v", s, err)
	}
	if a, err := c.ReportBreakGlass(t.Context(), localapi.BreakGlass{Role: "nurse", Why: "asystole"}); err != nil || !a.Recorded || a.ID == "" {
		t.Errorf("answer %+v, error %v", a, err)
	}
	who := fmt.Sprintf("%d ", os.Getuid())
	if got := strings.Join(l.asked, "; "); !strings.HasPrefix(got, "take "+who) || !strings.HasSuffix(got, "pump-ui 1h0m0s") || strings.Count(got, "; ") != 2 {
		t.Errorf("asked %s", got)
	}
	if len(glass) != 1 || !strings.HasSuffix(glass[0], `{"role":"nurse","why":"asystole"}`) {
		t.Errorf("reported %q", glass)
	}
}

// Who may do what: readers, the technician and the host application, work the bedside's
// actions; who was let in by name is told to root alone.
//
// Verifies: SR-016, SR-104
func TestWhoMayAtTheBedside(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can ask as somebody else")
	}
	const reader = 54321
	l, glass := &leases{}, []string{}
	socket := serveActions(t, &journal{n: 1}, accessActions(l, &glass), reader)
	for _, row := range []struct {
		request  string
		uid, gid int
		want     string
	}{
		{"POST /v1/break-glass", 65534, reader, "200"},
		{"POST /v1/break-glass", 65534, 65534, "403"},
		{"GET /v1/break-glass", 65534, reader, "403"},
		{"GET /v1/break-glass", 0, 0, "200"},
		{"POST /v1/service-mode", 65534, reader, "400"}, // an empty request
		{"POST /v1/service-mode", 65534, 65534, "403"},
		{"POST /v1/lease", 65534, reader, "400"},
		{"POST /v1/lease", 65534, 65534, "403"},
		{"DELETE /v1/lease?holder=x", 65534, reader, "200"},
		{"DELETE /v1/lease?holder=x", 65534, 65534, "403"},
		{"GET /v1/lease", 0, 0, "405"},
	} {
		if err := os.Chmod(socket, 0o666); err != nil { // so that the credentials decide
			t.Fatal(err)
		}
		answer, err := askAs(row.uid, row.gid, nil, socket, row.request)
		if got := fmt.Sprint(answer, err); !strings.Contains(got, row.want) {
			t.Errorf("%s as user %d, group %d: got %q, want %s", row.request, row.uid, row.gid, got, row.want)
		}
	}
	if got := fmt.Sprint(l.asked); got != "[end 65534 service x]" {
		t.Errorf("asked %s", got)
	}
}

package localapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"ward/internal/agent/localapi"
	"ward/internal/trust/event"
)

// signers is the group whose members may use the device's keys.
const signers = 54322

// count counts how often an action was done.
func count(done *atomic.Int32, pattern string, who localapi.Who) localapi.Action {
	return localapi.Action{Pattern: pattern, Who: who, Do: func(_ context.Context, r localapi.Request) (any, error) {
		done.Add(1)
		return map[string]any{"from": r.From, "body": string(r.Body)}, nil
	}}
}

func TestAnActionAnswers(t *testing.T) {
	var done atomic.Int32
	c := localapi.NewClient(serveActions(t, &journal{n: 3}, []localapi.Action{
		count(&done, "POST /v1/do", localapi.Readers),
		{Pattern: "POST /v1/not-now", Who: localapi.Readers, Do: func(context.Context, localapi.Request) (any, error) {
			return nil, fmt.Errorf("do it: %w", localapi.Refuse(http.StatusConflict, "after %d o'clock", 8))
		}},
		{Pattern: "POST /v1/broken", Who: localapi.Readers, Do: func(context.Context, localapi.Request) (any, error) {
			return nil, errors.New("the disk is full")
		}},
	}))
	var got struct{ From, Body string }
	if err := c.Do(t.Context(), "/v1/do", map[string]int{"n": 1}, &got); err != nil || got.Body != `{"n":1}` {
		t.Errorf("answer %+v, error %v", got, err)
	}
	if want := fmt.Sprintf("uid %d, pid %d", os.Getuid(), os.Getpid()); got.From != want {
		t.Errorf("the asker is %q, want %q", got.From, want)
	}
	for _, row := range []struct {
		path string
		in   any
		want localapi.Refusal
	}{
		{"/v1/not-now", nil, localapi.Refusal{Status: http.StatusConflict, Reason: "do it: after 8 o'clock"}},
		{"/v1/broken", nil, localapi.Refusal{Status: http.StatusInternalServerError, Reason: "the disk is full"}},
		{"/v1/nothing", nil, localapi.Refusal{Status: http.StatusNotFound, Reason: "404 Not Found"}},
		{"/v1/do", strings.Repeat("x", 65<<10), localapi.Refusal{Status: http.StatusRequestEntityTooLarge, Reason: "read request: http: request body too large"}},
	} {
		err := c.Do(t.Context(), row.path, row.in, nil)
		var r *localapi.Refusal
		if !errors.As(err, &r) || *r != row.want {
			t.Errorf("%s: %v, want %+v", row.path, err, row.want)
		}
	}
	if n := done.Load(); n != 1 {
		t.Errorf("done %d times, want once", n)
	}
}

// An action for root is done for nobody else, whatever circle may read.
//
// Verifies: SR-016, SR-046
func TestWhoMayAct(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can ask as somebody else")
	}
	const reader = 54321
	var root, readers, signed atomic.Int32
	socket := serveActions(t, &journal{n: 3}, []localapi.Action{
		count(&root, "POST /v1/root", localapi.Root), count(&readers, "POST /v1/readers", localapi.Readers),
		count(&signed, "POST /v1/sign", localapi.Signers),
		{Pattern: "POST /v1/role", Who: localapi.Readers, Do: func(_ context.Context, r localapi.Request) (any, error) {
			switch r.Role {
			case event.ByRoot:
				return r.Role, nil
			case event.ByService:
				return nil, localapi.Refuse(http.StatusConflict, "service")
			}
			return nil, errors.New("no role")
		}},
	}, reader)
	for _, row := range []struct {
		name, request string
		uid, gid      int
		groups        []uint32
		want          string
	}{
		{"root", "POST /v1/root", 0, 0, nil, "200"},
		{"root reads by no side effect", "GET /v1/root", 0, 0, nil, "405"},
		{"a reader asks for what is root's", "POST /v1/root", 65534, reader, nil, "403"},
		{"a reader", "POST /v1/readers", 65534, reader, nil, "200"},
		{"a reader's role is service", "POST /v1/role", 65534, reader, nil, "409"},
		{"root's role is root", "POST /v1/role", 0, 0, nil, "200"},
		{"a reader asks for a signature", "POST /v1/sign", 65534, reader, nil, "403"},
		{"a reader who may sign", "POST /v1/sign", 65534, reader, []uint32{signers}, "200"},
		{"who may sign and not read", "POST /v1/sign", 65534, signers, nil, "403"},
		{"root signs", "POST /v1/sign", 0, 0, nil, "200"},
		{"a stranger", "POST /v1/readers", 65534, 65534, nil, "403"},
	} {
		if err := os.Chmod(socket, 0o666); err != nil { // so that the credentials decide
			t.Fatal(err)
		}
		answer, err := askAs(row.uid, row.gid, row.groups, socket, row.request)
		if got := fmt.Sprint(answer, err); !strings.Contains(got, row.want) {
			t.Errorf("%s: got %q, want %s", row.name, got, row.want)
		}
	}
	if root.Load() != 1 || readers.Load() != 1 {
		t.Errorf("done %d and %d times, want once each", root.Load(), readers.Load())
	}
}

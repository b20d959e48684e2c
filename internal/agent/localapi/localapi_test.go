package localapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/agent/localapi"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// journal has n records; every third lost its content.
type journal struct{ n int }

func bytesOf(n uint64) []byte {
	f := finding.New(finding.IMAUnknownFile, fmt.Sprintf("event %d <&>", n))
	b, err := event.Encode(event.Event{Type: event.FindingIncident, Severity: f.Severity, Finding: &f},
		event.Stamp{Source: event.Source{Tenant: "lab", Device: "pump-1"}, Epoch: 1, Sequence: n, Boot: "b"})
	if err != nil {
		panic(err)
	}
	return b
}

func (j *journal) Read(_ context.Context, after uint64, limit int) ([]event.Record, error) {
	var out []event.Record
	for n := after + 1; n <= uint64(j.n) && len(out) < limit; n++ {
		r := event.Record{Epoch: 1, Sequence: n, Bytes: bytesOf(n)}
		if n%3 == 0 {
			r.Bytes = nil
		}
		out = append(out, r)
	}
	return out, nil
}

func (j *journal) Wait(ctx context.Context, after uint64) error {
	if uint64(j.n) > after {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

// serve starts a server and returns its socket once it answers.
func serve(t *testing.T, j localapi.Reader, readers ...uint32) string {
	t.Helper()
	return serveActions(t, j, nil, readers...)
}

func serveActions(t *testing.T, j localapi.Reader, actions []localapi.Action, readers ...uint32) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ward") // the path of a socket is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	s := localapi.New(localapi.Config{Socket: socket, Readers: readers, Signers: []uint32{signers}, Journal: j, Actions: actions, Status: func() localapi.Status {
		return localapi.Status{Device: "pump-1", Verdict: localapi.Verdict{Tier: "affirming"}}
	}})
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	for range 200 {
		if info, err := os.Stat(socket); err == nil && info.Mode().Perm() == 0o660 {
			return socket
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("no socket with mode 0660 came up")
	return ""
}

// Verifies: SR-018
func TestStatusAndEvents(t *testing.T) {
	c := localapi.NewClient(serve(t, &journal{n: 100}))
	s, err := c.Status(t.Context())
	if err != nil || s.Device != "pump-1" || s.Verdict.Tier != "affirming" {
		t.Errorf("status %+v, error %v", s, err)
	}
	e, err := c.Events(t.Context(), 4, 5, 0)
	if err != nil || e.Next != 9 || len(e.Events) != 3 {
		t.Fatalf("events %s, next %d, error %v: want 5, 7 and 8 of five records", e.Events, e.Next, err)
	}
	if want := bytesOf(5); !bytes.Equal(e.Events[0], want) {
		t.Errorf("an event came as\n%s, recorded is\n%s", e.Events[0], want)
	}
	if e, err = c.Events(t.Context(), 100, 5, 0); err != nil || e.Next != 100 || len(e.Events) != 0 {
		t.Errorf("behind the newest: %+v, error %v", e, err)
	}
	if e, err = c.Events(t.Context(), 0, 1<<40, 0); err != nil || e.Next != 100 {
		t.Errorf("without a limit worth the name: next %d, error %v", e.Next, err)
	}
}

// big has records of the largest size.
type big struct{ journal }

func (b *big) Read(ctx context.Context, after uint64, limit int) ([]event.Record, error) {
	rs, err := b.journal.Read(ctx, after, limit)
	for i := range rs {
		rs[i].Bytes = []byte(`"` + strings.Repeat("x", event.MaxSize) + `"`)
	}
	return rs, err
}

func TestAnAnswerIsBounded(t *testing.T) {
	c := localapi.NewClient(serve(t, &big{journal{n: 1000}}))
	e, err := c.Events(t.Context(), 0, 1000, 0)
	if err != nil || len(e.Events) == 0 || len(e.Events) > 64 || e.Next != uint64(len(e.Events)) {
		t.Errorf("%d events of 64 KiB in an answer, next %d, error %v", len(e.Events), e.Next, err)
	}
}

func TestWaitEndsWithAnEmptyAnswer(t *testing.T) {
	t.Parallel()
	c := localapi.NewClient(serve(t, &journal{n: 3}))
	begun := time.Now()
	e, err := c.Events(t.Context(), 3, 5, 6*time.Second) // longer than any header may take
	if err != nil || e.Next != 3 {
		t.Errorf("events %+v, error %v", e, err)
	}
	if waited := time.Since(begun); waited < 5*time.Second {
		t.Errorf("the answer came after %s, want 6 s", waited)
	}
}

func TestNoDaemon(t *testing.T) {
	c := localapi.NewClient(filepath.Join(t.TempDir(), "s"))
	if _, err := c.Status(t.Context()); !errors.Is(err, localapi.ErrDown) {
		t.Errorf("no socket gives %v", err)
	}
	stale := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := localapi.NewClient(stale).Status(t.Context()); !errors.Is(err, localapi.ErrDown) {
		t.Errorf("the socket of a dead daemon gives %v", err)
	}
}

func TestBadRequests(t *testing.T) {
	socket := serve(t, &journal{n: 3})
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	for _, row := range []struct {
		method, path string
		header       int
		want         int
	}{
		{"GET", "/v1/events?after=-1", 0, http.StatusBadRequest},
		{"GET", "/v1/events?limit=many", 0, http.StatusBadRequest},
		{"GET", "/v1/nothing", 0, http.StatusNotFound},
		{"POST", "/v1/status", 0, http.StatusMethodNotAllowed},
		{"DELETE", "/v1/events", 0, http.StatusMethodNotAllowed},
		{"GET", "/v1/status", 64 << 10, http.StatusRequestHeaderFieldsTooLarge},
	} {
		req, err := http.NewRequestWithContext(t.Context(), row.method, "http://wardd"+row.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if row.header > 0 {
			req.Header.Set("X-Pad", strings.Repeat("x", row.header))
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != row.want {
			t.Errorf("%s %s gives %d, want %d", row.method, row.path, resp.StatusCode, row.want)
		}
	}
}

// Verifies: SR-016
func TestWhoMayAsk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can ask as somebody else")
	}
	const reader = 54321
	socket := serve(t, &journal{n: 3}, reader)
	for _, row := range []struct {
		name     string
		uid, gid int
		groups   []uint32
		open     bool // everybody may connect, so that the credentials decide
		want     string
	}{
		{"root", 0, 0, nil, false, "200"},
		{"a member by the first group", 65534, reader, nil, false, "200"},
		{"a member by another group", 65534, 65534, []uint32{7, reader}, false, "200"},
		{"a stranger at the socket", 65534, 65534, []uint32{7}, false, "permission denied"},
		{"a stranger who got through", 65534, 65534, []uint32{7}, true, "403"},
	} {
		t.Run(row.name, func(t *testing.T) {
			mode := os.FileMode(0o660)
			if row.open {
				mode = 0o666
			}
			if err := os.Chmod(socket, mode); err != nil {
				t.Fatal(err)
			}
			answer, err := askAs(row.uid, row.gid, row.groups, socket, "GET /v1/status")
			if got := fmt.Sprint(answer, err); !strings.Contains(got, row.want) {
				t.Errorf("got %q, want %s", got, row.want)
			}
		})
	}
}

// askAs sends a request with other credentials: those of one thread, which
// ends with the goroutine.
func askAs(uid, gid int, groups []uint32, socket, request string) (string, error) {
	type result struct {
		fd  int
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- func() result {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return result{err: err}
			}
			if err := become(uid, gid, groups); err != nil {
				return result{err: err}
			}
			return result{fd, unix.Connect(fd, &unix.SockaddrUnix{Name: socket})}
		}()
	}()
	r := <-done
	if r.err != nil {
		return "", r.err
	}
	f := os.NewFile(uintptr(r.fd), "socket")
	defer f.Close()
	if _, err := io.WriteString(f, request+" HTTP/1.1\r\nHost: wardd\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(f)
	status, body, _ := strings.Cut(string(b), "\r\n\r\n")
	if strings.Contains(status, " 403 ") {
		var refusal struct{ Error string }
		if err := json.Unmarshal([]byte(body), &refusal); err != nil || refusal.Error == "" || strings.Contains(refusal.Error, "\n") {
			return "", fmt.Errorf("refused with %q, which is not one line", body)
		}
	}
	return strings.SplitN(status, "\r\n", 2)[0], err
}

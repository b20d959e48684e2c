package localapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// maxBody bounds what an asker sends, in bytes: a few names, a digest, a
// certificate chain.
const maxBody = 64 << 10

// Who may ask for an action, as the kernel knows the asker (SO_PEERCRED).
type Who int

const (
	// Root alone.
	Root Who = iota
	// Readers: who may read Ward's state: root, the daemon's own user, members of
	// Config.Readers.
	Readers
	// Signers: root, the daemon's own user, and members of Config.Signers. They
	// must be readers too: others cannot open the socket.
	Signers
)

// Action is something that the daemon does because somebody on the device asks
// for it. The daemon wires one for each route.
type Action struct {
	Pattern string // method and path as net/http takes them, "POST /v1/update/confirm"
	Who     Who
	// Always has an action done whatever the body is: one that is too large or breaks
	// off is cut.
	Always bool
	// Do does it and gives the answer, which is sent as JSON. The error is sent
	// as one line; a *Refusal says with which status, any other is the daemon's
	// own failure (500). ctx ends after 30 seconds.
	Do func(ctx context.Context, r Request) (any, error)
}

// Request is what an asker wants.
type Request struct {
	From  string // the asker, "uid 0, pid 17"
	Role  string // the asker as events name people: event.ByRoot, event.ByService
	UID   uint32 // the asker's user
	Query url.Values
	Body  []byte // at most 64 KiB
}

// Refusal is an action that was not done, for a reason that the asker should
// read. The client gives one back for every answer that is not 200.
type Refusal struct {
	Status int // of HTTP: 400 the request is wrong, 403 not for this asker, 409 not now
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }

// Refuse makes the error of an action that is not done.
func Refuse(status int, format string, a ...any) error {
	return &Refusal{Status: status, Reason: fmt.Sprintf(format, a...)}
}

// register puts the actions beside what is read. An action without a way to do
// it, or twice, is a mistake in the program.
func (s *Server) register(mux *http.ServeMux) {
	for _, a := range s.c.Actions {
		mux.Handle(a.Pattern, s.action(a))
	}
}

func (s *Server) action(a Action) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := r.Context().Value(credKey{}).(*peer) // the guard has seen it
		if a.Who == Root && p.uid != 0 {
			s.c.Log.Info("local action refused", "peer", p.String(), "path", r.URL.Path)
			refuse(w, http.StatusForbidden, "not allowed for "+p.String()+": ask as root")
			return
		}
		if a.Who == Signers && !p.mayRead(s.c.Signers) {
			s.c.Log.Info("local action refused", "peer", p.String(), "path", r.URL.Path)
			refuse(w, http.StatusForbidden, "not allowed for "+p.String()+": ask as root or as a member of the group that may use the device's keys")
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil && !a.Always {
			status := http.StatusBadRequest
			if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
				status = http.StatusRequestEntityTooLarge
			}
			refuse(w, status, "read request: "+err.Error())
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), longestWait)
		defer cancel()
		out, err := a.Do(ctx, Request{From: p.String(), Role: p.role(), UID: p.uid, Query: r.URL.Query(), Body: body})
		if err == nil {
			answer(w, out)
			return
		}
		status := http.StatusInternalServerError
		if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
			status = refusal.Status
		}
		s.c.Log.Info("local action failed", "peer", p.String(), "path", r.URL.Path, "error", err)
		refuse(w, status, err.Error())
	})
}

// Do asks for an action with method POST; in is sent as JSON, nil is an empty
// body. No daemon gives ErrDown, an answer that is not 200 a *Refusal.
func (c *Client) Do(ctx context.Context, path string, in, into any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("ask wardd: %w", err)
		}
	}
	return c.ask(ctx, http.MethodPost, path, nil, bytes.NewReader(body), into)
}

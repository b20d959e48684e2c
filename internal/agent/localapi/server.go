// Package localapi is the daemon's window for people and programs on the same
// device: JSON over HTTP on a UNIX socket (unix(7)). Who asks is known from the
// kernel (SO_PEERCRED), never from what the asker says. What is read changes
// nothing; what changes something is an Action, each with its own circle of
// those who may ask.
package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"ward/internal/trust/event"
)

// Bounds of a request.
const (
	maxEvents   = 1000
	maxPage     = 1 << 20 // bytes of events behind which an answer takes no more
	readBatch   = 32
	maxHeader   = 4 << 10
	longestWait = 30 * time.Second
	maxConns    = 16
)

// Reader reads the journal by cursor.
type Reader interface {
	Read(ctx context.Context, after uint64, limit int) ([]event.Record, error)
	Wait(ctx context.Context, after uint64) error
}

// Config of the local API.
type Config struct {
	Socket  string
	Readers []uint32 // group ids whose members may read, beside root and the daemon's own user
	Signers []uint32 // group ids whose members may use the device's keys
	Status  func() Status
	Journal Reader
	Actions []Action
	Alive   func()
	Log     *slog.Logger
}

// Server answers on the socket.
type Server struct{ c Config }

// New makes the server; Run opens the socket.
func New(c Config) *Server {
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{c: c}
}

type credKey struct{}

// Run answers until ctx ends. A socket that a dead daemon left is replaced.
func (s *Server) Run(ctx context.Context) error {
	if err := os.Remove(s.c.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.c.Socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("open local socket: %w", err)
	}
	if err := s.admit(); err != nil {
		return errors.Join(fmt.Errorf("open local socket: %w", err), l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/events", s.events)
	s.register(mux)
	web := &http.Server{
		Handler: s.guard(mux), ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout: longestWait + 10*time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			p, err := peerOf(c)
			if err != nil {
				s.c.Log.Warn("read peer credentials", "error", err)
			}
			return context.WithValue(ctx, credKey{}, p)
		},
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(&limited{UnixListener: l, slots: make(chan struct{}, maxConns)}) }()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		s.c.Alive()
		select {
		case <-ctx.Done():
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if web.Shutdown(stop) != nil {
				_ = web.Close()
			}
			return nil
		case err := <-ended:
			return fmt.Errorf("serve local socket: %w", err)
		case <-tick.C:
		}
	}
}

// admit gives the socket to the first group that may read: who is neither root
// nor of the daemon's user or that group cannot even connect.
func (s *Server) admit() error {
	if len(s.c.Readers) > 0 {
		if err := os.Chown(s.c.Socket, -1, int(s.c.Readers[0])); err != nil {
			s.c.Log.Warn("give the local socket to the group that may read", "gid", s.c.Readers[0], "error", err)
		}
	}
	return os.Chmod(s.c.Socket, 0o660)
}

// guard lets root, the daemon's own user and members of the reading groups in.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := r.Context().Value(credKey{}).(*peer)
		if p == nil || !p.mayRead(s.c.Readers) {
			who := "unknown"
			if p != nil {
				who = p.String()
			}
			s.c.Log.Info("local request refused", "peer", who, "path", r.URL.Path)
			refuse(w, http.StatusForbidden, "not allowed for "+who+": ask as root or as a member of the group that reads Ward's state")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) { answer(w, s.c.Status()) }

// events gives records behind ?after=, at most ?limit=; with ?wait=seconds it
// waits for the first. Records whose content was shed are passed over.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after, err1 := number(q.Get("after"), 0)
	limit, err2 := number(q.Get("limit"), 100)
	wait, err3 := number(q.Get("wait"), 0)
	if err := errors.Join(err1, err2, err3); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if wait > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), min(time.Duration(wait)*time.Second, longestWait))
		defer cancel()
		if s.c.Journal.Wait(ctx, after) != nil && r.Context().Err() != nil {
			return // the asker has gone, or the daemon stops
		}
	}
	out, err := s.page(r.Context(), after, int(min(limit, maxEvents)))
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	answer(w, out)
}

// page reads records until there are limit of them, maxPage bytes, or no more.
func (s *Server) page(ctx context.Context, after uint64, limit int) (Events, error) {
	out := Events{Events: []json.RawMessage{}, Next: after}
	for seen, size := 0, 0; seen < limit && size < maxPage; {
		records, err := s.c.Journal.Read(ctx, out.Next, min(limit-seen, readBatch))
		if err != nil {
			return Events{}, err
		}
		if len(records) == 0 {
			break
		}
		for _, rec := range records {
			out.Next = rec.Sequence
			seen++
			if rec.Bytes != nil {
				out.Events = append(out.Events, rec.Bytes)
				size += len(rec.Bytes)
			}
		}
	}
	return out, nil
}

func number(s string, def uint64) (uint64, error) {
	if s == "" {
		return def, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("parse number %.40q: want digits", s)
	}
	return n, nil
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the asker has gone
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": why})
}

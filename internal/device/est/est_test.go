package est_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ward/internal/device/est"
	body "ward/internal/format/est"
	"ward/internal/trust/finding"
	"ward/internal/trust/serverauth"
	"ward/internal/trust/serverauth/serverauthtest"
)

const host = "registrar.example"

// serve runs a registrar with a handler and gives a client for it.
func serve(t *testing.T, h http.HandlerFunc) (*est.Client, *serverauthtest.World) {
	t.Helper()
	w := serverauthtest.NewWorld(t, host, time.Now())
	return client(t, start(t, w.Accepted, h), w), w
}

func start(t *testing.T, config *tls.Config, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = config.Clone()
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.CloseClientConnections)
	t.Cleanup(s.Close)
	return s.URL
}

func client(t *testing.T, url string, w *serverauthtest.World) *est.Client {
	t.Helper()
	c, err := est.New(url, w.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func answer(kind string, b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(b)
	}
}

// Verifies: SR-043
func TestCertificates(t *testing.T) {
	fleet := serverauthtest.NewAuthority(t, "fleet", time.Now())
	der, err := body.EncodeCerts([][]byte{fleet.Cert.Raw})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		got = append(got, fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.Header.Get("Content-Type"), " ", user, " ", password, " ", r.ContentLength))
		answer(body.TypeCerts, body.EncodeBody(der))(w, r)
	})
	if certs, err := c.CACerts(t.Context()); err != nil || len(certs) != 1 || !certs[0].Equal(fleet.Cert) {
		t.Errorf("cacerts: %v, %v", certs, err)
	}
	if certs, err := c.Enroll(t.Context(), []byte{1, 2, 3}, "abc", []byte{0xca, 0xfe}); err != nil || len(certs) != 1 {
		t.Errorf("simpleenroll: %v, %v", certs, err)
	}
	if certs, err := c.Reenroll(t.Context(), []byte{1, 2, 3}, "", nil); err != nil || len(certs) != 1 {
		t.Errorf("simplereenroll: %v, %v", certs, err)
	}
	want := []string{
		"GET /.well-known/est/cacerts    0",
		"POST /.well-known/est/simpleenroll application/pkcs10 abc cafe 5",
		"POST /.well-known/est/simplereenroll application/pkcs10   5",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("asked\n%q, want\n%q", got, want)
	}
}

func TestCRL(t *testing.T) {
	fleet := serverauthtest.NewAuthority(t, "fleet", time.Now())
	der := fleet.CRL(t, 1, time.Now())
	c, _ := serve(t, answer(body.TypeCRL, der))
	if b, err := c.CRL(t.Context()); err != nil || string(b) != string(der) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// A registrar may send what it likes: the client ends with an error, in bounded
// memory and time.
//
// Verifies: SR-043
func TestHostileRegistrar(t *testing.T) {
	endless := func(kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			chunk := []byte(strings.Repeat("A", 64<<10))
			for r.Context().Err() == nil {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}
	}
	for _, row := range []struct {
		name string
		h    http.HandlerFunc
		says string
	}{
		{"endless body", endless(body.TypeCerts), "more than"},
		{"says 100 MiB", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", body.TypeCerts)
			w.Header().Set("Content-Length", "104857600")
			w.WriteHeader(http.StatusOK)
		}, "104857600 bytes"},
		{"wrong type", answer("text/html", []byte("<html>")), "text/html"},
		{"no type", func(w http.ResponseWriter, _ *http.Request) { w.Header()["Content-Type"] = nil }, "its type is"},
		{"not base64", answer(body.TypeCerts, []byte("&&&")), "base64"},
		{"not certificates", answer(body.TypeCerts, []byte(base64.StdEncoding.EncodeToString([]byte("hello")))), "parse certificates"},
		{"empty", answer(body.TypeCerts, nil), "empty"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/elsewhere" {
				http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
				return
			}
			t.Error("the redirect was followed")
		}, "307"},
		{"endless headers", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 1000 {
				w.Header().Add(fmt.Sprintf("X-%d", i), strings.Repeat("x", 100))
			}
		}, "ask registrar"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "ask registrar"},
		{"compressed", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("compression was asked for: a bomb would pass the bound")
			}
			answer(body.TypeCerts, nil)(w, r)
		}, "empty"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, _ := serve(t, row.h)
			certs, err := c.CACerts(t.Context())
			if err == nil || certs != nil || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, %v; want an error that says %q", certs, err, row.says)
			}
		})
	}
}

// A registrar that never answers is left at the caller's bound.
func TestSilentRegistrar(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	c, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.CRL(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestRefusal(t *testing.T) {
	date := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // the registrar's clock, not ours
	for _, row := range []struct {
		status      int
		text, after string
		want        est.Error
	}{
		{403, "serial number unknown\n", "", est.Error{Status: 403, Text: "serial number unknown"}},
		{503, "", "120", est.Error{Status: 503, RetryAfter: 2 * time.Minute}},
		{429, "later", date.Add(time.Hour).Format(http.TimeFormat), est.Error{Status: 429, Text: "later", RetryAfter: time.Hour}},
		{503, "", "99999999", est.Error{Status: 503, RetryAfter: 24 * time.Hour}},
		{503, "", "-5", est.Error{Status: 503}},
		{503, "", "soon", est.Error{Status: 503}},
		{400, "two\r\nlines \x1b[31mred\x00\xff", "", est.Error{Status: 400, Text: "two lines [31mred"}},
		{500, strings.Repeat("x", 5000), "", est.Error{Status: 500, Text: strings.Repeat("x", 1024)}},
	} {
		c, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", date.Format(http.TimeFormat))
			if row.after != "" {
				w.Header().Set("Retry-After", row.after)
			}
			w.WriteHeader(row.status)
			_, _ = w.Write([]byte(row.text))
		})
		_, err := c.CACerts(t.Context())
		var e *est.Error
		if !errors.As(err, &e) || *e != row.want {
			t.Errorf("%d %q: %v, want %+v", row.status, row.after, err, row.want)
		}
	}
}

// Every server that must be refused is refused, with its cause.
//
// Verifies: SR-044
func TestWrongRegistrar(t *testing.T) {
	w := serverauthtest.NewWorld(t, host, time.Now())
	for _, s := range w.Servers {
		reached := false
		url := start(t, s.TLS, func(http.ResponseWriter, *http.Request) { reached = true })
		_, err := client(t, url, w).CRL(t.Context())
		if s.Code == "" {
			if !reached {
				t.Errorf("%s: %v", s.Name, err)
			}
			continue
		}
		if got := serverauth.Explain(err); got.Code != s.Code || reached {
			t.Errorf("%s: %v explained as %+v, want %s; reached: %v", s.Name, err, got, s.Code, reached)
		}
	}
	_, err := client(t, "https://127.0.0.1:1", w).CRL(t.Context())
	if got := serverauth.Explain(err); got.Code != finding.LinkDown {
		t.Errorf("nobody there: %v explained as %+v", err, got)
	}
}

func TestAddress(t *testing.T) {
	w := serverauthtest.NewWorld(t, host, time.Now())
	for _, a := range []string{"", "http://r.example", "https://", "https://u:p@r.example", "https://r.example/path", "https://r.example?x=1", "r.example", "https://r.example/#x", "://"} {
		if _, err := est.New(a, w.Client(t)); err == nil {
			t.Errorf("%q is taken", a)
		}
	}
	if _, err := est.New("https://r.example:8443/", w.Client(t)); err != nil {
		t.Error(err)
	}
	for _, c := range []*tls.Config{nil, {}, {RootCAs: w.Fleet.Pool(), InsecureSkipVerify: true}} {
		if _, err := est.New("https://r.example", c); err == nil {
			t.Errorf("settings %v are taken", c)
		}
	}
}

// No proxy of the environment stands between: nothing is sent to it.
func TestNoProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	defer proxy.Close()
	t.Setenv("HTTPS_PROXY", proxy.URL)
	w := serverauthtest.NewWorld(t, host, time.Now())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := client(t, "https://registrar.invalid", w).CRL(ctx); err == nil {
		t.Error("an address that cannot be resolved answers")
	}
}

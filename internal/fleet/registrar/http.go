package registrar

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"ward/internal/fleet/issue"
	"ward/internal/format/est"
	"ward/internal/trust/enrolment"
)

// maxCSRBody bounds the body of an enrolment: base64 takes four bytes for three,
// and line breaks.
const maxCSRBody = issue.MaxCSR * 3 / 2

const typeJSON = "application/json"

// Handler serves EST and the revocation list.
func (r *Registrar) Handler() http.Handler {
	mux := http.NewServeMux()
	post := func(path, kind string, most int64, f func(now time.Time, req *http.Request, body []byte) (string, []byte, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			r.serve(w, req, http.MethodPost, func(now time.Time) (string, []byte, error) {
				body, err := read(w, req, kind, most)
				if err != nil {
					return "", nil, err
				}
				return f(now, req, body)
			})
		})
	}
	get := func(path string, f func(now time.Time) (string, []byte, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) { r.serve(w, req, http.MethodGet, f) })
	}
	post(est.PathTPMChallenge, typeJSON, enrolment.MaxRequest, func(now time.Time, _ *http.Request, body []byte) (string, []byte, error) {
		answer, err := r.Challenge(now, body)
		return typeJSON, answer, err
	})
	post(est.PathSimpleEnroll, est.TypeCSR, maxCSRBody, r.enroll)
	post(est.PathSimpleReenroll, est.TypeCSR, maxCSRBody, r.reenroll)
	get(est.PathCACerts, func(time.Time) (string, []byte, error) { return certsOnly(r.config.Roots.DER()) })
	get(est.PathCSRAttrs, func(time.Time) (string, []byte, error) {
		return est.TypeCSRAttrs, est.EncodeBody(est.CSRAttrs()), nil
	})
	get(est.PathCRL, func(now time.Time) (string, []byte, error) {
		der, err := r.CRL(now)
		if errors.Is(err, errNoList) {
			return "", nil, refuse(http.StatusNotFound, "not-found", "fetch it there", err)
		}
		if err != nil {
			return "", nil, ofFault(err)
		}
		return est.TypeCRL, der, nil
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		r.serve(w, req, req.Method, func(time.Time) (string, []byte, error) {
			return "", nil, refuse(http.StatusNotFound, "not-found", "the paths are those of RFC 7030 and docs/registrar.md", errors.New("nothing is here"))
		})
	})
	return mux
}

func (r *Registrar) enroll(now time.Time, req *http.Request, body []byte) (string, []byte, error) {
	der, err := parseBody(body)
	if err != nil {
		return "", nil, err
	}
	certs, err := r.Enroll(req.Context(), now, basicOf(req), der)
	if err != nil {
		return "", nil, err
	}
	return chainOf(certs)
}

func (r *Registrar) reenroll(now time.Time, req *http.Request, body []byte) (string, []byte, error) {
	der, err := parseBody(body)
	if err != nil {
		return "", nil, err
	}
	if req.TLS == nil {
		return "", nil, refuse(http.StatusForbidden, "certificate", doEnrol, errNoCert)
	}
	certs, err := r.Reenroll(req.Context(), now, req.TLS.PeerCertificates, basicOf(req), der)
	if err != nil {
		return "", nil, err
	}
	return chainOf(certs)
}

// serve bounds, answers, counts and logs one request.
func (r *Registrar) serve(w http.ResponseWriter, req *http.Request, method string, f func(now time.Time) (string, []byte, error)) {
	now := time.Now()
	var kind string
	var body []byte
	var err error
	switch wait := r.limits.take(now, req.RemoteAddr); {
	case wait > 0:
		refusal := refuse(http.StatusTooManyRequests, "rate", doLater, errors.New("more requests than the limit"))
		refusal.Wait = wait
		err = refusal
	case req.Method != method:
		w.Header().Set("Allow", method)
		err = refuse(http.StatusMethodNotAllowed, "method", doReport, fmt.Errorf("method %.20q, want %s", req.Method, method))
	default:
		kind, body, err = f(now)
	}
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	if err == nil {
		head.Set("Content-Type", kind)
		if kind != typeJSON && kind != est.TypeCRL {
			head.Set("Content-Transfer-Encoding", "base64")
		}
		head.Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // who has gone needs no answer
		return
	}
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		refusal = ofFault(err)
	}
	r.refused(now, req.RemoteAddr, req.URL.Path, refusal)
	head.Set("Content-Type", "text/plain; charset=utf-8")
	if refusal.Wait > 0 {
		head.Set("Retry-After", strconv.Itoa(int((refusal.Wait+time.Second-1)/time.Second)))
	}
	if refusal.Status == http.StatusUnauthorized {
		head.Set("WWW-Authenticate", `Basic realm="challenge id and activated secret"`)
	}
	w.WriteHeader(refusal.Status)
	_, _ = io.WriteString(w, oneLine(refusal.told())+"\n")
}

// maxTold bounds what a refusal tells, in bytes.
const maxTold = 600

func oneLine(s string) string {
	s = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, s[:min(len(s), maxTold)])
	return s
}

// read reads a body of one kind and at most so many bytes.
func read(w http.ResponseWriter, req *http.Request, kind string, most int64) ([]byte, error) {
	if got, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || got != kind {
		return nil, refuse(http.StatusUnsupportedMediaType, "type", doReport, fmt.Errorf("content type %.60q, want %s", req.Header.Get("Content-Type"), kind))
	}
	if e := req.Header.Get("Content-Encoding"); e != "" {
		return nil, refuse(http.StatusUnsupportedMediaType, "type", doReport, fmt.Errorf("content encoding %.60q, want none", e))
	}
	tooLarge := refuse(http.StatusRequestEntityTooLarge, "too-large", doReport, fmt.Errorf("more than %d bytes", most))
	if req.ContentLength > most {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, most))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "malformed", doLater, fmt.Errorf("read body: %w", err))
	}
	return body, nil
}

func parseBody(body []byte) ([]byte, error) {
	der, err := est.ParseBody(body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "malformed", doReport, err)
	}
	return der, nil
}

func basicOf(req *http.Request) Basic {
	id, password, _ := req.BasicAuth()
	return Basic{id, password}
}

// Package est asks a registrar for certificates: Enrollment over Secure Transport
// (RFC 7030) with the TPM challenge before it, over HTTPS with the TLS settings
// that the caller gives. What a registrar sends is bounded in size and time; it
// can redirect nobody, set no cookie, and no proxy of the environment is used.
package est

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	body "ward/internal/format/est"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/serverauth"
)

const (
	// exchangeTime bounds one request with its answer.
	exchangeTime = 30 * time.Second
	// maxHeader bounds the headers of an answer.
	maxHeader = 16 << 10
	// maxText bounds what is read of a refusal's reason, in bytes.
	maxText = 1 << 10
	// maxCRL bounds a revocation list.
	maxCRL = serverauth.MaxCRL
)

// ErrAnswer: the registrar's answer is none that EST knows, or too large.
var ErrAnswer = errors.New("the registrar's answer cannot be used")

// Error is an answer with another status than 200.
type Error struct {
	Status     int
	Text       string        // the registrar's reason: one printable line
	RetryAfter time.Duration // what it asks to wait; 0: it does not say
}

func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("the registrar answers %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("the registrar answers %d: %s", e.Status, e.Text)
}

// Client asks one registrar.
type Client struct {
	base string
	http *http.Client
}

// New makes a client for a registrar's address, "https://host[:port]". The TLS
// settings must have roots; TLS 1.3 is demanded whatever they say.
func New(registrar string, config *tls.Config) (*Client, error) {
	u, err := url.Parse(registrar)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("ask registrar: %q is not an address: want https://host:port", registrar)
	}
	if config == nil || config.RootCAs == nil || config.InsecureSkipVerify {
		return nil, errors.New("ask registrar: no root certificates are given, and the system's are never used")
	}
	config = config.Clone()
	config.MinVersion, config.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
	return &Client{base: "https://" + u.Host, http: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: config, DialContext: (&net.Dialer{Timeout: exchangeTime / 2}).DialContext,
			TLSHandshakeTimeout: exchangeTime / 2, ResponseHeaderTimeout: exchangeTime, MaxResponseHeaderBytes: maxHeader,
			IdleConnTimeout: exchangeTime, MaxIdleConns: 1, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close closes the connection that is kept for the next request.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// CACerts asks for the fleet's certificates (RFC 7030, section 4.1). They are
// not verified here.
func (c *Client) CACerts(ctx context.Context) ([]*x509.Certificate, error) {
	return c.certs(ctx, request{method: http.MethodGet, path: body.PathCACerts})
}

// CRL asks for the revocation list, DER. It is not verified here.
func (c *Client) CRL(ctx context.Context) ([]byte, error) {
	return c.do(ctx, request{method: http.MethodGet, path: body.PathCRL, want: body.TypeCRL, most: maxCRL})
}

// Challenge hands in what the TPM says of itself and brings the credential that
// only this TPM can open.
func (c *Client) Challenge(ctx context.Context, r enrolment.Request) (enrolment.Challenge, error) {
	out, err := enrolment.EncodeRequest(r)
	if err != nil {
		return enrolment.Challenge{}, fmt.Errorf("ask registrar: %w", err)
	}
	in, err := c.do(ctx, request{
		method: http.MethodPost, path: body.PathTPMChallenge, kind: "application/json", body: out, want: "application/json", most: enrolment.MaxAnswer,
	})
	if err != nil {
		return enrolment.Challenge{}, err
	}
	challenge, err := enrolment.ParseChallenge(in)
	if err != nil {
		return enrolment.Challenge{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return challenge, nil
}

// Enroll asks for a certificate with a certification request, DER (RFC 7030,
// section 4.2.1). id and secret are those of the challenge.
func (c *Client) Enroll(ctx context.Context, csr []byte, id string, secret []byte) ([]*x509.Certificate, error) {
	return c.certs(ctx, request{method: http.MethodPost, path: body.PathSimpleEnroll, kind: body.TypeCSR, body: body.EncodeBody(csr), user: id, secret: secret})
}

// Reenroll is Enroll for a device that shows its certificate (section 4.2.2).
// With an empty id there was no challenge, and the key is the certificate's.
func (c *Client) Reenroll(ctx context.Context, csr []byte, id string, secret []byte) ([]*x509.Certificate, error) {
	return c.certs(ctx, request{method: http.MethodPost, path: body.PathSimpleReenroll, kind: body.TypeCSR, body: body.EncodeBody(csr), user: id, secret: secret})
}

func (c *Client) certs(ctx context.Context, r request) ([]*x509.Certificate, error) {
	r.want, r.most = "application/pkcs7-mime", body.MaxBody
	text, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	der, err := body.ParseBody(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	certs, err := body.ParseCerts(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return certs, nil
}

type request struct {
	method, path string
	kind         string // content type of what is sent
	body         []byte
	user         string // HTTP Basic; empty for none
	secret       []byte
	want         string // media type of the answer
	most         int    // its longest, in bytes
}

func (c *Client) do(ctx context.Context, r request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("ask registrar: %w", err)
	}
	if r.kind != "" {
		req.Header.Set("Content-Type", r.kind)
	}
	if r.user != "" {
		req.SetBasicAuth(r.user, hex.EncodeToString(r.secret))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask registrar: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask registrar for %s: %w", r.path, refusal(resp))
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != r.want {
		return nil, fmt.Errorf("ask registrar for %s: %w: its type is %.80q, want %s", r.path, ErrAnswer, resp.Header.Get("Content-Type"), r.want)
	}
	if resp.ContentLength > int64(r.most) {
		return nil, fmt.Errorf("ask registrar for %s: %w: %d bytes, at most %d", r.path, ErrAnswer, resp.ContentLength, r.most)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, int64(r.most)+1))
	if err != nil {
		return nil, fmt.Errorf("ask registrar for %s: %w", r.path, err)
	}
	if len(b) > r.most {
		return nil, fmt.Errorf("ask registrar for %s: %w: more than %d bytes", r.path, ErrAnswer, r.most)
	}
	return b, nil
}

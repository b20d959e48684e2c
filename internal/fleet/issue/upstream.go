package issue

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ward/internal/format/est"
)

const (
	// upstreamTimeout bounds one request to the upstream server.
	upstreamTimeout = 20 * time.Second
	// maxReason bounds what is quoted of a refusal, in bytes.
	maxReason = 200
)

// Upstream is another EST server, which issues.
type Upstream struct {
	url    string
	roots  *Roots
	client *http.Client
}

// NewUpstream makes the client of an EST server at an address such as
// https://HOST[:PORT][/LABEL]. caFile holds the roots of that server's own
// certificate; certFile and keyFile are the registrar's credentials there. What it
// issues must chain to the fleet's roots.
func NewUpstream(address, caFile, certFile, keyFile string, roots *Roots) (*Upstream, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("upstream EST server %q: want https://HOST[:PORT][/LABEL]", address)
	}
	cas, err := LoadCertificates(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range cas {
		pool.AddCert(c)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s with key %s: %w", certFile, keyFile, err)
	}
	label := strings.Trim(u.Path, "/")
	u.Path = "/.well-known/est"
	if label != "" {
		u.Path += "/" + label
	}
	return &Upstream{
		url: u.String() + "/simpleenroll", roots: roots,
		client: &http.Client{
			Timeout: upstreamTimeout,
			Transport: &http.Transport{
				// An authority's product may not know TLS 1.3 yet (RFC 8996).
				TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}},
				MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Issue forwards the certification request as the device made it. What comes back
// is held against what was wanted. Every failure is ErrAway: none is the
// device's fault, which was judged before.
func (u *Upstream) Issue(ctx context.Context, now time.Time, w Want) ([]*x509.Certificate, error) {
	certs, err := u.ask(ctx, w.CSR.Raw)
	if err != nil {
		return nil, fmt.Errorf("%w: ask %s: %w", ErrAway, u.url, err)
	}
	// RFC 7030 has the issued certificate alone in the answer; servers that add
	// those above it do so in any order.
	for i, c := range certs {
		if !c.IsCA {
			certs[0], certs[i] = certs[i], certs[0]
			break
		}
	}
	if err := w.check(now, u.roots, certs); err != nil {
		return nil, fmt.Errorf("%w: the certificate from %s for %s of %s is refused: %w", ErrAway, u.url, w.Device, w.Tenant, err)
	}
	return u.roots.Verify(now, certs[0], certs[1:]...)
}

func (u *Upstream) ask(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.url, bytes.NewReader(est.EncodeBody(csr)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", est.TypeCSR)
	req.Header.Set("Content-Transfer-Encoding", "base64")
	req.Header.Set("Accept", "application/pkcs7-mime")
	resp, err := u.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, est.MaxBody+1))
	if err != nil {
		return nil, err
	}
	switch kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); {
	case resp.StatusCode == http.StatusAccepted:
		return nil, errors.New("a person has to approve it there")
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %q", resp.Status, body[:min(len(body), maxReason)])
	case kind != "application/pkcs7-mime":
		return nil, fmt.Errorf("it answers with %.80q", kind)
	}
	der, err := est.ParseBody(body)
	if err != nil {
		return nil, err
	}
	return est.ParseCerts(der)
}

package registrar

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"ward/internal/format/est"
)

// What one connection may take.
const (
	headerTime = 10 * time.Second // handshake and headers
	readTime   = 20 * time.Second // the whole request
	writeTime  = 60 * time.Second // with the wait for an upstream server
	idleTime   = 30 * time.Second
	maxHeader  = 16 << 10 // bytes
	stopTime   = 10 * time.Second
)

// Connections at once, of all clients and of one address.
const (
	maxConnections = 1024
	maxOfSource    = 128
)

// listEvery is how often a revocation list is looked at when nobody asks for it.
const listEvery = 10 * time.Second

// Serve answers on a listener until the context ends, and ends in order.
func (r *Registrar) Serve(ctx context.Context, l net.Listener, pair tls.Certificate) error {
	if r.config.CA != nil {
		if _, err := r.CRL(time.Now()); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	server := &http.Server{
		Handler: r.Handler(), ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, Protocols: new(http.Protocols), ErrorLog: slog.NewLogLogger(r.config.Log.Handler(), slog.LevelDebug),
	}
	server.Protocols.SetHTTP1(true)
	ended := make(chan error, 1)
	go func() {
		ended <- server.Serve(tls.NewListener(&bounded{Listener: l, sources: make(map[netip.Prefix]int)}, r.TLS(pair)))
	}()
	r.config.Report(Event{Kind: "listening", Time: time.Now().UTC(), Address: l.Addr().String()})
	look := time.NewTicker(listEvery)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			return fmt.Errorf("serve: %w", err)
		case <-look.C:
			if _, err := r.CRL(time.Now()); err != nil && !errors.Is(err, errNoList) {
				r.config.Log.Error("revocation list", "error", err)
			}
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
			defer cancel()
			err := server.Shutdown(end)
			if errors.Is(err, context.DeadlineExceeded) {
				err = server.Close()
			}
			r.config.Log.Info("registrar ends", "counts", r.Counts())
			return err
		}
	}
}

func chainOf(certs []*x509.Certificate) (string, []byte, error) {
	var ders [][]byte
	for _, c := range certs {
		ders = append(ders, c.Raw)
	}
	return certsOnly(ders)
}

func certsOnly(ders [][]byte) (string, []byte, error) {
	der, err := est.EncodeCerts(ders)
	if err != nil {
		return "", nil, ofFault(err)
	}
	return est.TypeCerts, est.EncodeBody(der), nil
}

// bounded is a listener that closes what comes above the bounds.
type bounded struct {
	net.Listener

	mu      sync.Mutex
	all     int
	sources map[netip.Prefix]int
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := sourceOf(conn.RemoteAddr().String())
		if b.enter(source) {
			return &counted{Conn: conn, leave: sync.OnceFunc(func() { b.leave(source) })}, nil
		}
		_ = conn.Close()
	}
}

func (b *bounded) enter(source netip.Prefix) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all >= maxConnections || b.sources[source] >= maxOfSource {
		return false
	}
	b.all++
	b.sources[source]++
	return true
}

func (b *bounded) leave(source netip.Prefix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all--
	if b.sources[source]--; b.sources[source] == 0 {
		delete(b.sources, source)
	}
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

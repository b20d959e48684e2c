package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"

	"ward/internal/agent/forward"
	"ward/internal/agent/identity/roots"
	"ward/internal/agent/journal"
	"ward/internal/agent/localapi"
	"ward/internal/config"
	"ward/internal/format/syslog"
	"ward/internal/trust/serverauth"
)

// enterprise is the manufacturer's private enterprise number, set when the release
// is built (-ldflags -X ward/internal/daemon.enterprise=N). Without one, structured
// data bear the number that is reserved for documentation.
var enterprise = ""

// formatOf is how a sink's events are written.
func formatOf(name string) func(syslog.Origin, *syslog.Event) []byte {
	switch name {
	case config.CEF:
		return syslog.CEF
	case config.DICOM:
		return syslog.DICOM
	}
	return syslog.RFC5424
}

// assembleSinks makes one role for each syslog server. identity waits for the
// device's reporting identity.
func (d *daemon) assembleSinks(identity func(context.Context) (*tls.Config, error)) []*forward.Sink {
	folder := filepath.Join(d.config.Paths.State, "sinks")
	if d.unkept != nil {
		folder = "" // a cursor in a journal that ends with the daemon is no place later
	}
	trusted := sinkTrust{identity, filepath.Join(d.config.Paths.Trust, "syslog")}
	var all []*forward.Sink
	for _, text := range d.config.Forward.Sinks {
		c, err := config.ParseSink(text)
		if err != nil {
			d.log.Error("parse sink", "error", err) // the configuration was parsed before
			continue
		}
		name := "forward " + c.Name
		s := forward.New(forward.Config{
			Name: c.Name, Address: c.Address, ServerName: c.ServerName, Format: formatOf(c.Format),
			Origin: syslog.Origin{Tenant: d.source.Tenant, Device: d.source.Device, Version: Version(), Enterprise: enterprise},
			Epoch:  d.journal.Epoch(), State: folder, Journal: newest{d.journal}, Recorder: d.recorder, Credentials: trusted,
			Alive: d.alive(name), Log: d.log.With("role", name),
		})
		d.add(name, slowBound, s.Run)
		all = append(all, s)
	}
	return all
}

// newest is the journal as a sink reads it.
type newest struct{ *journal.Journal }

func (n newest) Newest() uint64 { return n.Status().Sequence }

// sinkTrust gives a connection to a sink the device's reporting identity, and whom
// to trust: the anchors of their own where the image has some, else the fleet's.
type sinkTrust struct {
	identity func(context.Context) (*tls.Config, error)
	folder   string
}

func (s sinkTrust) TLS(ctx context.Context) (*tls.Config, error) {
	c, err := s.identity(ctx)
	if err != nil {
		return nil, err
	}
	c.ClientSessionCache = nil // the fleet's sessions are no sink's
	files, err := filepath.Glob(filepath.Join(s.folder, "*.pem"))
	if err != nil || len(files) == 0 {
		return c, err
	}
	anchors, err := roots.Read(s.folder)
	if err != nil {
		return nil, err
	}
	c.RootCAs = x509.NewCertPool()
	for _, a := range anchors {
		c.RootCAs.AddCert(a)
	}
	now := c.Time
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		return serverauth.Check(cs.PeerCertificates, serverauth.Policy{Roots: anchors, Name: cs.ServerName, Now: now()})
	}
	return c, nil
}

func describeSinks(sinks []*forward.Sink) []localapi.Sink {
	all := []localapi.Sink{}
	for _, s := range sinks {
		all = append(all, localapi.Sink(s.Status()))
	}
	return all
}

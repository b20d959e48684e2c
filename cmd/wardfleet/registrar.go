package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ward/internal/cli"
	"ward/internal/fleet/issue"
	"ward/internal/fleet/register"
	"ward/internal/fleet/registrar"
)

// enrolFlags say whom a registrar enrols, and who issues.
type enrolFlags struct {
	tenant, devices, makers, policyKey      string
	serials                                 string
	anySerial                               bool
	caCert, caKey, crlURL                   string
	lifetime, crlLifetime                   time.Duration
	upstream, upstreamCA, upstreamCert, key string
	roots                                   string
}

func (f *enrolFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.tenant, "tenant", "", "enrol devices of this `TENANT`")
	flags.StringVar(&f.devices, "devices", "", "the register of devices, `DIR`, which wardfleet listen reads too; it must be there")
	flags.StringVar(&f.makers, "tpm-makers", "", "roots and intermediate authorities of TPM makers, `DIR` of PEM files")
	flags.StringVar(&f.serials, "serials", "", "`FILE` with the serial numbers of the manufactured devices, one a line, optionally with \",SHA-256 of the endorsement key\"")
	flags.BoolVar(&f.anySerial, "any-serial", false, "enrol whatever serial number a device gives")
	flags.StringVar(&f.policyKey, "policy-key", "", "public part of the key that signs boot policies, PEM `FILE`; without it nobody gets a service certificate")
	flags.StringVar(&f.caCert, "ca-cert", "", "the issuing authority's certificate, and those above it, PEM `FILE`")
	flags.StringVar(&f.caKey, "ca-key", "", "the issuing authority's key, PEM `FILE`")
	flags.DurationVar(&f.lifetime, "lifetime", issue.DefaultLifetime, "of a certificate that this authority issues, `TIME`")
	flags.StringVar(&f.crlURL, "crl-url", "", "the address of the revocation list, `URL`, to stand in certificates")
	flags.DurationVar(&f.crlLifetime, "crl-lifetime", issue.DefaultCRLLifetime, "how long a revocation list counts, `TIME`")
	flags.StringVar(&f.upstream, "upstream-est", "", "the EST server that issues instead, `URL`")
	flags.StringVar(&f.upstreamCA, "upstream-ca", "", "roots of that server's own certificate, PEM `FILE`")
	flags.StringVar(&f.upstreamCert, "upstream-cert", "", "the registrar's certificate there, PEM `FILE`")
	flags.StringVar(&f.key, "upstream-key", "", "that certificate's key, PEM `FILE`")
	flags.StringVar(&f.roots, "roots", "", "the fleet's roots, beside --ca-cert, with the certificates of a rollover, PEM `FILE`")
}

func (f *enrolFlags) open(report func(registrar.Event), log *slog.Logger) (*registrar.Registrar, error) {
	c := registrar.Config{Tenant: f.tenant, CRLLifetime: f.crlLifetime, Report: report, Log: log}
	var err error
	if c.Devices, err = register.Open(f.devices); err != nil {
		return nil, err
	}
	switch {
	case (f.serials == "") == !f.anySerial:
		return nil, errors.New("give --serials FILE, or --any-serial to enrol whatever serial number a device gives")
	case f.anySerial:
		c.Serials = registrar.AnySerial()
	default:
		if c.Serials, err = registrar.OpenSerials(f.serials); err != nil {
			return nil, err
		}
	}
	if c.Makers, err = registrar.LoadMakers(f.makers); err != nil {
		return nil, err
	}
	if f.policyKey != "" {
		if c.PolicyKey, err = registrar.LoadPolicyKey(f.policyKey); err != nil {
			return nil, err
		}
	}
	var files []string
	for _, file := range []string{f.caCert, f.roots} {
		if file != "" {
			files = append(files, file)
		}
	}
	switch {
	case (f.upstream == "") == (f.caKey == ""):
		return nil, errors.New("give --ca-cert and --ca-key, or --upstream-est with --roots: one of them issues")
	case f.upstream != "":
		if f.caCert != "" || f.roots == "" || f.upstreamCA == "" || f.upstreamCert == "" || f.key == "" {
			return nil, errors.New("--upstream-est takes --upstream-ca, --upstream-cert, --upstream-key and --roots, and no --ca-cert")
		}
	case f.upstreamCA+f.upstreamCert+f.key != "":
		return nil, errors.New("--upstream-ca, --upstream-cert and --upstream-key belong to --upstream-est")
	default:
		if c.CA, err = issue.LoadCA(f.caCert, f.caKey, f.lifetime, f.crlURL); err != nil {
			return nil, err
		}
		c.Authority = c.CA
	}
	if c.Roots, err = issue.LoadRoots(files...); err != nil {
		return nil, err
	}
	if f.upstream != "" {
		if c.Authority, err = issue.NewUpstream(f.upstream, f.upstreamCA, f.upstreamCert, f.key, c.Roots); err != nil {
			return nil, err
		}
	}
	return registrar.New(c)
}

// registrarFlags are the flags of wardfleet registrar.
type registrarFlags struct {
	enrol             enrolFlags
	listen, cert, key string
	perSource         int
	asJSON, verbose   bool
}

func newRegistrar() *cobra.Command {
	var f registrarFlags
	cmd := &cobra.Command{
		Use:   "registrar --listen ADDR --cert FILE --key FILE --tenant TENANT --devices DIR --tpm-makers DIR --serials FILE --ca-cert FILE --ca-key FILE",
		Short: "Enrol devices: certificates for those whose TPM proves itself",
		Long: "Enrol devices by EST (RFC 7030) over TLS 1.3, with a challenge that only the device's TPM can open.\n" +
			"A certificate is for a device that was manufactured (--serials), whose TPM is of a maker in --tpm-makers, for keys that live\n" +
			"in that TPM. One TPM is one device for ever, and one device has one, until 'wardfleet devices replace' opens it for another.\n\n" +
			"The authority that issues lies in files, or is another EST server (--upstream-est). docs/registrar.md has the setup.\n\n" +
			"Exit status: 0 ended by a signal, 2 bad usage or unreadable input, 3 it could not serve.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	f.enrol.add(flags)
	flags.StringVar(&f.listen, "listen", "", "the address to listen at, `HOST:PORT`; port 0 takes a free one")
	flags.StringVar(&f.cert, "cert", "", "the registrar's certificate, beneath the fleet's roots, PEM `FILE`")
	flags.StringVar(&f.key, "key", "", "the certificate's key, PEM `FILE`")
	flags.IntVar(&f.perSource, "per-source", registrar.DefaultPerSource, "bear `N` requests a second of one address, and ten times as many at once")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON object a line")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log also what went well, on standard error")
	required(cmd, "listen", "cert", "key", "tenant", "devices", "tpm-makers")
	cmd.AddCommand(newRegistrarAnswer(), newRegistrarCRL(), newRegistrarCA())
	return cmd
}

func required(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
}

func (f *registrarFlags) run(ctx context.Context, out, log io.Writer) error {
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("read certificate %s with key %s: %w", f.cert, f.key, err)
	}
	r, err := f.enrol.open(reporter(out, f.asJSON), logger(log, f.verbose))
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := r.Serve(ctx, l, pair); err != nil {
		return cli.Fail(cli.NotDecided, "%w", err)
	}
	return nil
}

// reporter prints what happens, a line each.
func reporter(out io.Writer, asJSON bool) func(registrar.Event) {
	var mu sync.Mutex
	return func(e registrar.Event) {
		line := e.Line()
		if asJSON {
			b, err := json.Marshal(e)
			if err != nil {
				return
			}
			line = string(b)
		}
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintln(out, line)
	}
}

func logger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelError // refusals are printed
	if verbose {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

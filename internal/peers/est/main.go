// Command est speaks EST (RFC 7030) with the library github.com/globalsign/est, as
// client and as server: a peer for the registrar's tests. It is a module of its
// own, for that library needs an old go-tpm, which Ward's other peers and Ward
// itself cannot use.
package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/globalsign/est"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "est:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("est", flag.ContinueOnError)
	address := flags.String("address", "", "of the server, host:port")
	roots := flags.String("roots", "", "of the other side, PEM file")
	cert := flags.String("cert", "", "own certificate, PEM file")
	key := flags.String("key", "", "its key, PEM file")
	user := flags.String("user", "", "of HTTP Basic")
	password := flags.String("password", "", "of HTTP Basic")
	csr := flags.String("csr", "", "certification request, PEM file")
	ca := flags.String("ca", "", "server: the issuing authority, PEM file of certificate and key")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pool, err := loadPool(*roots)
	if err != nil {
		return err
	}
	var pair *tls.Certificate
	if *cert != "" {
		p, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			return err
		}
		pair = &p
	}
	if flags.Arg(0) == "serve" {
		return serve(*address, pool, pair, *ca)
	}
	client := &est.Client{Host: *address, ExplicitAnchor: pool, ImplicitAnchor: x509.NewCertPool(), Username: *user, Password: *password}
	if pair != nil {
		client.Certificates, client.PrivateKey = []*x509.Certificate{pair.Leaf}, pair.PrivateKey.(crypto.Signer)
	}
	return ask(client, flags.Arg(0), *csr)
}

func ask(client *est.Client, verb, csrFile string) error {
	ctx := context.Background()
	switch verb {
	case "cacerts":
		certs, err := client.CACerts(ctx)
		if err != nil {
			return err
		}
		return printCerts(certs...)
	case "csrattrs":
		attrs, err := client.CSRAttrs(ctx)
		if err != nil {
			return err
		}
		fmt.Println(attrs.OIDs, attrs.Attributes)
		return nil
	case "enroll", "reenroll":
		der, err := loadPEM(csrFile, "CERTIFICATE REQUEST")
		if err != nil {
			return err
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			return err
		}
		do := client.Enroll
		if verb == "reenroll" {
			do = client.Reenroll
		}
		cert, err := do(ctx, csr)
		if err != nil {
			var refused est.Error
			if errors.As(err, &refused) {
				return fmt.Errorf("%d: %w", refused.StatusCode(), err)
			}
			return err
		}
		return printCerts(cert)
	}
	return fmt.Errorf("verb %q is not known", verb)
}

func printCerts(certs ...*x509.Certificate) error {
	for _, c := range certs {
		if err := pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return err
		}
	}
	return nil
}

func loadPool(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in it", file)
	}
	return pool, nil
}

// loadPEM finds the first block of a type in a file.
func loadPEM(file, kind string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == kind {
			return block.Bytes, nil
		}
	}
	return nil, fmt.Errorf("%s: no %s in it", file, kind)
}

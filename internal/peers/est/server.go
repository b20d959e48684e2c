package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/globalsign/est"
)

// authority issues whatever a request says, to whoever the server lets in.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var errNotOffered = errors.New("not offered")

func (a *authority) CACerts(context.Context, string, *http.Request) ([]*x509.Certificate, error) {
	return []*x509.Certificate{a.cert}, nil
}

func (a *authority) CSRAttrs(context.Context, string, *http.Request) (est.CSRAttrs, error) {
	return est.CSRAttrs{}, nil
}

func (a *authority) Enroll(_ context.Context, csr *x509.CertificateRequest, _ string, r *http.Request) (*x509.Certificate, error) {
	if len(r.TLS.PeerCertificates) == 0 {
		return nil, errors.New("no certificate of a registration authority")
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: csr.Subject, URIs: csr.URIs, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, csr.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (a *authority) Reenroll(context.Context, *x509.Certificate, *x509.CertificateRequest, string, *http.Request) (*x509.Certificate, error) {
	return nil, errNotOffered
}

func (a *authority) ServerKeyGen(context.Context, *x509.CertificateRequest, string, *http.Request) (*x509.Certificate, []byte, error) {
	return nil, nil, errNotOffered
}

func (a *authority) TPMEnroll(context.Context, *x509.CertificateRequest, []*x509.Certificate, []byte, []byte, string, *http.Request) ([]byte, []byte, []byte, error) {
	return nil, nil, nil, errNotOffered
}

// serve prints the server's address and answers until its standard input ends.
func serve(address string, clients *x509.CertPool, pair *tls.Certificate, caFile string) error {
	if pair == nil {
		return errors.New("a server needs a certificate")
	}
	ca, err := tls.LoadX509KeyPair(caFile, caFile)
	if err != nil {
		return err
	}
	router, err := est.NewRouter(&est.ServerConfig{CA: &authority{ca.Leaf, ca.PrivateKey.(crypto.Signer)}})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &http.Server{
		Handler: router, ErrorLog: log.New(os.Stderr, "", 0), ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{*pair}, ClientCAs: clients, ClientAuth: tls.VerifyClientCertIfGiven},
	}
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	return server.ServeTLS(listener, "", "")
}

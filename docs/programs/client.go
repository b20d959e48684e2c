//go:build ignore

// A TLS 1.3 client whose key stays in the TPM: wardd signs for it over the local
// socket. client HOST PORT ROOTS [SOCKET] connects, proves the device with the
// service identity, sends one request and prints the answer.
//
//	go build -o client client.go
//
// It needs membership in the group of the socket, and no library beside Go's own.
package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

const (
	maxAnswer = 64 << 10                   // bytes of one of wardd's answers
	use       = "service"                  // the identity towards clinical services
	socket    = "/run/ward/wardd.sock"     // of wardd
	wardd     = "http://wardd/v1/identity" // over the socket
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "client: usage: client HOST PORT ROOTS [SOCKET]")
		os.Exit(2)
	}
	at := socket
	if len(os.Args) > 4 {
		at = os.Args[4]
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], at); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func run(host, port, rootsFile, socket string) error {
	text, err := os.ReadFile(rootsFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s: no certificate", rootsFile)
	}
	certificate, err := identity(&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}})
	if err != nil {
		return err
	}
	conn, err := tls.Dial("tcp", net.JoinHostPort(host, port), &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{certificate},
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", host)
	_, err = io.Copy(os.Stdout, conn)
	return err
}

// identity is the device's service identity, as crypto/tls takes it.
func identity(client *http.Client) (tls.Certificate, error) {
	var answer struct{ Chain string }
	if err := ask(client, http.MethodGet, "/chain?use="+use, nil, &answer); err != nil {
		return tls.Certificate{}, fmt.Errorf("read certificate: %w", err)
	}
	var c tls.Certificate
	for block, rest := pem.Decode([]byte(answer.Chain)); block != nil; block, rest = pem.Decode(rest) {
		c.Certificate = append(c.Certificate, block.Bytes)
	}
	if len(c.Certificate) == 0 {
		return c, errors.New("wardd gives no certificate")
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return c, err
	}
	c.Leaf, c.PrivateKey = leaf, signer{client, leaf.PublicKey}
	c.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
	return c, nil
}

// signer is a crypto.Signer whose key wardd's TPM holds.
type signer struct {
	client *http.Client
	public crypto.PublicKey
}

func (s signer) Public() crypto.PublicKey { return s.public }

func (s signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 {
		return nil, errors.New("the key signs SHA-256 alone")
	}
	question := struct {
		Use    string `json:"use"`
		Digest []byte `json:"digest"`
	}{use, digest}
	var answer struct{ Signature []byte }
	if err := ask(s.client, http.MethodPost, "/sign", question, &answer); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return answer.Signature, nil
}

// ask sends a question to wardd and reads its answer, JSON both.
func ask(client *http.Client, method, path string, question, answer any) error {
	var body []byte
	if question != nil {
		var err error
		if body, err = json.Marshal(question); err != nil {
			return err
		}
	}
	request, err := http.NewRequest(method, wardd+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("wardd refuses: %s: %s", response.Status, bytes.TrimSpace(text))
	}
	return json.Unmarshal(text, answer)
}

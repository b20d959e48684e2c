package roots

import "crypto/x509"

// Parse reads what was stored.
func Parse(der [][]byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, d := range der {
		c, err := x509.ParseCertificate(d)
		if err != nil {
			return all, err
		}
		all = append(all, c)
	}
	return all, nil
}

// Issuers are those who may sign a revocation list: the roots, and the authorities
// between them and the device's own certificates.
func Issuers(trusted []*x509.Certificate, chains [][]*x509.Certificate) []*x509.Certificate {
	pool, all := x509.NewCertPool(), append([]*x509.Certificate(nil), trusted...)
	for _, c := range trusted {
		pool.AddCert(c)
	}
	for _, chain := range chains {
		for _, c := range chain[min(1, len(chain)):] {
			// An authority that has expired since may still have signed a list.
			_, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: c.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			if err == nil && c.IsCA {
				all = append(all, c)
			}
		}
	}
	return all
}

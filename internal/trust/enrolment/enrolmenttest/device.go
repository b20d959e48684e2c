package enrolmenttest

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/trust/credential"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/policy"
)

// Device is a device with a TPM in memory. It is for one goroutine at a time.
type Device struct {
	t     testing.TB
	maker *Maker

	Serial string
	EK     *x509.Certificate // P-256

	ek, ak *ecdsa.PrivateKey
	keys   map[enrolment.Use]*ecdsa.PrivateKey
}

// NewDevice makes a device with an endorsement key of this maker, an attestation
// key, and a key of each use.
func (m *Maker) NewDevice(t testing.TB, serial string) *Device {
	t.Helper()
	d := &Device{t: t, maker: m, Serial: serial, ek: newKey(t), ak: newKey(t), keys: make(map[enrolment.Use]*ecdsa.PrivateKey)}
	d.EK = m.Certify(EKTemplate(t), &d.ek.PublicKey)
	d.NewKey(enrolment.Reporting)
	d.NewKey(enrolment.Service)
	return d
}

// NewKey makes a new key for a use in the place of the one before, as for a
// renewal.
func (d *Device) NewKey(use enrolment.Use) { d.keys[use] = newKey(d.t) }

// NewAK replaces the attestation key, as an owner's TPM2_Clear does.
func (d *Device) NewAK() { d.ak = newKey(d.t) }

// Signer signs with the key of a use.
func (d *Device) Signer(use enrolment.Use) crypto.Signer { return d.keys[use] }

// AK is the public part of the attestation key.
func (d *Device) AK() *ecdsa.PublicKey { return &d.ak.PublicKey }

// Request asks for certificates of these uses; without any, of both.
func (d *Device) Request(tenant string, uses ...enrolment.Use) enrolment.Request {
	d.t.Helper()
	if len(uses) == 0 {
		uses = []enrolment.Use{enrolment.Reporting, enrolment.Service}
	}
	r := enrolment.Request{
		Version: enrolment.Version, Tenant: tenant, Serial: d.Serial,
		EK: enrolment.Endorsement{Certificate: d.EK.Raw, Chain: [][]byte{d.maker.Intermediate.Raw}},
		AK: Area(AKAttributes, &d.ak.PublicKey, nil),
	}
	for _, use := range uses {
		attributes, authorization := ReportingAttributes, []byte(nil)
		if use == enrolment.Service {
			boot := policy.BootPolicy(d.maker.PolicyKey)
			attributes, authorization = ServiceAttributes, boot[:]
		}
		r.Keys = append(r.Keys, d.Certify(use, Area(attributes, &d.keys[use].PublicKey, authorization)))
	}
	return r
}

// Attributes of Ward's keys, as docs/tpm.md lists them.
var (
	AKAttributes        = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true}
	ReportingAttributes = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true}
	ServiceAttributes   = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, NoDA: true, SignEncrypt: true}
)

// Area is the TPMT_PUBLIC of a P-256 key that signs with ECDSA and SHA-256.
func Area(attributes tpm2.TPMAObject, public *ecdsa.PublicKey, authorization []byte) []byte {
	point, err := public.Bytes()
	if err != nil {
		panic(err) // a key of this package's
	}
	return tpm2.Marshal(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attributes, AuthPolicy: tpm2.TPM2BDigest{Buffer: authorization},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
		}),
	})
}

// Certify has the attestation key state that an object with this public area lives
// in the device's TPM, as TPM2_Certify does.
func (d *Device) Certify(use enrolment.Use, area []byte) enrolment.Key {
	d.t.Helper()
	attest := tpm2.Marshal(tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestCertify,
		QualifiedSigner: tpm2.TPM2BName{Buffer: name(Area(AKAttributes, &d.ak.PublicKey, nil))},
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestCertify, &tpm2.TPMSCertifyInfo{
			Name: tpm2.TPM2BName{Buffer: name(area)}, QualifiedName: tpm2.TPM2BName{Buffer: name(area)},
		}),
	})
	return enrolment.Key{Use: use, Public: area, Attest: attest, Signature: d.Sign(attest)}
}

// Sign signs bytes with the attestation key and returns the TPMT_SIGNATURE.
func (d *Device) Sign(b []byte) []byte {
	d.t.Helper()
	digest := sha256.Sum256(b)
	r, s, err := ecdsa.Sign(rand.Reader, d.ak, digest[:])
	if err != nil {
		d.t.Fatal(err)
	}
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: r.Bytes()}, SignatureS: tpm2.TPM2BECCParameter{Buffer: s.Bytes()},
	})})
}

func name(area []byte) []byte {
	sum := sha256.Sum256(area)
	return append(binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMAlgSHA256)), sum[:]...)
}

// Activate opens a credential that was made for this device's endorsement key and
// attestation key. It is nil when the credential is not for them.
func (d *Device) Activate(blob credential.Blob) []byte {
	d.t.Helper()
	const size = 32
	// Annex C.6.4: the ephemeral point; one-pass agreement; KDFe.
	wrapped := blob.Secret
	x, wrapped := sized(wrapped)
	y, wrapped := sized(wrapped)
	if len(x) != size || len(y) != size || len(wrapped) != 0 {
		return nil
	}
	ephemeral, err := ecdh.P256().NewPublicKey(append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil
	}
	private, err := d.ek.ECDH()
	if err != nil {
		d.t.Fatal(err)
	}
	z, err := private.ECDH(ephemeral)
	if err != nil {
		return nil
	}
	seed := tpm2.KDFe(crypto.SHA256, z, "IDENTITY", x, private.PublicKey().Bytes()[1:1+size], 8*size)
	// Section 24.5: integrity over the encrypted identity and the Name.
	ak := name(Area(AKAttributes, &d.ak.PublicKey, nil))
	integrity, encrypted := sized(blob.Credential)
	mac := hmac.New(sha256.New, tpm2.KDFa(crypto.SHA256, seed, "INTEGRITY", nil, nil, 8*size))
	mac.Write(encrypted)
	mac.Write(ak)
	if !hmac.Equal(mac.Sum(nil), integrity) {
		return nil
	}
	block, err := aes.NewCipher(tpm2.KDFa(crypto.SHA256, seed, "STORAGE", ak, nil, 128))
	if err != nil {
		d.t.Fatal(err)
	}
	secret, rest := sized(decrypt(block, encrypted))
	if len(rest) != 0 {
		return nil
	}
	return secret
}

// decrypt is CFB with a zero vector.
func decrypt(block cipher.Block, encrypted []byte) []byte {
	plain := make([]byte, len(encrypted))
	feedback := make([]byte, block.BlockSize())
	for at := 0; at < len(encrypted); at += len(feedback) {
		block.Encrypt(feedback, feedback)
		n := min(len(feedback), len(encrypted)-at)
		for i := range n {
			plain[at+i] = encrypted[at+i] ^ feedback[i]
		}
		copy(feedback, encrypted[at:at+n])
	}
	return plain
}

// sized takes a TPM2B off the begin of bytes; nil if there is none.
func sized(b []byte) (content, rest []byte) {
	if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
		return nil, nil
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	return b[2:n], b[n:]
}

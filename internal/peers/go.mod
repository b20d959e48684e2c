module ward/internal/peers

go 1.26.0

require (
	github.com/canonical/go-tpm2 v1.7.6
	github.com/canonical/tcglog-parser v0.1.0
	github.com/foxboron/go-tpm-keyfiles v0.0.0-20250323135004-b31fac66206e
	github.com/google/go-attestation v0.6.4
	github.com/google/go-tpm v0.9.8
	ward v0.0.0-00010101000000-000000000000
)

require (
	github.com/canonical/go-efilib v1.6.0 // indirect
	github.com/canonical/go-sp800.108-kdf v0.0.0-20210315104021-ead800bbf9a0 // indirect
	github.com/fxamacker/cbor/v2 v2.10.0 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	golang.org/x/crypto v0.45.0 // indirect
	golang.org/x/exp v0.0.0-20240416160154-fe59bbe5cc7f // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/xerrors v0.0.0-20200804184101-5ec99f83aff1 // indirect
)

replace ward => ../..

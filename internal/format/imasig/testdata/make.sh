#!/bin/sh
# Makes the signatures of this folder anew, with keys that are thrown away, by
# tools that are not ours: openssl and evmctl 1.4 (Debian: ima-evm-utils). evmctl
# verifies what it made; openssl verifies the appended signatures.
set -eu
cd "$(dirname "$0")"
keys=$(mktemp -d)
trap 'rm -rf "$keys"' EXIT
rm -f ./*.sig ./*.pem ./*.der ./*.p7

make() { # name, openssl's options for the key
	name=$1
	shift
	openssl req -x509 "$@" -nodes -keyout "$keys/$name.key" -subj "/O=Test/CN=$name" -days 36500 -out "$name.pem" 2>/dev/null
	openssl x509 -in "$name.pem" -outform DER -out "$name.der"
}
make rsa -newkey rsa:2048
make p256 -newkey ec -pkeyopt ec_paramgen_curve:P-256
make p384 -newkey ec -pkeyopt ec_paramgen_curve:P-384
# Another key under the name of the first.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$keys/twin.key" -subj "/O=Test/CN=rsa" -days 36500 -out twin.pem 2>/dev/null
openssl pkey -in "$keys/rsa.key" -pubout -out rsa-bare.pem
openssl pkey -in "$keys/p256.key" -pubout -outform DER -out p256-bare.der

# Version 2, over the digest of the file "payload".
for name in rsa p256 p384; do
	for hash in sha1 sha256 sha384 sha512; do
		evmctl ima_sign --sigfile -n -a $hash --key "$keys/$name.key" payload >/dev/null 2>&1
		evmctl ima_verify --sigfile --key "$name.der" payload
		mv payload.sig "$name.$hash.sig"
	done
done

# Version 3, over ima_file_id: type 6, the number of sha256 (4), the digest of
# fs-verity, which here is the SHA-256 of the payload.
{
	printf '\006\004'
	openssl dgst -sha256 -binary payload
} | openssl dgst -sha256 -binary >"$keys/id"
openssl pkeyutl -sign -inkey "$keys/p256.key" -in "$keys/id" -out "$keys/raw"
tail=$(openssl x509 -in p256.pem -noout -ext subjectKeyIdentifier | tail -1 | tr -d ' :\n' | tail -c 8)
size=$(printf '%04x' "$(wc -c <"$keys/raw")")
{
	printf '060304%s%s' "$tail" "$size" | xxd -r -p
	cat "$keys/raw"
} >verity.sig

# The signature of sign-file: CMS, detached, without attributes and certificates.
for name in rsa p256; do
	openssl cms -sign -binary -noattr -nocerts -nosmimecap -md sha512 -in payload -signer "$name.pem" -inkey "$keys/$name.key" -outform DER -out "$name.p7"
	openssl cms -sign -binary -noattr -nocerts -nosmimecap -keyid -md sha256 -in payload -signer "$name.pem" -inkey "$keys/$name.key" -outform DER -out "$name-keyid.p7"
	for form in "$name" "$name-keyid"; do
		openssl cms -verify -binary -inform DER -in "$form.p7" -content payload -certfile "$name.pem" -noverify -out /dev/null
	done
done
openssl cms -sign -binary -nocerts -md sha256 -in payload -signer rsa.pem -inkey "$keys/rsa.key" -outform DER -out attributes.p7
openssl cms -sign -binary -nodetach -noattr -nocerts -md sha256 -in payload -signer rsa.pem -inkey "$keys/rsa.key" -outform DER -out enclosed.p7
openssl cms -sign -binary -noattr -nocerts -md sha256 -in payload -signer rsa.pem -inkey "$keys/rsa.key" -signer p256.pem -inkey "$keys/p256.key" -outform DER -out two.p7

# A portable EVM signature over the file's signature, owner 900, group 901, mode
# 0100755.
evmctl sign -n -o -a sha256 --ima "$(xxd -p rsa.sha256.sig | tr -d '\n')" --uid 900 --gid 901 --mode 33261 --key "$keys/rsa.key" payload 2>/dev/null | tail -1 | sed 's/^0x//' | xxd -r -p >evm.sig

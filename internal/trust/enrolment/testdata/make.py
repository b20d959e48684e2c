#!/usr/bin/env python3
"""Writes answer.json: an answer that a program which is not ours has sealed, with
HKDF-SHA256 (RFC 5869) by hand and AES-256-GCM of the package cryptography."""
import base64, hashlib, hmac, json
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

secret, nonce = bytes([7]) * 32, bytes(range(12))
tenant, device = "acme", "SN-0001"
text = lambda n: base64.b64encode(b"a" * n).decode()
issued = {"tenant": tenant, "device": device, "chains": {"reporting": [text(3), text(6)], "service": [text(3)]}, "crl": text(9)}
info = "\n".join(["ward enrolment answer v1", tenant, device]).encode()
extracted = hmac.new(bytes(32), secret, hashlib.sha256).digest()
key = hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()
sealed = nonce + AESGCM(key).encrypt(nonce, json.dumps(issued, separators=(",", ":")).encode(), None)
answer = {
    "version": 1, "tenant": tenant, "device": device,
    "credential": {"credential": text(3), "secret": text(6)}, "sealed": base64.b64encode(sealed).decode(),
}
with open("answer.json", "w") as f:
    json.dump({"secret": secret.hex(), "answer": answer}, f, indent=2)
    f.write("\n")

package certsonly

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
)

// lineLength is where Encode breaks lines: what every decoder takes, also
// openssl's.
const lineLength = 64

// ErrBody: an HTTP body that is not Base64.
var ErrBody = errors.New("not a Base64 body")

// Encode writes DER as the body of a request or an answer: Base64 in lines of 64
// characters.
func Encode(der []byte) []byte {
	text := base64.StdEncoding.AppendEncode(nil, der)
	var lines []byte
	for len(text) > 0 {
		n := min(len(text), lineLength)
		lines = append(append(lines, text[:n]...), '\n')
		text = text[n:]
	}
	return lines
}

// Decode reads a body: Base64 with padding, with or without line breaks, blanks
// and tabs wherever a peer puts them (RFC 8951, section 3.1). At most what can hold
// a message is read. Errors wrap ErrBody.
func Decode(body []byte) ([]byte, error) {
	// Base64 takes 4 bytes for 3; the rest is room for white space.
	const most = 2 * MaxMessage
	if len(body) > most {
		return nil, fmt.Errorf("decode body: %w: %d bytes, at most %d are read", ErrBody, len(body), most)
	}
	text := bytes.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\r', '\n':
			return -1
		}
		return r
	}, body)
	if len(text) == 0 {
		return nil, fmt.Errorf("decode body: %w: it is empty", ErrBody)
	}
	der, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("decode body: %w: %w", ErrBody, err)
	case len(der) > MaxMessage:
		return nil, fmt.Errorf("decode body: %w: it holds %d bytes, at most %d are read", ErrBody, len(der), MaxMessage)
	}
	return der, nil
}

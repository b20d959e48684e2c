package est

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// longestWait is the most that a Retry-After is believed: a registrar that asks
// for more must not put a device to sleep.
const longestWait = 24 * time.Hour

// refusal reads why the registrar did not do as asked. Its words come from the
// network: they are cut, and made one printable line.
func refusal(resp *http.Response) *Error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxText)) // what can be read of it
	return &Error{Status: resp.StatusCode, Text: printable(string(text)), RetryAfter: retryAfter(resp.Header)}
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r) || r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// retryAfter reads seconds or a date, by the registrar's own clock (RFC 9110,
// sections 10.2.3 and 6.6.1).
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	wait := time.Duration(0)
	if n, err := strconv.ParseInt(value, 10, 32); err == nil {
		wait = time.Duration(n) * time.Second
	} else if until, err := http.ParseTime(value); err == nil {
		if at, err := http.ParseTime(h.Get("Date")); err == nil {
			wait = until.Sub(at)
		}
	}
	return max(0, min(wait, longestWait))
}

package ima

import (
	"bytes"
	"crypto/x509"
	"strings"
	"unicode/utf8"

	"ward/internal/format/pcr"
)

// ContentKind says what a measured buffer holds.
type ContentKind uint8

// The kinds. The kernel gives a buffer a name and no type: the kind follows from
// the name, which was measured with it.
const (
	ContentUnknown ContentKind = iota
	ContentKey                 // a key was added to a keyring; the name is the keyring's
	ContentCommand             // kexec-cmdline: the command line of the kernel that is started next
	ContentText                // kernel_version
	ContentDigest              // selinux-policy-hash: the digest of a policy
	ContentState               // name=value pairs: SELinux, device mapper, kexec
)

var contentNames = [...]string{"unknown", "key", "command-line", "text", "digest", "state"}

func (k ContentKind) String() string { return contentNames[min(int(k), len(contentNames)-1)] }

// MarshalText writes the kind's name.
func (k ContentKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Pair is one name=value pair of critical data.
type Pair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// maxPairs bounds the pairs of one buffer. The device mapper writes some ten for
// each target of a table and cuts its buffer at 4 KiB (dm-ima.h).
const maxPairs = 1024

// maxShownText bounds a buffer that is taken for text: the longest command line of
// any architecture has 64 KiB.
const maxShownText = 64 << 10

// Content is a measured buffer, read. It counts only where Rehashes is true and
// the entry itself rehashes: the kernel writes no other.
type Content struct {
	Kind        ContentKind       `json:"kind"`
	Rehashes    bool              `json:"rehashes"` // the buffer hashes to the entry's digest
	Text        string            `json:"text,omitempty"`
	Pairs       []Pair            `json:"pairs,omitempty"`
	Certificate *x509.Certificate `json:"-"` // of a key; nil where the buffer is no X.509 certificate
}

// Names of critical data and where the kernel makes them.
const (
	// KexecLoad and KexecExecute frame a kexec in kernels that hand their list on
	// (ima_kexec.c): the first names the number of entries when the next kernel was
	// loaded, the second when it was started. A list that goes on behind a kexec
	// without the second has lost entries.
	KexecLoad, KexecExecute = "kexec_load", "kexec_execute"

	kexecCommand  = "kexec-cmdline"       // kexec_file.c
	kernelVersion = "kernel_version"      // ima_main.c, init_ima
	selinuxState  = "selinux-state"       // selinux/ima.c
	selinuxPolicy = "selinux-policy-hash" // selinux/ima.c
	deviceMapper  = "dm_"                 // dm-ima.c: dm_table_load, dm_device_resume, ...
)

// Content reads the entry's buffer; false: it has none.
func (e Entry) Content() (Content, bool) {
	if len(e.Buffer) == 0 {
		return Content{}, false
	}
	c := Content{Kind: contentKind(e.Path, e.Buffer), Rehashes: e.bufferRehashes()}
	switch c.Kind {
	case ContentKey:
		c.Certificate, _ = x509.ParseCertificate(e.Buffer)
	case ContentDigest:
		c.Text = pcr.Digest(e.Buffer).String()
	case ContentCommand, ContentText:
		c.Text = string(e.Buffer)
	case ContentState:
		c.Text = string(e.Buffer)
		c.Pairs = pairs(c.Text)
	}
	return c, true
}

// bufferRehashes tells whether the buffer hashes to the entry's digest
// (ima_main.c, process_buffer_measurement).
func (e Entry) bufferRehashes() bool {
	a, err := pcr.ParseAlgorithm(e.Digest.Algorithm)
	if err != nil {
		return false
	}
	sum := a.Sum(e.Buffer)
	return sum != nil && bytes.Equal(sum, e.Digest.Digest)
}

func contentKind(name string, buffer []byte) ContentKind {
	kind := ContentUnknown
	switch {
	case name == kexecCommand:
		kind = ContentCommand
	case name == kernelVersion:
		kind = ContentText
	case name == selinuxPolicy:
		return ContentDigest
	case name == selinuxState, name == KexecLoad, name == KexecExecute, strings.HasPrefix(name, deviceMapper):
		kind = ContentState
	case strings.HasPrefix(name, "."), strings.HasPrefix(name, "_"), looksLikeCertificate(buffer):
		return ContentKey // keyrings of the kernel and of user space
	}
	if len(buffer) > maxShownText || !utf8.Valid(buffer) {
		return ContentUnknown
	}
	return kind
}

// looksLikeCertificate tells whether a buffer is one DER sequence of two length
// bytes, which every certificate is.
func looksLikeCertificate(b []byte) bool {
	return len(b) > 4 && b[0] == 0x30 && b[1] == 0x82 && int(b[2])<<8|int(b[3]) == len(b)-4
}

// pairs splits name=value pairs at semicolons and commas. The device mapper puts
// a backslash before such a sign in a value (dm-ima.c, fix_separator_chars). Pieces
// without an equals sign are left out; beyond maxPairs there are none at all.
func pairs(text string) []Pair {
	var list []Pair
	var name, value strings.Builder
	to, named := &name, false
	end := func() {
		if named {
			list = append(list, Pair{name.String(), value.String()})
		}
		name.Reset()
		value.Reset()
		to, named = &name, false
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			to.WriteByte(text[i])
		case c == ';' || c == ',':
			end()
		case c == '=' && !named:
			to, named = &value, true
		default:
			to.WriteByte(c)
		}
		if len(list) > maxPairs {
			return nil
		}
	}
	end()
	return list
}

package measured

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"ward/internal/format/ima"
	"ward/internal/trust/baseline"
	"ward/internal/trust/finding"
)

// Standing is how one entry of the IMA list stands to the release.
type Standing uint8

// Standings of an entry.
const (
	NotJudged Standing = iota // it names no content that the baseline could hold
	NoFile                    // boot_aggregate, or a buffer: a key, a policy, a command line
	Known                     // the release has this content
	Unknown                   // the release has neither path nor content
	Changed                   // the release has the path with other content
	Violated                  // the kernel could not vouch for the content
)

// isBuffer tells entries that are no files: of the template ima-buf, or of a custom
// one that holds a buffer.
func isBuffer(e ima.Entry) bool { return e.Template == "ima-buf" || len(e.Buffer) > 0 }

// BaselineDigest is the algorithm of the baseline's digests.
const BaselineDigest = "sha256"

// Content is the SHA-256 of the file that an entry measured; false for one that
// names no content that the baseline could hold, or that the kernel could not vouch
// for.
func Content(e ima.Entry) ([32]byte, bool) {
	if e.Violation || e.Hidden != nil || isBuffer(e) || e.IsBootAggregate() || e.Digest.Algorithm != BaselineDigest || e.Digest.Verity || len(e.Digest.Digest) != 32 {
		return [32]byte{}, false
	}
	return [32]byte(e.Digest.Digest), true
}

// JudgeEntry compares one entry of the IMA list with the baseline; the finding
// is set for Unknown, Changed and Violated. Content counts: a released file that
// the kernel saw at another path is known, because the initramfs, bind mounts
// and other mount points give the same file another path. A file that the release
// lets change, and that is no program, is known by its path. index may be nil,
// then only violations and hidden entries are told; where it cannot be read, the
// entry is not judged, and Index.Err tells why. A hidden entry is never known:
// nobody can verify that its digest is what was measured.
func JudgeEntry(e ima.Entry, index *baseline.Index) (Standing, finding.Finding) {
	switch {
	case e.Violation:
		f := finding.New(finding.IMAViolation, "the kernel measured the file while it was open for writing")
		return Violated, about(f, e)
	case e.Hidden != nil:
		f := finding.New(finding.IMAUnknownFile, "the device keeps the file's name to itself; it is shown at the bedside")
		return Unknown, about(f, e)
	case isBuffer(e) || e.IsBootAggregate():
		return NoFile, finding.Finding{}
	}
	sum, ok := Content(e)
	if index == nil || !ok {
		return NotJudged, finding.Finding{}
	}
	switch index.Lookup(e.Path, sum) {
	case baseline.Known, baseline.KnownContentOtherPath:
		return Known, finding.Finding{}
	case baseline.ChangedContent:
		content := index.Lookup("", sum) // at any path: no file has the empty one
		released, _, err := index.Entry(e.Path)
		switch {
		case content == baseline.KnownContentOtherPath, err == nil && mayChange(released):
			return Known, finding.Finding{}
		case content == 0 || err != nil:
			return NotJudged, finding.Finding{}
		}
		f := finding.New(finding.IMAChangedFile, "the release has other content at this path")
		return Changed, about(f, e)
	case baseline.UnknownPath:
		f := finding.New(finding.IMAUnknownFile, "the release has neither this path nor this content")
		return Unknown, about(f, e)
	}
	return NotJudged, finding.Finding{}
}

// mayChange tells of a file that the release lets change and that is no program.
func mayChange(e baseline.Entry) bool {
	return e.Flags&(baseline.Mutable|baseline.Volatile) != 0 && e.Flags&baseline.Exec == 0
}

// about adds what identifies the entry.
func about(f finding.Finding, e ima.Entry) finding.Finding {
	f = f.On(UntrustedPath(e.Path)).AtIndex(e.Index).AtOffset(e.Offset)
	if !e.Violation {
		f.Found = fmt.Sprintf("%s:%s", strings.Clone(e.Digest.Algorithm), e.Digest.Digest)
	}
	return f
}

// maxPath bounds a path in a finding, in bytes: far above what programs are
// installed at, far below what would fill an event.
const maxPath = 512

// UntrustedPath makes a path from the IMA list fit to be shown: whoever may
// create a file chooses it. One with anything but printable characters is
// quoted as in Go.
func UntrustedPath(path string) string {
	plain := utf8.ValidString(path)
	for _, c := range path {
		plain = plain && strconv.IsPrint(c)
	}
	if len(path) > maxPath {
		path = strings.ToValidUTF8(path[:maxPath], "") + "…"
	}
	if !plain {
		return strconv.Quote(path)
	}
	return strings.Clone(path)
}

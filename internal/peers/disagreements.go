package peers

// kind is in which way a peer answers otherwise than Ward.
type kind string

const (
	takes   kind = "takes"   // it says that the registers follow where Ward does not pass
	refuses kind = "refuses" // it does not say so where Ward passes
	breaks  kind = "breaks"  // it ends or is ended, whatever Ward says
)

// otherwise tells in which way; "": they agree.
func otherwise(ward, peer Answer) kind {
	switch {
	case peer == Crashes || peer == Exhausts || peer == Hangs:
		return breaks
	case ward == Passes && peer != Follows:
		return refuses
	case ward != Passes && peer == Follows:
		return takes
	}
	return ""
}

// A disagreement is a class of changes that a peer takes otherwise, and why.
type disagreement struct {
	peer    int
	kind    kind
	classes []string
	reason  string
}

var (
	words = []string{"relabelled EV_ACTION", "relabelled EV_SEPARATOR", "relabelled unknown type",
		"bit of data that a digest vouches for", "vouched data lengthened", "bit of data that no digest covers",
		"unvouched data lengthened", "bit of another bank's digest"}
	separators = []string{"separator removed, registers too", "separator doubled, registers too",
		"separator reports an error, registers too"}
	localities = []string{"second StartupLocality", "StartupLocality 3 after the first extend"}
)

// disagreements are all of them. One that is not listed fails the tests, and so
// does one that is listed and is not there.
var disagreements = []disagreement{
	{goAttestationColumn, takes, []string{"all events of a PCR deleted", "header alone", "extending event deleted",
		"relabelled EV_NO_ACTION", "cut between events", "bit of a PCR index", "separator removed", "bit of the startup locality"},
		"a register of which the log holds no event is not compared, whatever it holds"},
	{goAttestationColumn, takes, words, "it compares registers; types, data and digests of other banks are the caller's to judge"},
	{goAttestationColumn, takes, separators, "it compares registers; whether a separator is there, once, and without an error is the caller's to judge"},
	{goAttestationColumn, takes, localities, "every StartupLocality counts until PCR 0 is extended, and later ones are passed over without a word"},
	{goAttestationColumn, takes, []string{"bit of an informing event's digest"}, "the digest of an event that extends nothing is not looked at"},
	{goAttestationColumn, refuses, []string{"StartupLocality padded to 50 bytes"}, "it wants 17 bytes; coreboot writes 50"},
	{goAttestationColumn, refuses, []string{"unknown algorithm in the header"}, "it reads no digest whose algorithm it has no name for, though the header states the size"},
	{goAttestationColumn, refuses, []string{"zeros behind"}, "it reads padding as events in PCR 0"},
	{tcglogColumn, takes, words, "it reads and decodes; what the words say of a digest is the caller's to judge"},
	{tcglogColumn, takes, separators, "it reads and decodes; separators are the caller's to judge"},
	{tcglogColumn, takes, localities, "it reads and decodes; that a locality is stated twice or too late is the caller's to judge"},
	{tcglogColumn, takes, []string{"bit of an informing event's digest"}, "the digest of an event that extends nothing is not looked at"},
	{tcglogColumn, refuses, []string{"unchanged"}, "it reads no event with an index above 0x31; option_rom has such events"},
	{tcglogColumn, refuses, []string{"unknown informing event"}, "it reads no event with an index above 0x31; Windows writes 0xFFFFFFFF"},
	{tcglogColumn, refuses, []string{"zeros behind"}, "it reads padding as events in PCR 0"},
	{tcglogColumn, breaks, []string{"bit of a size", "size of 4 GiB"}, "it allocates what a size announces before it looks whether that much is there"},
	{tpm2Column, takes, words, "it prints registers; whether the words fit is the reader's to judge"},
	{tpm2Column, takes, separators, "it prints registers; separators are the reader's to judge"},
	{tpm2Column, takes, []string{"relabelled EV_NO_ACTION"}, "5.4 extends EV_NO_ACTION events, against the Firmware Profile, 10.4.1"},
	{tpm2Column, refuses, []string{"unchanged"}, "5.4 extends StartupLocality and SP 800-155 events as if they were measurements, and refuses some short ones"},
	{tpm2Column, refuses, []string{"unknown informing event"}, "5.4 extends EV_NO_ACTION events, and refuses the index 0xFFFFFFFF"},
	{tpm2Column, refuses, []string{"unknown algorithm in the header"}, "it reads no digest whose algorithm it has no name for, though the header states the size"},
	{tpm2Column, refuses, []string{"zeros behind"}, "it reads padding as events in PCR 0"},
	{tpm2Column, breaks, []string{"unchanged", "unknown informing event", "bit of a PCR index", "bit of a size", "garbage behind"},
		"it is ended by a signal: an index or a size out of range is not caught"},
}

// reasonOf returns why a peer takes a class otherwise, "" where nothing is said.
func reasonOf(class string, peer int, k kind) string {
	for _, d := range disagreements {
		if d.peer != peer || d.kind != k {
			continue
		}
		for _, c := range d.classes {
			if c == class {
				return d.reason
			}
		}
	}
	return ""
}

package tss2_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/alloctest"
	"ward/internal/format/tss2"
)

const parent = 0x81000001 // Ward's storage root key

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Files of TPMs in the field keep their meaning: reporting.pem is a reporting key
// and sealed.pem a secret under the boot policy, each made by a software TPM.
//
// Verifies: SR-033
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		file       string
		kind       tss2.Kind
		attributes uint32
		policy     string
	}{
		{"reporting.pem", tss2.Loadable, 0x00040472, ""},
		{"sealed.pem", tss2.Sealed, 0x00000412, "915ea5377969d98145221ae0e83aaa9ad9ea8b837e5f0e88902b591d764db8e7"},
	} {
		text := readFile(t, c.file)
		f, err := tss2.Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		if f.Kind != c.kind || !f.EmptyAuth || f.Parent != parent {
			t.Errorf("%s: kind %d, empty %t, parent %x", c.file, f.Kind, f.EmptyAuth, f.Parent)
		}
		public, err := tpm2.Unmarshal[tpm2.TPMTPublic](f.Public)
		if err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		attributes := tpm2.Marshal(public.ObjectAttributes)
		if hex.EncodeToString(attributes) != hex.EncodeToString([]byte{byte(c.attributes >> 24), byte(c.attributes >> 16), byte(c.attributes >> 8), byte(c.attributes)}) {
			t.Errorf("%s: attributes %x, want %08x", c.file, attributes, c.attributes)
		}
		if got := hex.EncodeToString(public.AuthPolicy.Buffer); got != c.policy {
			t.Errorf("%s: policy %s, want %s", c.file, got, c.policy)
		}
		if got := f.PEM(); !bytes.Equal(got, text) {
			t.Errorf("%s is written as\n%s", c.file, got)
		}
	}
}

// openssl.pem was made by OpenSSL's TPM provider (tpm2-openssl 1.1.1), which
// writes the truth value as 01.
func TestKeyOfTheProvider(t *testing.T) {
	f, err := tss2.Parse(readFile(t, "openssl.pem"))
	if err != nil || f.Kind != tss2.Loadable || !f.EmptyAuth || f.Parent != parent || len(f.Public) != 86 || len(f.Private) != 126 {
		t.Fatalf("%+v, %v", f, err)
	}
	if again, err := tss2.Parse(f.PEM()); err != nil || !reflect.DeepEqual(again, f) {
		t.Errorf("written and read: %+v, %v", again, err)
	}
}

// raw is a TPMKey whose fields are DER.
type raw struct {
	Type     asn1.ObjectIdentifier
	Optional []asn1.RawValue
	Parent   any
	Public   any
	Private  any
	Behind   []byte
}

func loadable() raw {
	return raw{Type: asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}, Parent: int64(parent), Public: []byte{0, 1, 9}, Private: []byte{0, 1, 8}}
}

func (r raw) pem(t testing.TB) []byte {
	t.Helper()
	var content []byte
	for _, v := range append(append([]any{r.Type}, values(r.Optional)...), r.Parent, r.Public, r.Private) {
		if v == nil {
			continue
		}
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		content = append(content, der...)
	}
	der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(content, r.Behind...)})
	if err != nil {
		t.Fatal(err)
	}
	return armour(der)
}

func values(fields []asn1.RawValue) (all []any) {
	for _, f := range fields {
		all = append(all, f)
	}
	return all
}

func armour(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "TSS2 PRIVATE KEY", Bytes: der})
}

func tagged(tag int, content ...byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: content}
}

func TestBadInput(t *testing.T) {
	good := loadable().pem(t)
	if _, err := tss2.Parse(good); err != nil {
		t.Fatalf("the file that the others differ from: %v", err)
	}
	change := func(f func(*raw)) []byte { r := loadable(); f(&r); return r.pem(t) }
	optional := func(fields ...asn1.RawValue) []byte { return change(func(r *raw) { r.Optional = fields }) }
	block, _ := pem.Decode(good)
	for _, c := range []struct {
		name string
		text []byte
		want string
	}{
		{"nothing", nil, "does not begin"},
		{"text", []byte("key"), "does not begin"},
		{"another PEM", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes}), "does not begin"},
		{"text before", append([]byte("Key:\n"), good...), "does not begin"},
		{"cut", good[:len(good)-8], "damaged or cut short"},
		{"two keys", append(bytes.Clone(good), good...), "more than one key"},
		{"a damaged key before", append([]byte("-----BEGIN TSS2 PRIVATE KEY-----\n!\n"), good...), "more than one key"},
		{"text behind", append(bytes.Clone(good), "x"...), "text behind the key"},
		{"headers", pem.EncodeToMemory(&pem.Block{Type: "TSS2 PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: block.Bytes}), "headers"},
		{"too long", bytes.Repeat([]byte("\n"), tss2.MaxFile+1), "at most 8192 are read"},
		{"not ASN.1", armour([]byte{1, 2, 3}), "asn1"},
		{"no sequence", armour([]byte{2, 1, 5}), "asn1"},
		{"an empty sequence", armour([]byte{0x30, 0}), "it is empty"},
		{"bytes behind the sequence", armour(append(bytes.Clone(block.Bytes), 0)), "1 bytes behind it"},
		{"DER cut", armour(block.Bytes[:len(block.Bytes)-1]), "asn1"},
		{"a type of no one's", change(func(r *raw) { r.Type = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 9} }), "unknown type 2.23.133.10.1.9"},
		{"importable", change(func(r *raw) { r.Type = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 4} }), "yet to be imported"},
		{"the first form", change(func(r *raw) { r.Type = asn1.ObjectIdentifier{2, 23, 133, 10, 2} }), "draft's first form"},
		{"policy", optional(tagged(1, 0x30, 0)), "it holds a policy"},
		{"secret", optional(tagged(0, 1, 1, 0xff), tagged(2, 4, 0)), "it holds a secret for an import"},
		{"authPolicy", optional(tagged(3, 0x30, 0)), "it holds policies for PolicyAuthorize"},
		{"description", optional(tagged(4, 0x0c, 0)), "it holds a description"},
		{"parent of RSA", optional(tagged(5, 1, 1, 0xff)), "it holds a parent of RSA"},
		{"a field to come", optional(tagged(6, 5, 0)), "tag 6"},
		{"emptyAuth twice", optional(tagged(0, 1, 1, 0xff), tagged(0, 1, 1, 0xff)), "tag 0"},
		{"emptyAuth that is no sequence", optional(asn1.RawValue{Class: asn1.ClassContextSpecific, Bytes: []byte{1, 1, 0xff}}), "tag 0"},
		{"emptyAuth that is neither", optional(tagged(0, 1, 1, 2)), "no truth value"},
		{"emptyAuth that is empty", optional(tagged(0)), "no truth value"},
		{"no parent", change(func(r *raw) { r.Parent = nil }), "2 fields"},
		{"parent that is a text", change(func(r *raw) { r.Parent = "x" }), "parent"},
		{"parent that is a hierarchy", change(func(r *raw) { r.Parent = int64(0x40000001) }), "parent 0x40000001: want the handle of a persistent object"},
		{"parent above", change(func(r *raw) { r.Parent = int64(0x82000000) }), "want the handle"},
		{"parent below zero", change(func(r *raw) { r.Parent = int64(-0x7effffff) }), "want the handle"},
		{"no private part", change(func(r *raw) { r.Private = nil }), "2 fields"},
		{"a field behind", change(func(r *raw) { r.Behind = []byte{5, 0} }), "4 fields"},
		{"public part without its size", change(func(r *raw) { r.Public = []byte{1} }), "public part: 1 bytes that do not state their size"},
		{"public part with another size", change(func(r *raw) { r.Public = []byte{0, 2, 9} }), "public part: 3 bytes that do not state"},
		{"empty public part", change(func(r *raw) { r.Public = []byte{0, 0} }), "public part: 0 bytes"},
		{"large public part", change(func(r *raw) { r.Public = append([]byte{4, 1}, make([]byte, 1025)...) }), "public part: 1025 bytes, want 1 to 1024"},
		{"empty private part", change(func(r *raw) { r.Private = []byte{0, 0} }), "private part: 0 bytes"},
		{"large private part", change(func(r *raw) { r.Private = append([]byte{8, 1}, make([]byte, 2049)...) }), "private part: 2049 bytes"},
		{"private part that is a text", change(func(r *raw) { r.Private = "x" }), "private part"},
	} {
		f, err := tss2.Parse(c.text)
		if !errors.Is(err, tss2.ErrFormat) || !strings.Contains(err.Error(), c.want) || !reflect.DeepEqual(f, tss2.File{}) {
			t.Errorf("%s: %+v, %v, want ErrFormat with %q", c.name, f, err, c.want)
		}
	}
}

// An explicit FALSE means the same as none.
func TestWithAuthorisationValue(t *testing.T) {
	r := loadable()
	r.Optional = []asn1.RawValue{tagged(0, 1, 1, 0)}
	if f, err := tss2.Parse(r.pem(t)); err != nil || f.EmptyAuth {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err := tss2.Parse(loadable().pem(t)); err != nil || f.EmptyAuth || !bytes.Equal(f.PEM(), loadable().pem(t)) {
		t.Errorf("%+v, %v", f, err)
	}
}

// What cannot be read is not written.
func TestPEMOfBadFiles(t *testing.T) {
	good := tss2.File{Kind: tss2.Sealed, Parent: parent, Public: make([]byte, tss2.MaxPublic), Private: make([]byte, tss2.MaxPrivate)}
	if back, err := tss2.Parse(good.PEM()); err != nil || !reflect.DeepEqual(back, good) {
		t.Fatalf("the largest file: %v", err)
	}
	for name, f := range map[string]func(*tss2.File){
		"no kind":       func(f *tss2.File) { f.Kind = 0 },
		"no parent":     func(f *tss2.File) { f.Parent = 0 },
		"no public":     func(f *tss2.File) { f.Public = nil },
		"large public":  func(f *tss2.File) { f.Public = make([]byte, tss2.MaxPublic+1) },
		"no private":    func(f *tss2.File) { f.Private = nil },
		"large private": func(f *tss2.File) { f.Private = make([]byte, tss2.MaxPrivate+1) },
	} {
		bad := good
		f(&bad)
		if text := bad.PEM(); text != nil {
			t.Errorf("%s: written as %s", name, text)
		}
	}
}

// What can be read can be written, and is the same when it is read again; reading
// allocates within a bound.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"reporting.pem", "sealed.pem", "openssl.pem"} {
		f.Add(readFile(f, name))
	}
	r := loadable()
	f.Add(r.pem(f))
	r.Optional = []asn1.RawValue{tagged(0, 1, 1, 0)}
	f.Add(r.pem(f))
	f.Fuzz(func(t *testing.T, text []byte) {
		const most = 1 << 20 // 128 times the largest file
		if used := alloctest.Bytes(most, func() { _, _ = tss2.Parse(text) }); used > most {
			t.Errorf("%d bytes of input, %d allocated", len(text), used)
		}
		file, err := tss2.Parse(text)
		if err != nil {
			return
		}
		again, err := tss2.Parse(file.PEM())
		if err != nil || !reflect.DeepEqual(again, file) {
			t.Fatalf("%+v became %+v, %v", file, again, err)
		}
	})
}

// Two files with other bytes are not the same key: but for the two spellings of
// emptyAuth, the bytes in the PEM text are the only ones for their content.
func FuzzMalleability(f *testing.F) {
	for _, name := range []string{"reporting.pem", "sealed.pem"} {
		block, _ := pem.Decode(readFile(f, name))
		f.Add(block.Bytes)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		file, err := tss2.Parse(armour(der))
		if err != nil {
			return
		}
		block, _ := pem.Decode(file.PEM())
		if bytes.Equal(block.Bytes, der) {
			return
		}
		for _, spelling := range [][]byte{{0xa0, 3, 1, 1, 0}, {0xa0, 3, 1, 1, 1}} {
			if bytes.Contains(der, spelling) {
				return
			}
		}
		t.Fatalf("%x is written as %x", der, block.Bytes)
	})
}

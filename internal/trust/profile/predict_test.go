package profile_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/efi"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/format/pe"
	"ward/internal/format/pe/petest"
	"ward/internal/trust/profile"
)

// kernelImage is a unified kernel image with a command line.
func kernelImage(cmdline string, more ...petest.Section) []byte {
	return petest.Build(append([]petest.Section{
		{Name: ".text", Data: "stub"},
		{Name: ".osrel", Data: "ID=pump\n"},
		{Name: ".cmdline", Data: cmdline},
		{Name: ".linux", Data: strings.Repeat("kernel", 1000)},
		{Name: ".initrd", Data: "initramfs"},
	}, more...)...)
}

func sum(data string) pcr.Digest { h := sha256.Sum256([]byte(data)); return h[:] }

func authenticode(t *testing.T, image []byte) pcr.Digest {
	t.Helper()
	i, err := pe.Parse(image)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if err := i.Authenticode(h); err != nil {
		t.Fatal(err)
	}
	return h.Sum(nil)
}

// withoutSecureBoot is the golden boot with Secure Boot off, for what does not
// depend on it.
func withoutSecureBoot(t *testing.T) profile.Profile {
	t.Helper()
	p := golden(t)
	p.PCRs = maps.Clone(p.PCRs)
	delete(p.PCRs, 7)
	return p
}

func predict(t *testing.T, p profile.Profile, a profile.Artefacts) profile.Profile {
	t.Helper()
	next, err := p.Predict(a)
	if err != nil {
		t.Fatal(err)
	}
	encode(t, next) // the events give the values
	return next
}

// wantRegister says what a register must hold by the rules of the specifications
// alone; the virtual device's tests hold the same code against a TPM.
func wantRegister(t *testing.T, p profile.Profile, n int, digests ...pcr.Digest) {
	t.Helper()
	if got, want := p.PCRs[n].Value, extended(t, n, digests...); !bytes.Equal(got, want) {
		t.Errorf("PCR %d: predicted %s, want %s", n, got, want)
	}
}

const calling = "Calling EFI Application from Boot Option" // without a NUL

var separator = sum("\x00\x00\x00\x00")

// Pitfalls seen in Secure Boot boots: PCR 4 holds the action (without a NUL),
// the separator and the Authenticode digest of the unified image; the embedded
// kernel has no event of its own. PCR 11 holds name with NUL, then content, of
// each section in the stub's order. PCR 9 holds the command line as UTF-16LE with
// a NUL, without a newline at its end, then the initramfs. PCR 12 stays zero.
//
// Verifies: SR-001
func TestPredictUnifiedImage(t *testing.T) {
	image := kernelImage("quiet\n")
	p := withoutSecureBoot(t)
	before := encode(t, p)
	next := predict(t, p, profile.Artefacts{Image: image})
	wantRegister(t, next, 4, sum(calling), separator, authenticode(t, image))
	wantRegister(t, next, 9, sum("q\x00u\x00i\x00e\x00t\x00\x00\x00"), sum("initramfs"))
	wantRegister(t, next, 11, sum(".linux\x00"), sum(strings.Repeat("kernel", 1000)), sum(".osrel\x00"), sum("ID=pump\n"),
		sum(".cmdline\x00"), sum("quiet\n"), sum(".initrd\x00"), sum("initramfs"))
	wantRegister(t, next, 12)
	if !bytes.Equal(next.PCRs[0].Value, p.PCRs[0].Value) {
		t.Error("PCR 0 depends on the image")
	}
	if !bytes.Equal(encode(t, p), before) {
		t.Error("the profile was changed")
	}
	if text := next.PCRs[4].Events[2].Text; !strings.HasSuffix(text, `\EFI\BOOT\BOOTX64.EFI`) {
		t.Errorf("the application's path is %q", text)
	}
	other := predict(t, p, profile.Artefacts{Image: kernelImage("quiet ward.debug=1\n")})
	for _, n := range []int{4, 9, 11} {
		if bytes.Equal(other.PCRs[n].Value, next.PCRs[n].Value) {
			t.Errorf("PCR %d does not depend on the command line", n)
		}
	}
}

// A signature is not part of what is measured of an image.
func TestPredictSignedAndUnsignedAlike(t *testing.T) {
	key, cert := newKey(t, "signer", nil, nil)
	image := kernelImage("quiet")
	p := withoutSecureBoot(t)
	a, b := predict(t, p, profile.Artefacts{Image: image}), predict(t, p, profile.Artefacts{Image: sign(t, image, key, cert)})
	if !bytes.Equal(encode(t, a), encode(t, b)) {
		t.Error("signed and unsigned differ")
	}
}

func TestPredictLoadersInOrder(t *testing.T) {
	first, second, image := kernelImage("first"), kernelImage("second"), kernelImage("quiet")
	next := predict(t, withoutSecureBoot(t), profile.Artefacts{Loaders: [][]byte{first, second}, Image: image})
	wantRegister(t, next, 4, sum(calling), separator, authenticode(t, first), authenticode(t, second), authenticode(t, image))
}

func TestPredictPlainKernel(t *testing.T) {
	kernel, cmdline := petest.Build(petest.Section{Name: ".text", Data: "kernel"}), "root=é"
	p := withoutSecureBoot(t)
	next := predict(t, p, profile.Artefacts{Image: kernel, Cmdline: &cmdline, Initrd: []byte("initramfs")})
	wantRegister(t, next, 9, sum("r\x00o\x00o\x00t\x00=\x00\xe9\x00\x00\x00"), sum("initramfs"))
	wantRegister(t, next, 11)
	wantRegister(t, next, 12)
	bare := predict(t, p, profile.Artefacts{Image: kernel, Cmdline: &cmdline})
	wantRegister(t, bare, 9, sum("r\x00o\x00o\x00t\x00=\x00\xe9\x00\x00\x00"))

	// Where the golden boot's loader measured the command line, it will again.
	p.PCRs[12] = register(t, 12, profile.Event{Index: 30, Type: "EV_IPL", Digest: sum("old")})
	measured := predict(t, p, profile.Artefacts{Image: kernel, Cmdline: &cmdline})
	wantRegister(t, measured, 12, sum("r\x00o\x00o\x00t\x00=\x00\xe9\x00\x00\x00"))
}

// A command line over a unified image's own is measured into PCR 12 and is what
// the kernel sees.
func TestPredictOverride(t *testing.T) {
	cmdline := "debug"
	next := predict(t, withoutSecureBoot(t), profile.Artefacts{Image: kernelImage("quiet"), Cmdline: &cmdline})
	utf16 := sum("d\x00e\x00b\x00u\x00g\x00\x00\x00")
	wantRegister(t, next, 9, utf16, sum("initramfs"))
	wantRegister(t, next, 12, utf16)
}

// Sections that older stubs do not know count where the golden boot's stub
// measured one of that name.
func TestPredictNewerSections(t *testing.T) {
	image := kernelImage("quiet", petest.Section{Name: ".sbat", Data: "sbat"})
	p := withoutSecureBoot(t)
	old := predict(t, p, profile.Artefacts{Image: image})
	p.PCRs[11] = register(t, 11, profile.Event{Index: 30, Type: "EV_IPL", Digest: sum(".sbat\x00")}, profile.Event{Index: 31, Type: "EV_IPL", Digest: sum("other")})
	newer := predict(t, p, profile.Artefacts{Image: image})
	if len(old.PCRs[11].Events) != 8 || len(newer.PCRs[11].Events) != 10 || newer.PCRs[11].Events[9].Digest.String() != sum("sbat").String() {
		t.Errorf("%d and %d events", len(old.PCRs[11].Events), len(newer.PCRs[11].Events))
	}
}

// register makes a register of events.
func register(t *testing.T, n int, events ...profile.Event) profile.Register {
	t.Helper()
	var digests []pcr.Digest
	for _, e := range events {
		digests = append(digests, e.Digest)
	}
	return profile.Register{Value: extended(t, n, digests...), Events: events}
}

func TestPredictRefuses(t *testing.T) {
	cmdline := "x"
	image := kernelImage("quiet")
	with := func(n int, events ...profile.Event) profile.Profile {
		p := withoutSecureBoot(t)
		p.PCRs[n] = register(t, n, events...)
		return p
	}
	action := profile.Event{Index: 3, Type: "EV_EFI_ACTION", Digest: sum("Returning from EFI Application from Boot Option"), Data: []byte("Returning from EFI Application from Boot Option")}
	application := profile.Event{Index: 4, Type: "EV_EFI_BOOT_SERVICES_APPLICATION", Digest: sum("app")}
	for name, c := range map[string]struct {
		profile   profile.Profile
		artefacts profile.Artefacts
		says      string
	}{
		"not an image":                     {golden(t), profile.Artefacts{Image: []byte("hello")}, "unreadable artefact: parse PE image"},
		"a loader that is no image":        {golden(t), profile.Artefacts{Image: image, Loaders: [][]byte{{}}}, "loader 1"},
		"a plain kernel without a line":    {withoutSecureBoot(t), profile.Artefacts{Image: petest.Build(petest.Section{Name: ".text", Data: "x"})}, "no command line is given"},
		"an initramfs beside a unified":    {withoutSecureBoot(t), profile.Artefacts{Image: image, Initrd: []byte("x")}, "none can be given apart"},
		"no application in the boot":       {with(4), profile.Artefacts{Image: image}, "no EV_EFI_BOOT_SERVICES_APPLICATION"},
		"an event behind the application":  {with(4, application, profile.Event{Index: 9, Type: "EV_IPL", Digest: sum("x")}), profile.Artefacts{Image: image}, "EV_IPL behind an application (event 9)"},
		"a boot option that failed before": {with(4, action, application), profile.Artefacts{Image: image}, "another boot option failed first (event 3)"},
		"a loader that measures into 9":    {with(9, profile.Event{Index: 9, Type: "EV_IPL", Digest: sum("grub")}), profile.Artefacts{Image: image}, "PCR 9: in the golden boot a loader measured"},
		"an override in the golden boot":   {with(12, profile.Event{Index: 9, Type: "EV_IPL", Digest: sum("credential")}), profile.Artefacts{Image: image}, "PCR 12: in the golden boot something from outside"},
		"an override under Secure Boot":    {golden(t), profile.Artefacts{Image: image, Cmdline: &cmdline, Variables: admitted(t, image)}, "no other command line"},
		"two command lines":                {withoutSecureBoot(t), profile.Artefacts{Image: kernelImage("a", petest.Section{Name: ".cmdline", Data: "b"})}, "2 sections .cmdline"},
		"a section that becomes archives":  {withoutSecureBoot(t), profile.Artefacts{Image: kernelImage("a", petest.Section{Name: ".pcrpkey", Data: "b"})}, "section .pcrpkey"},
		"a stub that adds os-release":      {withoutSecureBoot(t), profile.Artefacts{Image: kernelImage("a", petest.Section{Name: ".sdmagic", Data: "#### LoaderInfo: systemd-stub 257.4-1 ####"})}, "systemd-stub 257 adds os-release"},
		"a variable without PCR 7":         {withoutSecureBoot(t), profile.Artefacts{Image: image, Variables: map[string][]byte{"db": nil}}, "cannot be replaced"},
		"a variable that was not measured": {golden(t), profile.Artefacts{Image: image, Variables: map[string][]byte{"dbr": nil}}, `variable "dbr"`},
		"a variable that is no list":       {golden(t), profile.Artefacts{Image: image, Variables: map[string][]byte{"db": {1}}}, "unreadable artefact: variable \"db\""},
		"a switch of two bytes":            {golden(t), profile.Artefacts{Image: image, Variables: map[string][]byte{"SecureBoot": {1, 1}}}, "want one byte"},
		"unsigned under Secure Boot":       {golden(t), profile.Artefacts{Image: image}, "it is not signed"},
	} {
		if _, err := c.profile.Predict(c.artefacts); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s gives %v, want an error with %q", name, err, c.says)
		}
	}
}

// admitted is a db that holds an image's hash.
func admitted(t *testing.T, image []byte) map[string][]byte {
	t.Helper()
	return map[string][]byte{"db": hashList(authenticode(t, image))}
}

func hashList(digest []byte) []byte {
	b := append([]byte(nil), efi.CertSHA256[:]...)
	b = append(b, 28+48, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0)
	return append(append(b, make([]byte, 16)...), digest...)
}

func newKey(t *testing.T, name string, authority *x509.Certificate, by crypto.Signer) (crypto.Signer, *x509.Certificate) {
	t.Helper()
	key, cert, err := petest.Key(name, authority, by)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

func sign(t *testing.T, image []byte, key crypto.Signer, certs ...*x509.Certificate) []byte {
	t.Helper()
	b, err := petest.Sign(image, key, certs...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// authorities are the entries of db that were measured, as text.
func authorities(p profile.Profile) []string {
	var list []string
	for _, e := range p.PCRs[7].Events {
		if e.Type == "EV_EFI_VARIABLE_AUTHORITY" {
			list = append(list, e.Text)
		}
	}
	return list
}

// The entry of db that admits an image is the first to which its signature
// leads: the signer's or that of an authority above it.
//
// Verifies: SR-001
func TestPredictAuthority(t *testing.T) {
	rootKey, root := newKey(t, "root", nil, nil)
	middleKey, middle := newKey(t, "middle", root, rootKey)
	key, cert := newKey(t, "signer", middle, middleKey)
	_, stranger := newKey(t, "stranger", nil, nil)
	_, forged := newKey(t, "root", nil, nil) // the same name, another key
	image := kernelImage("quiet")
	whole := sign(t, image, key, cert, middle)
	digest := authenticode(t, image)
	changed := bytes.Clone(whole)
	changed[petest.HeaderEnd] ^= 1
	for name, c := range map[string]struct {
		image   []byte
		db, dbx []byte
		want    string // text of the authority, or of the error
	}{
		"the signer":                 {whole, petest.SignatureList(stranger.Raw, cert.Raw), nil, "authority db: CN=signer"},
		"its issuer":                 {whole, petest.SignatureList(stranger.Raw, middle.Raw), nil, "authority db: CN=middle"},
		"the root above":             {whole, petest.SignatureList(root.Raw, stranger.Raw), nil, "authority db: CN=root"},
		"the first of several":       {whole, petest.SignatureList(root.Raw, cert.Raw), nil, "authority db: CN=root"},
		"a certificate before hash":  {whole, slices.Concat(hashList(digest), petest.SignatureList(cert.Raw)), nil, "authority db: CN=signer"},
		"the hash":                   {image, slices.Concat(petest.SignatureList(stranger.Raw), hashList(digest)), nil, "authority db: hash " + digest.String()},
		"the hash of a signed one":   {whole, hashList(digest), nil, "authority db: hash " + digest.String()},
		"strangers":                  {whole, petest.SignatureList(stranger.Raw), nil, "no entry of db admits its signature"},
		"a root of the same name":    {whole, petest.SignatureList(forged.Raw), nil, "no entry of db admits"},
		"the chain is not with it":   {sign(t, image, key, cert), petest.SignatureList(root.Raw), nil, "no entry of db admits"},
		"an empty db":                {whole, nil, nil, "no entry of db admits"},
		"unsigned":                   {image, petest.SignatureList(cert.Raw), nil, "it is not signed"},
		"forbidden by hash":          {whole, petest.SignatureList(cert.Raw), hashList(digest), "dbx forbids it"},
		"forbidden by issuer":        {whole, petest.SignatureList(cert.Raw), petest.SignatureList(middle.Raw), "dbx forbids it"},
		"changed after signing":      {changed, petest.SignatureList(cert.Raw), nil, "it is of another image"},
		"a list of no certificate":   {whole, petest.SignatureList([]byte("none"), cert.Raw), nil, "authority db: CN=signer"},
		"a signature of another key": {sign(t, image, middleKey, cert), petest.SignatureList(cert.Raw), nil, "the signer's key did not make it"},
	} {
		p, err := golden(t).Predict(profile.Artefacts{Image: c.image, Variables: map[string][]byte{"db": c.db, "dbx": c.dbx}})
		switch got := authorities(p); {
		case err != nil && !strings.Contains(err.Error(), c.want), err == nil && !slices.Equal(got, []string{c.want}):
			t.Errorf("%s: authorities %q, error %v; want %q", name, got, err, c.want)
		}
	}
}

// sbsign is an independent maker of signatures.
func TestPredictAuthorityOfSbsign(t *testing.T) {
	if _, err := exec.LookPath("sbsign"); err != nil {
		t.Skip("sbsign is not installed")
	}
	dir := t.TempDir()
	key, cert := newKey(t, "signer", nil, nil)
	_, stranger := newKey(t, "stranger", nil, nil)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	image := kernelImage("quiet")
	for name, b := range map[string][]byte{
		"key":   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"cert":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
		"image": image,
	} {
		if err := os.WriteFile(file(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("sbsign", "--key", file("key"), "--cert", file("cert"), "--output", file("signed"), file("image")).CombinedOutput(); err != nil {
		t.Fatalf("sbsign: %v: %s", err, out)
	}
	signed, err := os.ReadFile(file("signed"))
	if err != nil {
		t.Fatal(err)
	}
	p := predict(t, golden(t), profile.Artefacts{Image: signed, Variables: map[string][]byte{"db": petest.SignatureList(stranger.Raw, cert.Raw)}})
	if got := authorities(p); !slices.Equal(got, []string{"authority db: CN=signer"}) {
		t.Errorf("authorities %q", got)
	}
	wantRegister(t, p, 4, sum(calling), separator, authenticode(t, image))
}

// The firmware measures an authority once, however many applications it admits;
// those that admitted its own drivers come first and stay, and so do those of
// loaders.
func TestPredictAuthoritiesOnce(t *testing.T) {
	keyA, certA := newKey(t, "a", nil, nil)
	keyB, certB := newKey(t, "b", nil, nil)
	db := map[string][]byte{"db": petest.SignatureList(certA.Raw, certB.Raw)}
	a, b := sign(t, kernelImage("a"), keyA, certA), sign(t, kernelImage("b"), keyB, certB)
	for name, c := range map[string]struct {
		loaders [][]byte
		image   []byte
		want    []string
	}{
		"one key": {[][]byte{a, a}, a, []string{"authority db: CN=a"}},
		"two":     {[][]byte{a, b}, a, []string{"authority db: CN=a", "authority db: CN=b"}},
		"order":   {[][]byte{b}, a, []string{"authority db: CN=b", "authority db: CN=a"}},
	} {
		p := predict(t, golden(t), profile.Artefacts{Loaders: c.loaders, Image: c.image, Variables: db})
		if got := authorities(p); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}

	authority := func(vendor efi.GUID, name string, cert *x509.Certificate, index int) profile.Event {
		data := efi.Variable{Vendor: vendor, Name: name, Data: efi.Signature{Data: cert.Raw}.Bytes()}.Bytes()
		return profile.Event{Index: index, Type: "EV_EFI_VARIABLE_AUTHORITY", Digest: pcr.SHA256.Sum(data), Text: name + " of " + cert.Subject.CommonName, Data: data}
	}
	p := golden(t)
	events := slices.DeleteFunc(slices.Clone(p.PCRs[7].Events), func(e profile.Event) bool { return e.Type == "EV_EFI_VARIABLE_AUTHORITY" })
	events = append(events, authority(efi.ImageSecurity, "db", certB, p.BootPhase-1), authority(efi.ImageSecurity, "db", certA, p.BootPhase+1),
		authority(efi.GUID{1}, "Shim", certA, p.BootPhase+2))
	p.PCRs[7] = register(t, 7, events...)
	unsigned := kernelImage("admitted by the loader")
	next := predict(t, p, profile.Artefacts{Loaders: [][]byte{b}, Image: unsigned, Variables: db})
	if got, want := authorities(next), []string{"db of b", "Shim of a"}; !slices.Equal(got, want) {
		t.Errorf("with a driver's and a loader's: %q, want %q", got, want)
	}
}

// With Secure Boot off nothing admits an image, and no authority is measured.
func TestPredictSecureBootOff(t *testing.T) {
	p := golden(t)
	next := predict(t, p, profile.Artefacts{Image: kernelImage("quiet"), Variables: map[string][]byte{"SecureBoot": {0}}})
	if bytes.Equal(next.PCRs[7].Value, p.PCRs[7].Value) || next.PCRs[7].Events[0].Text != "SecureBoot disabled" {
		t.Errorf("%+v", next.PCRs[7].Events[0])
	}
}

// PCR 7 of every log of a real machine comes out again where its variables and
// authorities are made anew from what they say.
//
// Verifies: SR-001
func TestSecureBootRegisterRemade(t *testing.T) {
	logs, err := filepath.Glob("../../../../shared/corpus/eventlog/*.bin")
	if err != nil {
		t.Fatal(err)
	}
	logs = append(logs, "../../format/eventlog/testdata/qemu-x86_64.bin", "testdata/arch-linux-workstation.bin")
	remade := 0
	for _, name := range logs {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		log, err := eventlog.Parse(raw)
		if err != nil {
			continue
		}
		bank, err := log.Replay(pcr.SHA256)
		if err != nil {
			continue // SHA-1 only
		}
		var digests []pcr.Digest
		for _, e := range log.Events {
			if e.PCR != 7 || !e.Extends() {
				continue
			}
			d, _ := e.Digest(pcr.SHA256)
			if e.Type == eventlog.EVEFIVariableConfig || e.Type == eventlog.EVEFIVariableAuth && e.Vouched() {
				v, err := efi.ParseVariable(e.Data)
				if err != nil {
					t.Errorf("%s: event %d: %v", name, e.Index, err)
				}
				d = pcr.SHA256.Sum(v.Bytes())
				remade++
			}
			digests = append(digests, d)
		}
		if got := extended(t, 7, digests...); got.String() != bank.Value(7).String() {
			t.Errorf("%s: %s, want %s", name, got, bank.Value(7))
		}
	}
	if remade < 10 {
		t.Errorf("only %d events were made anew", remade)
	}
}

// The capture's own variables, given again, change nothing but the authority,
// which depends on who signs the next image.
//
// Verifies: SR-001
func TestPredictionHoldsForTheCapture(t *testing.T) {
	p := golden(t)
	variables := make(map[string][]byte)
	var owner efi.Signature
	for _, e := range p.PCRs[7].Events {
		v, err := efi.ParseVariable(e.Data)
		if err != nil {
			continue // the separator
		}
		if e.Type == "EV_EFI_VARIABLE_AUTHORITY" {
			if owner, err = efi.ParseSignature(v.Data); err != nil {
				t.Fatal(err)
			}
			continue
		}
		variables[v.Name] = v.Data
	}
	lists, err := efi.ParseSignatureLists(variables["db"])
	if err != nil || len(variables) != 5 {
		t.Fatal(variables, err)
	}
	if entry := lists[0].Signatures[0]; !bytes.Equal(entry.Bytes(), owner.Bytes()) {
		t.Fatal("the capture's authority is not its db's entry")
	}
	// An image that the same entry admits is not at hand; its hash beside the
	// entry gives all but the last event of PCR 7.
	image := kernelImage("quiet")
	variables["db"] = slices.Concat(variables["db"], hashList(authenticode(t, image)))
	next := predict(t, p, profile.Artefacts{Image: image, Variables: variables})
	for i, e := range next.PCRs[7].Events {
		same := bytes.Equal(e.Digest, p.PCRs[7].Events[i].Digest)
		if changed := i == 3 || i == len(next.PCRs[7].Events)-1; same == changed {
			t.Errorf("event %d, %s: the same %t", i, e.Text, same)
		}
	}
	for _, n := range []int{0, 2, 3, 6, 8, 12, 14} {
		if !bytes.Equal(next.PCRs[n].Value, p.PCRs[n].Value) {
			t.Errorf("PCR %d depends on the image", n)
		}
	}
}

package verdict_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/finding"
	"ward/internal/trust/verdict"
)

var update = flag.Bool("update", false, "rewrite the golden verdicts of docs/contract")

// The golden verdicts of docs/contract are what this code writes, and keep their
// schema.
//
// Verifies: SR-031 SR-080
func TestContract(t *testing.T) {
	good := verdict.Of(appraisal.Result{
		Verdict: appraisal.Affirming, Events: 87, IMAEntries: 412,
		Claims: map[appraisal.Claim]appraisal.Tier{appraisal.ClaimRelease: appraisal.Affirming, appraisal.ClaimQuote: appraisal.Affirming, appraisal.ClaimBoot: appraisal.Affirming},
	})
	good.Boot, good.Asked, good.Release, good.Version = "2a1b3c4d-0000-4000-8000-000000000001", true, pcr.SHA256.Sum([]byte("manifest")), "4.2.0"
	good.Components = &verdict.Components{Known: 3, Running: []string{"openssl@3.5.0-r0", "pump@4.2.0"}}
	bad := verdict.Of(appraisal.Result{
		Verdict:  appraisal.Contraindicated,
		Claims:   map[appraisal.Claim]appraisal.Tier{appraisal.ClaimQuote: appraisal.Contraindicated},
		Findings: []finding.Finding{finding.New(finding.QuoteOtherKey, "boot quote: the quote is not signed by this attestation key")},
	})
	bad.Boot = good.Boot
	open := verdict.Of(appraisal.Result{
		Verdict:  appraisal.Contraindicated,
		Claims:   map[appraisal.Claim]appraisal.Tier{appraisal.ClaimQuote: appraisal.Affirming, appraisal.ClaimPosture: appraisal.Contraindicated},
		Findings: []finding.Finding{finding.New(finding.PostureSocket, "net.listening: not released: tcp 0.0.0.0:4444 /usr/~0123456789ab")},
	})
	open.Boot, open.Asked, open.Release, open.Version = good.Boot, true, good.Release, good.Version
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile("../../../docs/schema/verdict.v1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]verdict.Verdict{"verdict-affirming": good, "verdict-contraindicated": bad, "verdict-posture": open} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		file := "../../../docs/contract/" + name + ".json"
		if *update {
			if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := bytes.TrimSpace(golden); !bytes.Equal(b, want) {
			t.Errorf("%s is written as\n%s\nand the contract says\n%s", name, b, want)
		}
		read, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(read); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The zero verdict is no pass.
func TestZero(t *testing.T) {
	var v verdict.Verdict
	if v.Verdict != appraisal.None || verdict.Of(appraisal.Result{}).Verdict != appraisal.None {
		t.Errorf("%+v", v)
	}
}

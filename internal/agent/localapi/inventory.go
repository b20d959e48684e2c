package localapi

import "context"

// inventoryPath is where the device's software is read.
const inventoryPath = "/v1/inventory"

// Inventory is the software of the device, as GET /v1/inventory gives it.
type Inventory struct {
	Ward       string   `json:"ward,omitempty"` // version of wardd; empty: it does not run
	Kernel     string   `json:"kernel"`         // release of the kernel that runs, as uname -r gives it
	Boot       string   `json:"boot"`
	Release    Release  `json:"release"`
	SBOM       *SBOM    `json:"sbom,omitempty"`   // absent: the release names none
	Components int      `json:"components"`       // of the release's files
	Known      bool     `json:"known"`            // which components ran is known
	Running    []string `json:"running"`          // components that ran since boot, name@version, sorted
	Reason     string   `json:"reason,omitempty"` // why it is not known
}

// SBOM is the image's software bill of materials as the manifest names it.
type SBOM struct {
	Digest    string `json:"digest"` // SHA-256
	MediaType string `json:"mediaType"`
	Path      string `json:"path,omitempty"` // on the device; empty: it is not there
}

// TellInventory is the action that tells the software, to all who may read.
func TellInventory(tell func() Inventory) Action {
	return Action{Pattern: "GET " + inventoryPath, Who: Readers, Do: func(context.Context, Request) (any, error) { return tell(), nil }}
}

// Inventory asks for the device's software.
func (c *Client) Inventory(ctx context.Context) (Inventory, error) {
	var i Inventory
	return i, c.get(ctx, inventoryPath, nil, &i)
}

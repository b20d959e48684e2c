package finding

// Codes about the release's components and which of them run.
const (
	InventoryNoComponent Code = "inventory.no-component"
	InventoryUnreadable  Code = "inventory.unreadable"
)

var inventoryCodes = []Definition{
	{InventoryNoComponent, Medium, Incident, "a released program ran that is in no SBOM",
		"The program is of the release, and the release's SBOM names no component for it: nobody looks for its vulnerabilities.",
		"Nothing need be done at the device. The manufacturer adds the program to the SBOM of the next release.", []string{"IEC 62443-4-2 CR 7.8", "FDA App. 1 H"}},
	{InventoryUnreadable, Medium, Condition, "which components run cannot be told",
		"The evidence holds a set of the components that ran, and it is not one of the release that the evidence names.",
		"Ask the device for evidence again. If it stays, power the device off and on, and report it to the manufacturer.", []string{"IEC 62443-4-2 CR 7.8", "FDA App. 1 H"}},
}

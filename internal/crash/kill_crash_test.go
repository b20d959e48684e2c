//go:build crash

package crash

import "testing"

// kills of the long campaign.
const kills = 500

// Verifies: SR-073
func TestCrashKilledDaemonLosesNothing(t *testing.T) {
	newCampaign(t).run(kills)
}

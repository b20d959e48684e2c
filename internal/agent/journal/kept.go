package journal

import (
	"context"
	"fmt"

	"ward/internal/trust/finding"
)

// tellGone records that damaged segments were recycled, since the room for
// keeping them aside was used up.
func (j *Journal) tellGone(ctx context.Context) {
	k := j.log.Kept()
	j.mu.Lock()
	fresh := k.Gone - j.gone
	j.gone = k.Gone
	j.mu.Unlock()
	if fresh > 0 {
		j.note(ctx, incident(finding.JournalCorrupt,
			fmt.Sprintf("%d damaged segments were recycled: %d files of %d bytes are kept aside, and there is no room for more", fresh, k.Files, k.Bytes)))
	}
}

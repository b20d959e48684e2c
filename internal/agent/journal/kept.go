package journal

import (
	"context"
	"fmt"

	"ward/internal/trust/finding"
)

// tellGone records that damaged segments were recycled, since the room for
// keeping them aside was used up. Run alone calls it.
func (j *Journal) tellGone(ctx context.Context) {
	if gone := j.log.Kept().Gone; gone > j.gone {
		j.gone = gone
		j.note(ctx, incident(finding.JournalCorrupt,
			fmt.Sprintf("%d damaged segments were recycled since the start: there is no room to keep more of them aside", gone)))
	}
}

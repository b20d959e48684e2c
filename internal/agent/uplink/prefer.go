package uplink

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// DefaultPreferAfter is the middle of the waits, at a broker that is not the first,
// before those that come before it are tried again. Half of it is jitter in either
// direction, which keeps a fleet from coming back all at once.
const DefaultPreferAfter = 10 * time.Minute

// errBetter: a connection stands to a broker that is preferred.
var errBetter = errors.New("a preferred broker is there again")

// preference is the way back to a broker that comes earlier in the order. The
// connection that stands is kept, and used, until the better one stands: then the
// broker of the old one is told farewell without a last will, and the birth goes to
// the new one. What the fleet had not confirmed goes up again, in its order.
type preference struct {
	trying chan *standing // a try that runs; it gives nil when none of them is there
	found  *standing      // one that is to be used next
}

// lookUp fires when brokers before the one of this rank should be tried.
func (u *Uplink) lookUp(rank int) <-chan time.Time {
	if rank == 0 {
		return nil
	}
	return time.After(u.config.PreferAfter/2 + rand.N(u.config.PreferAfter))
}

// tryBetter tries the brokers before a rank. That none is there is no finding: the
// link stands.
func (u *Uplink) tryBetter(ctx context.Context, rank int) {
	if u.preference.trying != nil {
		return
	}
	result := make(chan *standing, 1)
	u.preference.trying = result
	go func() {
		var st *standing
		if config, err := u.credentials(ctx); err == nil {
			st, _, _ = u.dial(ctx, config, u.config.Brokers[:rank])
		}
		result <- st
	}()
}

// better is a connection to a preferred broker, if there is one: a try that began
// while the last connection stood is waited for, since a broker that is one with
// the other ends that when it admits this.
func (u *Uplink) better(ctx context.Context) *standing {
	for u.preference.trying != nil {
		select {
		case u.preference.found = <-u.preference.trying:
			u.preference.trying = nil
		case <-time.After(aliveEvery):
			u.config.Alive()
		}
	}
	st := u.preference.found
	u.preference.found = nil
	return st
}

// giveUpBetter closes what nobody will use; its context has ended.
func (u *Uplink) giveUpBetter() {
	if st := u.better(context.Background()); st != nil {
		st.conn.Close()
	}
}

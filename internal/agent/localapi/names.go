package localapi

import (
	"context"
	"net/url"
)

// namesPath is where hidden names are revealed.
const namesPath = "/v1/names"

// Watch is what of files and programs is seen as it happens (docs/runtime.md).
type Watch struct {
	Changes  string   `json:"changes"`           // "fanotify" or empty
	Programs []string `json:"programs"`          // "ima", "fanotify"
	Blind    []Blind  `json:"blind"`             // what is not watched
	Missing  string   `json:"missing,omitempty"` // why changes are not seen
}

// Blind is a file system that is not watched, or not wholly.
type Blind struct {
	Mount  string `json:"mount"`
	Type   string `json:"type"`
	Reason string `json:"reason"`
}

// Name is a path that left the device hidden, in clear.
type Name struct {
	Hidden string `json:"hidden"`
	Path   string `json:"path"` // any bytes that JSON can carry; others are replaced
}

// names are the answer.
type names struct {
	Names []Name `json:"names"`
}

// TellNames is the action that reveals hidden names, one or all that are known: for
// readers, as they stand at the device.
func TellNames(tell func(hidden string) []Name) Action {
	return Action{Pattern: "GET " + namesPath, Who: Readers, Do: func(_ context.Context, r Request) (any, error) {
		return names{tell(r.Query.Get("hidden"))}, nil
	}}
}

// Names asks for the clear name of a hidden path, or for all with an empty one.
func (c *Client) Names(ctx context.Context, hidden string) ([]Name, error) {
	var n names
	err := c.get(ctx, namesPath, url.Values{"hidden": {hidden}}, &n)
	return n.Names, err
}

package diff

import "ward/internal/trust/baseline"

// Files is a baseline that is asked for single paths: a baseline.Index.
type Files interface {
	Entry(path string) (baseline.Entry, bool, error)
	Ancestor(path string) string
}

// At compares what stands at one path with the release, as Compare does for all: have
// is nil where nothing stands there, failed says that it could not be read. False:
// there is no difference. An error means that the baseline could not be asked.
func At(files Files, path string, have *baseline.Entry, failed error) (Difference, bool, error) {
	d := Difference{Path: path, Kind: New, Have: have}
	want, named, err := files.Entry(path)
	if err != nil {
		return Difference{}, false, err
	}
	if named {
		d.Want, d.Component, d.Kind = &want, want.Component, Changed
	} else {
		above := files.Ancestor(path)
		folder, _, err := files.Entry(above)
		if err != nil {
			return Difference{}, false, err
		}
		d.Listed, d.Folder = above == baseline.Parent(path), folder.Flags
	}
	if have == nil && failed == nil {
		d.Kind = Missing
		return d, named, nil
	}
	return d, d.settle(differences, failed), nil
}

package diff

import "ward/internal/trust/baseline"

// Steps are Compare step by step, for who must know what the release says of a path
// before it reads what stands there: Want, then Judge, for each path in its order,
// and Finish.
type Steps struct{ m merge }

// NewSteps begins a comparison. tell gets each difference, as Compare's does.
func NewSteps(want *baseline.Reader, tell func(Difference)) (*Steps, error) {
	s := &Steps{merge{want: want, tell: tell, differ: differences}}
	return s, s.m.advance()
}

// Want is what the release has at a path, nil where it names nothing there. What
// the release has before it and the device does not is told.
func (s *Steps) Want(path string) (*baseline.Entry, error) {
	if err := s.m.missing(path); err != nil || !s.m.more || s.m.next.Path != path {
		return nil, err
	}
	return &s.m.next, nil
}

// Judge compares what stands at the path of the last Want. The entry is not kept
// beyond the call of tell; failed says that it could not be read.
func (s *Steps) Judge(have *baseline.Entry, failed error) error { return s.m.judge(have, failed) }

// Beneath says whether the release names anything in the folder that was judged
// last.
func (s *Steps) Beneath(folder string) bool {
	return s.m.more && s.m.next.Path != folder && baseline.Within(s.m.next.Path, folder)
}

// Pass tells nothing beneath a folder as missing: it is not looked into.
func (s *Steps) Pass(folder string) {
	if s.m.closed == "" || !baseline.Within(folder, s.m.closed) {
		s.m.closed = folder
	}
}

// Finish tells what the release has behind the last path.
func (s *Steps) Finish() error { return s.m.missing("") }

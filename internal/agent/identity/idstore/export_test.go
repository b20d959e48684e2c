package idstore

// SetStep has a test called after each change of the disk.
func (s *Store) SetStep(step func(change string)) { s.step = step }

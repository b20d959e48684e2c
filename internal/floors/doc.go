// Package floors holds the architecture as a test: which package may import
// which, what the pure floors may not do, who alone may use a library, and how
// large files and packages may grow. The rules stand in rules_test.go, each
// with its reason; a rule that turns out wrong is changed there.
package floors

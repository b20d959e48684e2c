// Package regulatory holds the checks of docs/regulatory as tests: every
// requirement is verified by a test, and every test names requirements that
// exist. It supports IEC 62304 clause 5.7.4.
package regulatory

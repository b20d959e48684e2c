// Package crash is a package of tests alone: it runs the real wardd as a process,
// with a software TPM, a real broker over mutual TLS and the real ear of the fleet
// (docs/asyncapi.yaml, blueprint sections 6 and 7), kills it at random points under
// load and holds what its journal, the broker and the fleet show against what was
// promised: what was durable stays, nothing is told twice. The long campaigns have
// the build tag crash (make crash); a short form is among the ordinary tests.
package crash

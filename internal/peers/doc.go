// Package peers holds Ward against other programs for the same work: the
// libraries go-attestation and tcglog-parser, and the tools tpm2_eventlog,
// tpm2_checkquote, tpm2_quote and evmctl. It reads real event logs and thousands
// of changed ones (TCG PC Client Platform Firmware Profile, section 10), and
// says for each way of changing what Ward must answer and what each peer
// answers. The registrar meets GlobalSign's EST client and server there, through
// the program in folder est. It is a module of its own: nothing of it, and none of the libraries
// that it needs, is part of a program that ships.
package peers

// Package bench measures Ward against the budgets of its design, with other
// programs beside it in the same run (TCG event logs, IMA lists, the daemon's
// first verdict, the record on its disk). It decides no test: make bench prints
// its table.
package bench

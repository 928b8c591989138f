// Package bench measures Catbird against bars, each figure as a ratio of two
// sides that ran in one process on one machine, one after another, several
// times in turn. Absolute numbers depend on the machine; the ratios much less.
//
// It starts its own PostgreSQL on a free port and bounds every load in count
// and time. It is a tool for developers and not part of the server.
package bench

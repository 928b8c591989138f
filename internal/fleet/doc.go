// Package fleet runs clusters of server processes: for what must see real
// signals, real crashes and real networks, such as benchmarks and chaos.
//
// It starts nodes one by one, follows what they log, tells where they listen,
// and ends them, in order or not. No node outlives the process that started it.
//
// The package knows the server's program, its settings and the log lines that
// tell of its life. It knows no database, no Redis and no client, which the
// caller brings along, and nothing of what nodes are asked.
package fleet

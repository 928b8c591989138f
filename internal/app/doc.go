// Package app builds the parts of a node, starts them, drains them and stops
// them. It is the only place that knows every part, and it holds no rule of its
// own about conversations.
//
// A node's life:
//
//	joining ──► ready ──► leaving ──► gone
//	   └─────────────────────▲
//
//	joining   listening; the database is migrated, a session begun; not ready
//	ready     serving
//	leaving   serving still, not ready, telling clients to reconnect
//	gone      everything is stopped
//
// What holds in them:
//  1. A node that cannot reach its database goes on trying, alive but not
//     ready, and refuses clients with a retryable error.
//  2. Whatever New or Start made is undone by Stop, last made first undone,
//     each step named and bounded; a failed start goes the same way.
//  3. The listeners end before the actors, the actors before the session, the
//     session before the store: no acknowledged change can be lost on the way.
//
// Nodes start whole within a process, on ports of the system's choice: that is
// how tests use them.
package app

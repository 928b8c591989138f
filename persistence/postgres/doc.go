// Package postgres implements [persistence.Store] on PostgreSQL 14 or newer,
// also on databases that a server of before has filled and goes on using.
//
// How a change is stored:
//
//   - Its transaction is READ COMMITTED. The first statement locks the rows of
//     all its conversations in the order of their ids; everything is read and
//     checked in later statements, which therefore see what the lock protects.
//     Whoever writes a members row holds its conversation's lock, so no two
//     writers wait for each other in a circle.
//   - An append travels in one flight: the statements of a pipeline up to its
//     Sync are one transaction, so no round trip happens while rows are locked.
//     Where a decision lies between reading and writing (Direct, Create) there
//     are two flights, and the server ends a transaction that idles for a
//     second.
//   - Later statements of a flight ask whether an earlier one has written a
//     conversation's row by comparing the row's xmin with the transaction's own
//     id.
//
// Connections come in three pools out of one budget: one connection for
// sessions, which must be renewed however busy the rest is; a few for the
// journal and claims; the rest for reads and direct writes.
//
// The log may hold rows of the old server: without a seq, with one that is
// taken, several commits at one epoch. Our own rows carry a mark (catbird_v),
// unique indexes are over marked rows only, and reads merge both kinds in the
// order (seq, created_at, id), rows without a seq first.
//
// The package does not decide what a command does (package conversation does),
// and knows no actors, no HTTP and no cluster.
package postgres

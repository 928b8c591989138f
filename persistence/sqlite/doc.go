// Package sqlite is the embedded default: persistence.Store in one SQLite file
// (modernc.org/sqlite through database/sql), for one node without a database
// server.
//
// One process has the file at a time, by a lock on a file beside it. One
// connection writes, several read, each read one snapshot of the write-ahead
// log. A write transaction begins IMMEDIATE, so that writers stand in one line
// and what a transaction has read stays true until it commits; that takes the
// place of the row locks that PostgreSQL needs (rules 5, 6 and 23 of
// docs/architecture.md). A commit is synced to the disk before it is answered.
//
// Statements are not interrupted: each is bounded by the limits of what it is
// asked for, and a caller's context is looked at before a connection is taken,
// between the steps of long work, and before a commit.
//
// The package decides nothing about a conversation: that is package
// conversation's. It does not know actors, clusters or HTTP.
package sqlite

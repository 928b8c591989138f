// Package apptest starts whole nodes within a test's process, on each database
// that there is, puts load on them, and keeps the books: what was acknowledged
// must be stored, once and where the node said, and what was refused must not.
//
// It is for tests. What it knows of a node it sees through the two ports.
package apptest

// Package persistence says what Catbird asks of a database: the types that
// travel, the errors that a caller decides on, and [Store], which the packages
// postgres and sqlite implement and the package storetest holds them to.
//
// The store has the last word. Every change of a conversation is a conditional
// append under the lock of the conversation's row: it happens only where the
// conversation is still what the change was built on. Neither a lease nor a
// clock is needed for that.
//
// The package does not know actors, clusters or HTTP, and does not decide what
// a command does: it stores what package conversation has decided.
package persistence

// Package memstore is a database for tests: sessions, claims, conditional
// appends, lookups and unread counts as package persistence describes them, in
// memory, with every way to fail that a database behind a network has.
//
// Every statement runs at one instant, under one lock, so that tests know what
// really happened and when: [Store.OnCommit] is told at that instant, and
// [Store.Check] holds a conversation's whole log to its invariants. What a
// caller learns of it is up to [Store.SetFaults]: a reply may be late or lost,
// and a statement whose caller has given up may still run, or run later.
//
// It does not read the log for clients, keeps no welcomes, and is not meant to
// be fast.
package memstore

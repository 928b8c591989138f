// Package actor serves conversations from memory: one actor each, a bounded
// mailbox, group commit, and readers that take no lock.
//
// # An actor's life
//
//	          first request                claim granted
//	(none) ────────────────▶ loading ───────────────────▶ active
//	   ▲                        │ held elsewhere, not found,  │ idle, least recently
//	   │                        │ database gone               │ used, wanted, crashed
//	   └────────── gone ◀───────┴──────────── releasing ◀─────┘
//
// An actor is registered before its claim is sent, and it is releasing before
// its claim is given back. An idle actor is data: it has no goroutine and no
// timer. A goroutine runs for it only while its mailbox holds something.
//
// # Invariants
//
//  1. An actor serves only what it has claimed in the database, under a session
//     that is still trusted. Loading always claims, and every claim raises the
//     fence.
//  2. At most one append of an actor is on its way.
//  3. While an append that changes epoch or members is on its way, the snapshot
//     is silent: readers ask the database.
//  4. All answers of a batch, refusals too, go out after its append is stored.
//  5. After an append whose outcome is unknown nothing is believed until the
//     conversation has been claimed anew.
//  6. The snapshot is dropped before the claim is released.
//
// Rules by number are those of docs/architecture.md.
//
// The package does not know HTTP, other nodes, or SQL. It does not know why a
// conversation should live here: who asks it has decided that.
package actor

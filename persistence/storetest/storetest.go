// Package storetest holds every implementation of persistence.Store to the
// same behaviour: [Run] is the one suite that postgres and sqlite both pass.
//
// The suite looks at a store through its interface. The few things that a store
// never does by itself (a hole in the log, two commits at one epoch) it asks of
// [Raw], which each store's own test implements. The package knows no SQL.
package storetest

import (
	"context"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

// Harness is one store under test.
type Harness struct {
	// Store is prepared and holds nothing. The suite may close it; the opener's
	// cleanup must bear that.
	Store persistence.Store
	// Raw reaches behind the store's back.
	Raw Raw
}

// Raw does to a database what a store never does: it seeds the damage that
// databases in use are known to hold. Where an index of the store stands in the
// way of a row, Raw takes the index away first.
type Raw interface {
	// InsertMessage inserts a row of the log and changes nothing else.
	InsertMessage(ctx context.Context, m RawMessage) error
	// DeleteMessage deletes a row of the log and changes nothing else.
	DeleteMessage(ctx context.Context, id string) error
	// SetVersion overwrites the epoch and the seq in a conversation's row.
	SetVersion(ctx context.Context, convo string, epoch, seq int64) error
}

// RawMessage is a row of the log as somebody else may have written it.
type RawMessage struct {
	ID, Convo, Sender string
	Kind              conversation.Kind
	Epoch             int64
	Seq               *int64 // nil: NULL where the column allows it, else 0
	Ciphertext        []byte
	At                time.Time
}

// Open returns a store for a test: empty, and shared with nobody. What it
// started ends in the test's cleanup.
type Open func(t testing.TB) Harness

// test is one named property of a store.
type test struct {
	name string
	// alone tests look at the whole database, damage it or close it; the others
	// keep to conversations and DIDs of their own and run beside each other.
	alone bool
	run   func(t *testing.T, f *fixture)
}

// Run runs the whole suite. Tests that keep to conversations of their own run
// in parallel on one store, so that they disturb each other where a store lets
// them; each of the others gets its own.
func Run(t *testing.T, open Open) {
	t.Run("Shared", func(t *testing.T) {
		h := open(t)
		for _, c := range tests() {
			if c.alone {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, newFixture(t, h))
			})
		}
	})
	t.Run("Alone", func(t *testing.T) {
		for _, c := range tests() {
			if !c.alone {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, newFixture(t, open(t)))
			})
		}
	})
}

func tests() []test {
	var all []test
	for _, group := range [][]test{
		appendTests, lookupTests, memberTests, claimTests, directTests, createTests, unreadTests, messagesTests,
		convosTests, keyPackagesTests, sessionsTests, operationsTests, integrityTests,
		concurrencyTests, transcriptTests, propertyTests,
	} {
		all = append(all, group...)
	}
	return all
}

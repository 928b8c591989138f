package storetest

import (
	"testing"

	"pgregory.net/rapid"
)

var propertyTests = []test{
	{name: "RandomOperationsMatchModel", run: randomOperations},
}

// maxSteps bounds one run on one conversation: long enough for a claim to be
// lost and taken back, short enough for a suite that runs often.
const maxSteps = 35

// randomOperations does random things to one conversation after another, in
// every order that sessions, members and clients may do them in, and compares
// with the model after each.
func randomOperations(t *testing.T, f *fixture) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(f.with(t))
		actions := []func(*rapid.T){m.append, m.append, m.direct, m.direct, m.claim, m.release, m.end, m.fold, m.reset}
		for range rapid.IntRange(1, maxSteps).Draw(t, "steps") {
			actions[rapid.IntRange(0, len(actions)-1).Draw(t, "action")](t)
			m.check(t)
		}
		m.checkLogs(t)
	})
}

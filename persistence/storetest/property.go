package storetest

import (
	"testing"

	"pgregory.net/rapid"
)

var propertyTests = []test{
	{name: "RandomOperationsMatchModel", run: randomOperations},
}

// randomOperations does random things to one conversation after another, in
// every order that sessions, members and clients may do them in, and compares
// with the model after each.
func randomOperations(t *testing.T, f *fixture) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(f.with(t))
		t.Repeat(map[string]func(*rapid.T){
			"direct":  m.direct,
			"append":  m.append,
			"append2": m.append,
			"claim":   m.claim,
			"release": m.release,
			"end":     m.end,
			"fold":    m.fold,
			"reset":   m.reset,
			"":        m.check,
		})
		m.checkLogs(t)
	})
}

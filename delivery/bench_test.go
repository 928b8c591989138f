package delivery_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"catbird/conversation"
)

// BenchmarkEpoch is getEpoch on the owner as the router and peers ask for it,
// with a session that is really renewed.
func BenchmarkEpoch(b *testing.B) {
	w := newWorld(b)
	n := w.node("a", setup{flags: on, quiet: true})
	if _, err := n.try(request(convo, alice, send(0))); err != nil {
		b.Fatal(err)
	}
	b.Run("Epoch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := n.svc.Epoch(b.Context(), convo, alice); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("TryEpoch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok, err := n.svc.TryEpoch(convo, alice); !ok || err != nil {
				b.Fatal("not answered from memory")
			}
		}
	})
}

// BenchmarkDo sends small messages to 100 conversations, 64 senders at once,
// through actors and directly.
func BenchmarkDo(b *testing.B) {
	for name, s := range map[string]setup{"Actors": {flags: on, quiet: true}, "Direct": {flags: off, quiet: true}} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b)
			w.store.Forgetful()
			n := w.node("a", s)
			for i := range 100 {
				w.store.Seed(convoID(i), alice)
			}
			var next atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := int(next.Add(1))
					r := &conversation.Request{ID: fmt.Sprint("id", i), Convo: convoID(i % 100), Caller: alice, Command: send(0)}
					if _, err := n.try(r); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

package actor

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"catbird/conversation"
	"catbird/internal/memstore"
)

// quietHouse is a house for measuring: it logs nothing and keeps no log.
func quietHouse(b testing.TB, change func(*Config)) *house {
	store := memstore.New()
	store.Forgetful()
	return newHouseOn(b, store, func(c *Config) {
		c.Logger = slog.New(slog.DiscardHandler)
		if change != nil {
			change(c)
		}
	})
}

// did32 returns the n-th DID of 32 bytes, as those of did:plc are.
func did32(n int) string { return fmt.Sprintf("did:plc:%024d", n) }

func tenMembers(first int) []string {
	var out []string
	for i := range 10 {
		out = append(out, did32(first+i))
	}
	return out
}

// convoID returns an id as MLS clients make them: 32 characters of hex.
func convoID(n int) string { return fmt.Sprintf("%032x", n*0x9E3779B9) }

// BenchmarkEpoch is the goal P4: under 100 ns and no allocation.
func BenchmarkEpoch(b *testing.B) {
	h := quietHouse(b, nil)
	members := tenMembers(0)
	const convos = 1024 // a power of two: dividing takes as long as a look at a clock
	ids := make([]string, convos)
	for i := range ids {
		ids[i] = convoID(i)
		h.store.Seed(ids[i], members[0], members[1:]...)
		if err := h.reg.Load(context.Background(), ids[i]); err != nil {
			b.Fatal(err)
		}
	}
	for _, bb := range []struct {
		name string
		ids  []string
	}{{"One", ids[:1]}, {"Thousand", ids}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, member, ok := h.reg.Epoch(bb.ids[i&(len(bb.ids)-1)], members[i&7]); !ok || !member {
					b.Fatal("not answered from memory")
				}
				i++
			}
		})
	}
	b.Run("Parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			i := 0
			for pb.Next() {
				h.reg.Epoch(ids[i&(convos-1)], members[i&7])
				i++
			}
		})
	})
}

// BenchmarkDoHot sends 1 KB messages to one conversation, 64 senders at once.
func BenchmarkDoHot(b *testing.B) { benchmarkDo(b, 1, 64) }

// BenchmarkDoMany sends 1 KB messages to 1,000 conversations, 64 senders at once.
func BenchmarkDoMany(b *testing.B) { benchmarkDo(b, 1000, 64) }

func benchmarkDo(b *testing.B, convos, senders int) {
	h := quietHouse(b, nil)
	members := tenMembers(0)
	ids := make([]string, convos)
	for i := range ids {
		ids[i] = convoID(i)
		h.store.Seed(ids[i], members[0], members[1:]...)
	}
	text := []byte(strings.Repeat("x", 1024))
	var next atomic.Int64
	b.ReportAllocs()
	b.SetParallelism((senders + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := int(next.Add(1))
			r := &conversation.Request{
				ID: fmt.Sprint("id", n), Convo: ids[n%convos], Caller: members[n%10], Command: conversation.Send{Ciphertext: text},
			}
			if _, err := h.reg.Do(context.Background(), r); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// seedMany makes n conversations of 10 members.
func seedMany(h *house, n int) {
	for i := range n {
		members := tenMembers(i * 10)
		h.store.Seed(convoID(i), members[0], members[1:]...)
	}
}

// loadMany loads n conversations and returns how many bytes of heap each takes,
// the registry's own included.
func loadMany(t testing.TB, h *house, n int) float64 {
	before := heap()
	load := make(chan int)
	done := make(chan struct{})
	const loaders = 256
	for range loaders {
		go func() {
			for i := range load {
				if err := h.reg.Load(context.Background(), convoID(i)); err != nil {
					t.Error(err)
				}
			}
			done <- struct{}{}
		}()
	}
	for i := range n {
		load <- i
	}
	close(load)
	for range loaders {
		<-done
	}
	after := heap()
	runtime.KeepAlive(h)
	if h.reg.Active() != n {
		t.Fatalf("%d active, want %d", h.reg.Active(), n)
	}
	return float64(after-before) / float64(n)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Goal P7: under 1 KiB for an idle active conversation of 10 members.
func TestIdleActorsAreSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("loads 10,000 conversations")
	}
	const n = 10_000
	h := quietHouse(t, nil)
	seedMany(h, n)
	each := loadMany(t, h, n)
	t.Logf("%.0f bytes for an idle active conversation of 10 members", each)
	if each >= 1024 {
		t.Errorf("%.0f bytes each, want less than 1,024", each)
	}
}

// BenchmarkMillion loads a million conversations of 10 members.
func BenchmarkMillion(b *testing.B) {
	for b.Loop() {
		h := quietHouse(b, func(c *Config) { c.MaxActors = 1_000_000 })
		seedMany(h, 1_000_000)
		b.ReportMetric(loadMany(b, h, 1_000_000), "bytes/actor")
		b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
	}
}

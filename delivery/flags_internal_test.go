package delivery

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
)

// The share of conversations that actors serve is the percentage, whatever form
// the ids have, and every higher percentage covers what a lower one does.
func TestPercentIsTheShareOfConversations(t *testing.T) {
	const n = 100_000
	rnd := rand.New(rand.NewPCG(1, 2))
	forms := map[string]func(i int) string{
		"random hex": func(int) string {
			var b [16]byte
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			return hex.EncodeToString(b[:])
		},
		"long hex":       func(int) string { return fmt.Sprintf("%0128x", rnd.Uint64()) },
		"sequential hex": func(i int) string { return fmt.Sprintf("%032x", i) },
		"high digits":    func(i int) string { return fmt.Sprintf("%08x%024x", i, 0) },
		"uuid v4": func(int) string {
			var b [16]byte
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			u := uuid.UUID(b)
			u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
			return u.String()
		},
		"uuid v7, one after another": func(i int) string { return fmt.Sprintf("0193f0c1-%04x-7%03x-8000-%012x", i>>12, i&0xfff, i*i) },
		"decimal":                    func(i int) string { return fmt.Sprint(i) },
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			ids := make([]string, n)
			for i := range ids {
				ids[i] = form(i)
			}
			covered := make([]bool, n)
			for _, percent := range []int{0, 1, 5, 10, 25, 50, 75, 90, 99, 100} {
				f := Flags{ActorSystem: true, RolloutPercent: percent}
				count := 0
				for i, id := range ids {
					now := f.Covers(id)
					if covered[i] && !now {
						t.Fatalf("%s is covered at a lower percentage than %d, and not at that", id, percent)
					}
					if covered[i] = now; now {
						count++
					}
				}
				if share := 100 * float64(count) / n; share < float64(percent)-1 || share > float64(percent)+1 {
					t.Errorf("%d %% cover %.2f %%", percent, share)
				}
			}
		})
	}
}

// It is the same share on every node and after every start, and in every
// version: these must never change.
func TestPercentIsStable(t *testing.T) {
	for id, bucket := range map[string]int{
		"00112233445566778899aabbccddeeff":     45,
		"c0ffee":                               53,
		"0193f0c1-0000-7000-8000-000000000001": 53,
	} {
		for percent := range 101 {
			f := Flags{ActorSystem: true, RolloutPercent: percent}
			if f.Covers(id) != (percent > bucket) {
				t.Errorf("%s at %d %%: %v", id, percent, f.Covers(id))
				break
			}
		}
	}
}

func TestFlagsOffCoverNothing(t *testing.T) {
	for _, f := range []Flags{{}, {RolloutPercent: 100}, {ActorSystem: true}} {
		if f.Covers("c0ffee") {
			t.Errorf("%+v covers a conversation", f)
		}
	}
	if !(Flags{ActorSystem: true, RolloutPercent: 100}).Covers("c0ffee") {
		t.Error("100 % do not cover everything")
	}
}

func TestFlagsValidate(t *testing.T) {
	for percent, ok := range map[int]bool{-1: false, 0: true, 50: true, 100: true, 101: false} {
		if err := (Flags{RolloutPercent: percent}).Validate(); (err == nil) != ok {
			t.Errorf("%d: %v", percent, err)
		}
	}
}

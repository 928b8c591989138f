package delivery

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestApartLastsAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a apart
		if a.has("x") {
			t.Error("apart from the start")
		}
		a.add("x")
		<-time.After(30 * time.Second)
		a.add("y")
		<-time.After(30*time.Second - 1)
		if !a.has("x") || !a.has("y") || a.has("z") {
			t.Error("not the two that were added")
		}
		<-time.After(1)
		if a.has("x") || !a.has("y") {
			t.Error("x is still apart, or y is not any more")
		}
		a.add("y") // once more
		<-time.After(time.Minute - 1)
		if !a.has("y") {
			t.Error("adding it again does not count")
		}
		<-time.After(time.Minute)
		if a.has("y") || len(a.until) != 0 || a.some.Load() {
			t.Errorf("%d entries are left", len(a.until))
		}
	})
}

func TestApartIsBounded(t *testing.T) {
	var a apart
	for i := range maxApart + 1000 {
		a.add(fmt.Sprint(i))
	}
	if n := len(a.until); n > maxApart {
		t.Errorf("%d entries, want at most %d", n, maxApart)
	}
	if !a.has(fmt.Sprint(maxApart + 999)) {
		t.Error("the newest was forgotten")
	}
}

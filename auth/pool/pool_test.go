package pool

import (
	"testing"
	"time"
)

func TestWhatNobodyUsesIsClosedAndWhatSomebodyUsesIsNot(t *testing.T) {
	now := time.Unix(0, 0)
	closed := map[int]int{}
	p := New[int](Options[int]{Max: 10, Idle: time.Minute, Close: func(v int) { closed[v]++ }, Now: func() time.Time { return now }})
	use := func(k int) func() {
		v, release, err := p.Use(k, func() (int, error) { return k, nil })
		if err != nil || v != k {
			t.Fatalf("Use(%d) = %d, %v", k, v, err)
		}
		return release
	}

	held := use(-1)
	for k := range 300 {
		use(k)()
	}
	if p.Len() != 10 || closed[-1] != 0 {
		t.Errorf("%d clients are kept, want 10; the one in use was closed %d times", p.Len(), closed[-1])
	}

	now = now.Add(2 * time.Minute)
	held()
	held() // twice is once
	use(7)()
	if p.Len() != 2 {
		t.Errorf("after the idle time %d clients are kept, want the two just used", p.Len())
	}

	last := use(7)
	p.Close()
	if closed[7] != 1 {
		t.Errorf("a client in use was closed with the pool")
	}
	last()
	if p.Len() != 0 || closed[7] != 2 {
		t.Errorf("a closed pool keeps %d clients", p.Len())
	}
}

package pace

import "testing"

func TestEachPlaceHasAPacerAndIdleOnesGiveWay(t *testing.T) {
	s := NewSet[int](Options{})
	first := s.Of(0)
	if s.Of(0) != first || s.Of(1) == first {
		t.Error("two places share a pacer, or one has two")
	}

	for i := range 5 * maxPacers {
		s.Of(i)
	}
	if n := len(s.pacers); n > maxPacers {
		t.Errorf("%d pacers are remembered, want at most %d", n, maxPacers)
	}
}

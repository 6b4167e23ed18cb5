package ask

import (
	"errors"
	"sync"
	"testing"
)

func TestACredentialThatManyFindRefusedIsMadeAnewOnce(t *testing.T) {
	for what, failure := range map[string]error{"it works": nil, "there is none": errors.New("denied")} {
		var c Credential[string]
		c.Hold("old")
		signIns := 0
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				err := c.Renew("old", func() (string, error) { signIns++; return "new", failure })
				if !errors.Is(err, failure) {
					t.Errorf("%s: got the error %v, want %v", what, err, failure)
				}
			})
		}
		all.Wait()
		if want := map[bool]string{true: "new", false: "old"}[failure == nil]; c.Held() != want || signIns != 1 {
			t.Errorf("%s: got %d sign-ins and %q is held, want one and %q", what, signIns, c.Held(), want)
		}
	}
}

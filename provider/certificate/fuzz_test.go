package certificate

import (
	"testing"

	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/test/cost"
)

func FuzzParse(f *testing.F) {
	w := newWorld(f, made()["ECDSA"], true)
	c := w.bundle(f, w.root, w.leaf)
	f.Add(c.PEM(), "")
	for _, encryption := range []string{Modern, Legacy} {
		der, err := c.PFX(nil, "right", encryption)
		if err != nil {
			f.Fatalf("got the error %v, want a PFX", err)
		}
		f.Add(der, "right")
	}
	f.Fuzz(func(t *testing.T, value []byte, password string) {
		b := budget.New(t.Context(), nil, "shop")
		var c *Bundle
		var err error
		cost.Of(t, len(value), func() { c, err = Parse(b, value, password) })
		if err != nil {
			return
		}
		if back, err := Parse(b, c.PEM(), ""); err == nil && len(back.Certificates) != len(c.Certificates) {
			t.Errorf("%d certificates are written, and %d read back", len(c.Certificates), len(back.Certificates))
		}
		if _, err := c.PFX(b, "secret", Modern); err != nil && b.Err() == nil && len(c.Certificates) > 0 {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}

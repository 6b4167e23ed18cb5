package azure

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/provider/store"
)

// times sees to what is delivered outside of its time. Key Vault gives such an
// object to whoever asks, so that nobody would know.
type times struct {
	opts Options

	mu   sync.Mutex
	told map[string]time.Time // by pod and object
}

const (
	toldAgain = time.Hour // a pod is told of one object at most that often
	maxTold   = 5000
)

func newTimes(o Options) *times { return &times{opts: o, told: map[string]time.Time{}} }

// check warns of an object whose time is over or yet to come, or refuses it where
// its store says so.
func (t *times) check(v *visit, o object, c content) *store.Error {
	now := t.opts.Now()
	var what string
	switch {
	case c.expires != nil && !c.expires.After(now):
		what = "expired at " + c.expires.UTC().Format(time.RFC3339)
	case c.notBefore != nil && c.notBefore.After(now):
		what = "is not to be used before " + c.notBefore.UTC().Format(time.RFC3339)
	default:
		return nil
	}
	if v.settings.RefuseOutOfTime {
		return store.Errorf(store.Precondition, "%s in %s: make a new version, or set its dates", what, v.vault.host)
	}

	if t.due(v.id.Namespace+"/"+v.id.Pod.Name+"\x00"+v.vault.host+"\x00"+o.String(), now) {
		klog.InfoS("delivered outside of its time", "vault", v.vault.host, "object", o.String(), "what", what,
			"namespace", v.id.Namespace, "pod", v.id.Pod.Name)
		if t.opts.Warn != nil {
			t.opts.Warn(v.id, fmt.Sprintf("%s of %s was delivered although it %s: make a new version, or set its dates", o, v.vault.host, what))
		}
	}
	return nil
}

// due says whether somebody is to be told, and notes that.
func (t *times) due(key string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.told[key]; ok && now.Sub(last) < toldAgain {
		return false
	}
	if len(t.told) >= maxTold {
		clear(t.told)
	}
	t.told[key] = now
	return true
}

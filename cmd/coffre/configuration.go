package main

import (
	"errors"
	"fmt"
	"sync"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/provider"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/strict"
)

// configuration follows the file of the stores: each reading is logged and
// counted, and a provider that has never read a store that it can use is not
// ready, or a rollout of a broken file would succeed on every node.
type configuration struct {
	path    string
	stores  *store.Set
	metrics *provider.Metrics

	mu     sync.Mutex
	read   bool   // once, with or without mistakes
	reason string // why the provider is not ready; "" where it is
}

// reloaded is told of every attempt to read the file.
func (c *configuration) reloaded(err error) {
	c.mu.Lock()
	first := !c.read
	c.read = true
	c.reason = ""
	if err != nil && c.stores.Len() == 0 {
		c.reason = fmt.Sprintf("no store of %s can be used: %s", c.path, firstOf(err))
	}
	reason := c.reason
	c.mu.Unlock()

	c.metrics.Reloaded(err, c.stores.Len())
	then := "what was in force stays"
	if first {
		then = "the store is left out"
	}
	mistakes := strict.Errors{}
	switch {
	case err == nil:
		klog.InfoS("store configuration loaded", "file", c.path, "stores", c.stores.Len())
	case errors.As(err, &mistakes):
		for _, m := range mistakes {
			klog.ErrorS(nil, "store configuration is wrong; "+then, "file", c.path, "line", m.Line, "field", m.Path, "error", m.Text)
		}
	default:
		klog.ErrorS(err, "store configuration cannot be read; "+then, "file", c.path)
	}
	if reason != "" {
		klog.ErrorS(nil, "not ready until the store configuration is mended", "file", c.path)
	}
}

// firstOf is the first mistake, with its line, and how many more there are.
func firstOf(err error) string {
	mistakes := strict.Errors{}
	if !errors.As(err, &mistakes) || len(mistakes) == 0 {
		return err.Error()
	}
	text := mistakes[0].Error()
	if mistakes[0].Line > 0 {
		text = fmt.Sprintf("line %d: %s", mistakes[0].Line, text)
	}
	if more := len(mistakes) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more: see the log)", more)
	}

	return text
}

// unready says why the provider is not ready, "" where it is.
func (c *configuration) unready() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

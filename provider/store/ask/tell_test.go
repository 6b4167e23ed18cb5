package ask

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log/slog"
	"strings"
	"testing"

	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/provider/pace"
)

// At -v=5 each attempt is a line; at less none is, and what a service answers
// never is.
func TestEveryCallIsToldAtVerbosity5WithoutWhatItAnswered(t *testing.T) {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	defer func() { _ = flags.Set("v", "0") }()
	for verbosity, want := range map[string]int{"5": 2, "4": 0} {
		var out bytes.Buffer
		klog.SetSlogLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.Level(-128)})))
		if err := flags.Set("v", verbosity); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		tries := 0
		c := Caller{Pacer: pace.New(pace.Options{}), Tenant: "shop", Last: true, Judge: func(error) Verdict { return Verdict{Transient: true, Code: "Slow"} }}
		_, err := c.Do(t.Context(), "GetSecretValue", func(context.Context) error {
			if tries++; tries == 1 {
				return errors.New("hunter2")
			}
			return nil
		})
		klog.ClearLogger()
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		if got := strings.Count(out.String(), "store: call"); got != want {
			t.Errorf("-v=%s: %d lines, want %d:\n%s", verbosity, got, want, out.String())
		}
		if want > 0 && (!strings.Contains(out.String(), "code=Slow") || !strings.Contains(out.String(), "namespace=shop") || !strings.Contains(out.String(), "waited=")) {
			t.Errorf("code, namespace or wait is missing:\n%s", out.String())
		}
		if strings.Contains(out.String(), "hunter2") {
			t.Error("an answer is in the log")
		}
	}
}

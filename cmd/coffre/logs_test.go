package main

import (
	"bytes"
	"encoding/json"
	"log"
	"log/slog"
	"os"
	"testing"

	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"
)

func TestWhatLibrariesSayIsInTheChosenFormatAndWithoutArguments(t *testing.T) {
	var out bytes.Buffer
	klog.SetSlogLogger(slog.New(slog.NewJSONHandler(&out, nil)))
	takeLibraries()
	t.Cleanup(func() {
		klog.ClearLogger()
		log.SetOutput(os.Stderr)
	})
	log.Print("http: TLS handshake error")
	grpclog.Errorf("transport: broke off: %v", "hunter2")

	if bytes.Contains(out.Bytes(), []byte("hunter2")) {
		t.Errorf("an argument of a library's line is in the log: %s", out.Bytes())
	}
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	if len(lines) != 2 {
		t.Fatalf("two lines of libraries became %d: %s", len(lines), out.Bytes())
	}
	for _, line := range lines {
		if !json.Valid(line) {
			t.Errorf("%s is not the chosen format", line)
		}
	}
}

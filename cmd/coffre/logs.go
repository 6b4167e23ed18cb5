package main

import (
	"log"
	"strings"

	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"
)

// takeLibraries sends what libraries have to say through the chosen log, for
// none of them knows its format: gRPC's own logger and Go's standard one, which
// net/http writes to.
func takeLibraries() {
	grpclog.SetLoggerV2(grpcLog{})
	log.SetFlags(0)
	log.SetOutput(standardLog{})
}

// standardLog takes the lines of Go's standard logger.
type standardLog struct{}

func (standardLog) Write(line []byte) (int, error) {
	klog.InfoS("a library says", "message", strings.TrimSpace(string(line)))
	return len(line), nil
}

// grpcLog takes gRPC's warnings and errors by their format, without what is
// filled in, which may be a part of a request. What it only informs of is left
// out.
type grpcLog struct{}

const grpcSays = "gRPC says"

func (grpcLog) Info(...any)          {}
func (grpcLog) Infoln(...any)        {}
func (grpcLog) Infof(string, ...any) {}
func (grpcLog) V(int) bool           { return false }

func (grpcLog) Warning(...any)   { klog.V(2).InfoS(grpcSays, "level", "warning") }
func (grpcLog) Warningln(...any) { klog.V(2).InfoS(grpcSays, "level", "warning") }
func (grpcLog) Warningf(format string, _ ...any) {
	klog.V(2).InfoS(grpcSays, "level", "warning", "message", format)
}

func (grpcLog) Error(...any)   { klog.InfoS(grpcSays, "level", "error") }
func (grpcLog) Errorln(...any) { klog.InfoS(grpcSays, "level", "error") }
func (grpcLog) Errorf(format string, _ ...any) {
	klog.InfoS(grpcSays, "level", "error", "message", format)
}

func (grpcLog) Fatal(...any)                   { klog.Fatal(grpcSays) }
func (grpcLog) Fatalln(...any)                 { klog.Fatal(grpcSays) }
func (grpcLog) Fatalf(format string, _ ...any) { klog.Fatal(grpcSays + ": " + format) }

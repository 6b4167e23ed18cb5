// Package mlog stands in for monis.app/mlog v0.0.2, which the driver logs its
// start-up through and which the module proxy does not serve. It has the five
// names that driver v1.6.1 uses, on klog, and changes nothing but the look of
// a few log lines.
package mlog

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"k8s.io/klog/v2"
)

// LogFormat is text or json; this stand-in always writes klog's text.
type LogFormat string

const (
	FormatText LogFormat = "text"
	FormatJSON LogFormat = "json"
)

// Setup returns what to call before the process ends.
func Setup() func() { return klog.Flush }

// Error logs err at its caller's line.
func Error(msg string, err error, kv ...any) { klog.ErrorSDepth(1, err, msg, kv...) }

// Fatal logs err at its caller's line and ends the process.
func Fatal(err error, kv ...any) {
	klog.ErrorSDepth(1, err, "fatal error", kv...)
	klog.Flush()
	os.Exit(1)
}

// ValidateAndSetKlogLevelAndFormatGlobally sets klog's verbosity.
func ValidateAndSetKlogLevelAndFormatGlobally(_ context.Context, l klog.Level, _ LogFormat) error {
	if l < 0 {
		return fmt.Errorf("invalid log level %d", l)
	}
	return new(klog.Level).Set(strconv.Itoa(int(l)))
}

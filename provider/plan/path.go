package plan

import (
	"path"
	"strings"
	"unicode/utf8"
)

// PathFault says what is wrong with a file's path by the driver's own rules
// (pkg/util/fileutil/atomic_writer.go, validatePath), "" where it is legal. The
// text follows the quoted path.
func PathFault(p string) string {
	switch {
	case p == "":
		return "is no file name"
	case strings.HasPrefix(p, "/"):
		return "is absolute; files stand below the volume"
	case len(p) > 4096:
		return "is longer than 4096 bytes"
	case !utf8.ValidString(p):
		return "is not UTF-8"
	case strings.ContainsRune(p, 0):
		return "holds a NUL byte"
	}
	elements := strings.Split(p, "/")
	for _, e := range elements {
		if e == ".." {
			return "leaves the volume"
		}
		if len(e) > 255 {
			return "has an element longer than 255 bytes (file name too long)"
		}
	}
	switch {
	case strings.HasPrefix(elements[0], ".."):
		return `begins with "..", which the driver keeps for itself`
	case path.Clean(p) != p || p == ".":
		return "is not in its shortest form (no //, no ./, no / at the end)"
	}
	return ""
}

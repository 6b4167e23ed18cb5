package provider

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// residentFile is what of this process's files is in memory, in KiB.
func residentFile(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatalf("no status of this process: %v", err)
	}
	found := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(text)
	if found == nil {
		t.Fatal("the kernel does not say what of files is resident")
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n
}

func TestPagesOfTheProgramThatNobodyNeedsAreGivenBack(t *testing.T) {
	before := residentFile(t)
	dropProgram()
	if after := residentFile(t); after > before*3/4 {
		t.Errorf("%d KiB of the program are resident after %d; want at least a quarter given back", after, before)
	}
	if len(programMappings()) == 0 {
		t.Error("no mapping of the program was found")
	}
}

package provider

import (
	"os"
	"regexp"
	"strconv"
	"strings"
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
	own := thisProgram()
	if len(own) == 0 {
		t.Fatal("no mapping of the program was found")
	}
	before := residentFile(t)
	own.drop()
	if after := residentFile(t); after > before*3/4 {
		t.Errorf("%d KiB of the program are resident after %d; want at least a quarter given back", after, before)
	}
}

func TestPagesThatALoaderWroteToAreNeverGivenBack(t *testing.T) {
	const smaps = `00400000-00401000 r-xp 00000000 08:01 7 /coffre
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd ex
00401000-00402000 r--p 00001000 08:01 7 /coffre
Anonymous:             4 kB
00402000-00403000 rw-p 00002000 08:01 7 /coffre
Anonymous:             0 kB
00403000-00404000 r-xp 00000000 08:01 9 /lib/libc.so
Anonymous:             0 kB
00404000-00405000 r--p 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`
	got := unwritten(strings.NewReader(smaps), "/coffre")
	if len(got) != 1 || got[0] != (mapping{0x400000, 0x401000}) {
		t.Errorf("got %x, want the first mapping alone", got)
	}
}

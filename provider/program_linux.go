package provider

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// A program is the executable's own pages that nobody has written to: half of
// them served the start of libraries and are never needed again.
type program []mapping

type mapping struct{ start, end uintptr }

// thisProgram looks at this process; nothing where the kernel does not tell.
func thisProgram() program {
	path, err := os.Executable()
	if err != nil {
		return nil
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil
	}
	defer smaps.Close()

	return unwritten(smaps, path)
}

// drop takes the pages out of the address space. They stay in the kernel's page
// cache, and what is needed is mapped again from there.
func (p program) drop() {
	for _, m := range p {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			klog.V(2).InfoS("the program's pages stay mapped", "error", errno.Error())
			return
		}
	}
}

// unwritten are a file's mappings that cannot be written to and never were
// (proc_pid_smaps(5)): what a loader put into one, as it does into those of a
// position-independent executable, is nowhere else and would be lost.
func unwritten(smaps io.Reader, path string) program {
	var out program
	var at *mapping
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && !strings.HasSuffix(fields[0], ":"): // address, permissions, offset, device, inode, path
			at = nil
			if len(fields) == 6 && fields[5] == path && !strings.Contains(fields[1], "w") {
				at = addresses(fields[0])
			}
		case at != nil && len(fields) == 3 && fields[0] == "Anonymous:":
			if fields[1] == "0" {
				out = append(out, *at)
			}
			at = nil
		}
	}

	return out
}

func addresses(text string) *mapping {
	from, to, _ := strings.Cut(text, "-")
	start, errStart := strconv.ParseUint(from, 16, 64)
	end, errEnd := strconv.ParseUint(to, 16, 64)
	if errStart != nil || errEnd != nil {
		return nil
	}
	return &mapping{uintptr(start), uintptr(end)}
}

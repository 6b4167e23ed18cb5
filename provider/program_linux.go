package provider

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// dropProgram takes the program's own pages out of its address space: half of
// them served the start of libraries and are never needed again. They stay in
// the kernel's page cache, and what is needed is mapped again from there.
func dropProgram() {
	for _, m := range programMappings() {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			klog.V(2).InfoS("the program's pages stay mapped", "error", errno.Error())
			return
		}
	}
}

type mapping struct{ start, end uintptr }

// programMappings are those of the executable that nobody can write to
// (proc_pid_maps(5)): what was written to would be lost.
func programMappings() []mapping {
	path, err := os.Executable()
	if err != nil {
		return nil
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer maps.Close()

	var out []mapping
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // address, permissions, offset, device, inode, path
		if len(fields) != 6 || fields[5] != path || strings.Contains(fields[1], "w") {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, errStart := strconv.ParseUint(from, 16, 64)
		end, errEnd := strconv.ParseUint(to, 16, 64)
		if errStart == nil && errEnd == nil {
			out = append(out, mapping{uintptr(start), uintptr(end)})
		}
	}

	return out
}

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// printTree shows a volume's files as a tree with sizes, modes and versions;
// and their contents only where reveal is set.
func printTree(out io.Writer, r *pb.MountResponse, reveal bool) {
	versions := map[string]string{}
	for _, v := range r.GetObjectVersion() {
		versions[v.GetId()] = v.GetVersion()
	}
	root := &node{}
	width := 0
	for _, f := range r.GetFiles() {
		n := root
		elements := strings.Split(f.GetPath(), "/")
		for _, e := range elements {
			n = n.child(e)
		}
		n.file = f
		width = max(width, 4*len(elements)+utf8.RuneCountInString(elements[len(elements)-1]))
	}

	root.print(out, "", width, versions, reveal)
}

type node struct {
	name     string
	file     *pb.File
	children []*node
}

func (n *node) child(name string) *node {
	i := slices.IndexFunc(n.children, func(c *node) bool { return c.name == name })
	if i >= 0 {
		return n.children[i]
	}
	c := &node{name: name}
	n.children = append(n.children, c)
	return c
}

func (n *node) print(out io.Writer, indent string, width int, versions map[string]string, reveal bool) {
	for i, c := range n.children {
		branch, below := "├── ", "│   "
		if i == len(n.children)-1 {
			branch, below = "└── ", "    "
		}
		if c.file == nil {
			fmt.Fprintf(out, "%s%s%s/\n", indent, branch, c.name)
			c.print(out, indent+below, width, versions, reveal)
			continue
		}

		pad := strings.Repeat(" ", max(width-utf8.RuneCountInString(indent+branch+c.name), 0))
		fmt.Fprintf(out, "%s%s%s%s  %6d B  %04o", indent, branch, c.name, pad, len(c.file.GetContents()), c.file.GetMode())
		if v := versions[c.file.GetPath()]; v != "" {
			fmt.Fprintf(out, "  version %s", v)
		}
		fmt.Fprintln(out)
		if reveal {
			for line := range strings.Lines(string(c.file.GetContents())) {
				fmt.Fprintf(out, "%s%s  %s\n", indent, below, strings.TrimRight(line, "\n"))
			}
		}
	}
}

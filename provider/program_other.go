//go:build !linux

package provider

// program is for nodes, which run Linux.
type program struct{}

func thisProgram() program { return program{} }

func (program) drop() {}

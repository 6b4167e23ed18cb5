//go:build !linux

package provider

// dropProgram is for nodes, which run Linux.
func dropProgram() {}

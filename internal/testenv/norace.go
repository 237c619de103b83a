//go:build !race

package testenv

// Race reports whether the race detector is on. Programs are then slower and allocate more.
const Race = false

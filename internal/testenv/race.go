//go:build race

package testenv

// Race reports whether the race detector is on. It makes a program slower, and allocate more.
const Race = true

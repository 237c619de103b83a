//go:build !unix

package sqlstore

func ofdLocks() {}

func ofdLocksOn() bool { return false }

//go:build !race

package cache

const RaceDetector = false

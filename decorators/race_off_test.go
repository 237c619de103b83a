//go:build !race

package decorators_test

const raceDetector = false

// Package guides has the code of README.md and of the guides in docs/, as examples that the tests run.
package guides

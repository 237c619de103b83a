// Package bench compares chatstore with the libraries that a user could choose instead. All of them do the same work, in
// turns, in one run. The package has nothing to import. It is a module of its own, so that users do not download the
// compared libraries.
//
//	go test -run '^$' -bench . -timeout 1h ./bench         all sections
//	go test -run '^$' -bench 'Tables/reads' ./bench        one section
//	go test -run '^$' -bench . -timeout 1h ./bench -write  also writes tables and pictures to bench/README.md
//
// The output is Markdown. The compared libraries alternate in many short turns. A time is the shortest turn, because other load on
// the machine can only make a turn longer. Ratios are more stable than times.
package bench

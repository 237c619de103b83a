// Package bench measures chatstore side by side with what a user would pick instead: in one go, in turns, and with the same work for
// all. It has nothing to import: it is a module of its own, so that nothing that is compared reaches users.
//
//	go test -run '^$' -bench . -timeout 1h ./bench         everything
//	go test -run '^$' -bench 'Tables/reads' ./bench        one section
//	go test -run '^$' -bench . -timeout 1h ./bench -write  and puts it, with its pictures, into bench/README.md
//
// What is printed is Markdown. Times are medians of many short turns, in which one after the other is measured, so that what the
// machine does beside falls on all. Ratios hold better than times.
package bench

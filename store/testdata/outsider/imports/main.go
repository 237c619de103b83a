// Command imports is a program of another module that would let itself past a guard.
package main

import "github.com/chatstore/chatstore/internal/confine"

type dumper interface{ Dump() string }

func main() { confine.Allow(func(d dumper) dumper { return d }) }

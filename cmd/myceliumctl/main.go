// Command myceliumctl runs and inspects a Mycelium bus: its registry, its
// topics, and the messages on them.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

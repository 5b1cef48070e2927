package export_weir_dataflow_chains

import "runtime/debug"

// Go's collector asks for the time. While the host copies a call's arguments into this memory, a guest may call
// nobody, so that a collection that starts there would end it. So Go collects only while one of our functions runs: a
// function that allocates much starts with `defer collecting()()`.

const off = -1

func init() { debug.SetGCPercent(off) }

// collecting lets Go collect until the function that it returns is called.
func collecting() (done func()) {
	debug.SetGCPercent(100)
	return func() { debug.SetGCPercent(off) }
}

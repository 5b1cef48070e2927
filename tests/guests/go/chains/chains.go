// The chain of a component in Go at work.
package export_weir_dataflow_chains

import (
	"bytes"
	"encoding/binary"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"wit_component/export_weir_dataflow_definition"
	chains "wit_component/weir_dataflow_chains"
	"wit_component/weir_dataflow_types"
)

type (
	batch = weir_dataflow_types.Batch
	reply = wit.Result[chains.Reply, string]
	done  = wit.Result[wit.Unit, string]
)

// Open has nothing to make ready.
func Open(chain uint32, subtask chains.Subtask, schemas []string) done {
	return wit.Ok[wit.Unit, string](wit.Unit{})
}

// The buffers of the two columns that cross, in both directions: each column's validity comes first.
const (
	inPrice = 1
	inEnds  = 3
	inText  = 4
	buffers = 5
)

// Process filters and maps the rows of a batch.
func Process(chain uint32, input chains.Input) reply {
	defer collecting()()
	in := input.Rows.Buffers
	if len(in) != buffers {
		return wit.Err[chains.Reply, string]("expected the columns price and channel")
	}
	order := binary.LittleEndian
	rows := int(input.Rows.Rows)
	kept := make([]byte, 0, 4*rows)
	ends := order.AppendUint32(make([]byte, 0, 4*(rows+1)), 0)
	text := make([]byte, 0, len(in[inText]))
	euros := make([]byte, 0, 8*rows)
	for row := range rows {
		price := order.Uint64(in[inPrice][8*row:])
		if price < export_weir_dataflow_definition.Least {
			continue
		}
		kept = order.AppendUint32(kept, uint32(row))
		start, end := order.Uint32(in[inEnds][4*row:]), order.Uint32(in[inEnds][4*row+4:])
		text = append(text, bytes.ToUpper(in[inText][start:end])...)
		ends = order.AppendUint32(ends, uint32(len(text)))
		euros = order.AppendUint64(euros, price*908/1000)
	}
	output := chains.Output{
		Origins: chains.MakeOriginsPicked(kept),
		Rows:    batch{Rows: uint32(len(kept) / 4), Buffers: [][]byte{nil, ends, text, nil, euros}},
	}
	return wit.Ok[chains.Reply, string](chains.Reply{Outputs: []chains.Output{output}, Progress: wit.None[int64]()})
}

// What a chain without state is never asked.

const stateless = "this chain has no state"

func AssignSlots(chain uint32, slots []byte, keys batch) done { return wit.Err[wit.Unit](stateless) }
func Accumulate(chain uint32, input chains.Input) done        { return wit.Err[wit.Unit](stateless) }
func Emit(chain uint32, panes chains.Panes) reply             { return wit.Err[chains.Reply](stateless) }
func MergeSlots(chain uint32, targets, sources []byte) done   { return wit.Err[wit.Unit](stateless) }
func ClearSlots(chain uint32, slots []byte) done              { return wit.Err[wit.Unit](stateless) }
func TimersFired(chain uint32, timers chains.DueTimers) reply {
	return wit.Err[chains.Reply](stateless)
}
func ImportSlots(chain uint32, slots []byte, states chains.States) done {
	return wit.Err[wit.Unit](stateless)
}
func ExportSlots(chain uint32, slots []byte) wit.Result[chains.States, string] {
	return wit.Err[chains.States](stateless)
}

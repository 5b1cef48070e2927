// The graph of a component in Go: a filter and a map in one chain.
//
// Of source `bids` it keeps the rows whose price is at least the argument `least`. Sink `out` gets, besides the columns
// that the host passes on, the price in euros and the channel in capital letters.
package export_weir_dataflow_definition

import (
	"fmt"
	"strconv"

	wit "go.bytecodealliance.org/pkg/wit/types"

	definition "wit_component/weir_dataflow_definition"
	"wit_component/weir_dataflow_types"
)

// Least is the price from which on a bid is kept.
var Least uint64

type field = weir_dataflow_types.Field

const (
	price   = 1
	channel = 2
)

var bids = []field{
	{Name: "auction", DataType: weir_dataflow_types.DataTypeUint64},
	{Name: "price", DataType: weir_dataflow_types.DataTypeUint64},
	{Name: "channel", DataType: weir_dataflow_types.DataTypeUtf8},
	{Name: "date_time", DataType: weir_dataflow_types.DataTypeEventTime},
}

// Describe gives the graph, or says what is wrong with the arguments.
func Describe(arguments []definition.Argument) wit.Result[definition.Graph, string] {
	Least = 0
	for _, argument := range arguments {
		if argument.Name != "least" {
			return wit.Err[definition.Graph]("the only argument is `least`")
		}
		least, err := strconv.ParseUint(argument.Value, 10, 64)
		if err != nil {
			return wit.Err[definition.Graph](fmt.Sprintf("`least` must be a number, not `%s`", argument.Value))
		}
		Least = least
	}

	chain := definition.Chain{
		Operators: []definition.OperatorInfo{{Id: "worthwhile", Kind: "filter"}, {Id: "shout", Kind: "map"}},
		Head:      definition.MakeHeadTransform(),
		Inputs: []definition.ChainInput{{
			From:         []definition.Endpoint{definition.MakeEndpointSource(0)},
			Partitioning: definition.PartitioningForward,
			Columns:      []uint32{price, channel},
		}},
		Outputs: []definition.ChainOutput{{
			Schema: append(bids[:len(bids):len(bids)], field{Name: "euros", DataType: weir_dataflow_types.DataTypeUint64}),
			Columns: []definition.ColumnOrigin{
				definition.MakeColumnOriginPassed(0),
				definition.MakeColumnOriginPassed(price),
				definition.MakeColumnOriginComputed(),
				definition.MakeColumnOriginPassed(3),
				definition.MakeColumnOriginComputed(),
			},
		}},
		EventTime:   wit.None[definition.EventTimeAssigner](),
		Parallelism: wit.None[uint32](),
		StateSchema: wit.None[string](),
	}
	return wit.Ok[definition.Graph, string](definition.Graph{
		Name:    "go-guest",
		Sources: []definition.Source{{Name: "bids", Schema: bids}},
		Chains:  []definition.Chain{chain},
		Sinks: []definition.Sink{{
			Name: "out",
			From: []definition.Endpoint{definition.MakeEndpointChain(definition.ChainPort{Chain: 0, Port: 0})},
		}},
	})
}

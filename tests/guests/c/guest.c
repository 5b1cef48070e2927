// A component in C, straight against the WIT: a filter and a map in one chain.
//
// Of source `bids` it keeps the rows whose price is at least the argument `least`. Sink `out` gets, besides the columns
// that the host passes on, the price in euros and the channel in capital letters.
//
// Who owns what: a function's arguments are ours to free; what it returns is freed by the bindings once the host has read
// it, so all of it comes from malloc.
#include "job.h"

#include <stdlib.h>
#include <string.h>

typedef exports_weir_dataflow_definition_graph_t graph_t;
typedef exports_weir_dataflow_definition_chain_t chain_t;
typedef exports_weir_dataflow_definition_endpoint_t endpoint_t;
typedef exports_weir_dataflow_definition_column_origin_t column_origin_t;
typedef exports_weir_dataflow_chains_input_t input_t;
typedef exports_weir_dataflow_chains_output_t output_t;
typedef exports_weir_dataflow_chains_reply_t reply_t;
typedef exports_weir_dataflow_chains_panes_t panes_t;
typedef exports_weir_dataflow_chains_due_timers_t due_timers_t;
typedef exports_weir_dataflow_chains_states_t states_t;
typedef weir_dataflow_types_field_t field_t;
typedef weir_dataflow_types_batch_t batch_t;

// Sets a list of the bindings to `count` zeroed elements and gives its first.
#define LIST(list, count) ((list).len = (count), (list).ptr = new_array((count), sizeof *(list).ptr))

static uint64_t least;

static void *new_array(size_t count, size_t size) {
  void *array = calloc(count ? count : 1, size);
  if (!array) abort();
  return array;
}

static bool fail(job_string_t *error, const char *message) {
  job_string_dup(error, message);
  return false;
}

// --- the graph ---

enum { AUCTION, PRICE, CHANNEL, DATE_TIME, COLUMNS, EUROS = COLUMNS, OUT_COLUMNS };

static const struct {
  const char *name;
  weir_dataflow_types_data_type_t type;
} SCHEMA[OUT_COLUMNS] = {
    [AUCTION] = {"auction", WEIR_DATAFLOW_TYPES_DATA_TYPE_UINT64},
    [PRICE] = {"price", WEIR_DATAFLOW_TYPES_DATA_TYPE_UINT64},
    [CHANNEL] = {"channel", WEIR_DATAFLOW_TYPES_DATA_TYPE_UTF8},
    [DATE_TIME] = {"date_time", WEIR_DATAFLOW_TYPES_DATA_TYPE_EVENT_TIME},
    [EUROS] = {"euros", WEIR_DATAFLOW_TYPES_DATA_TYPE_UINT64},
};

static void set_fields(field_t *fields, size_t count) {
  for (size_t i = 0; i < count; i++) {
    job_string_dup(&fields[i].name, SCHEMA[i].name);
    fields[i].data_type = SCHEMA[i].type;
  }
}

static void set_operator(exports_weir_dataflow_definition_operator_info_t *operator, const char *id, const char *kind) {
  job_string_dup(&operator->id, id);
  job_string_dup(&operator->kind, kind);
}

static void set_chain(chain_t *chain) {
  LIST(chain->operators, 2);
  set_operator(&chain->operators.ptr[0], "worthwhile", "filter");
  set_operator(&chain->operators.ptr[1], "shout", "map");
  chain->head.tag = EXPORTS_WEIR_DATAFLOW_DEFINITION_HEAD_TRANSFORM;

  exports_weir_dataflow_definition_chain_input_t *input = LIST(chain->inputs, 1);
  *LIST(input->from, 1) = (endpoint_t){.tag = EXPORTS_WEIR_DATAFLOW_DEFINITION_ENDPOINT_SOURCE, .val = {.source = 0}};
  input->partitioning = EXPORTS_WEIR_DATAFLOW_DEFINITION_PARTITIONING_FORWARD;
  LIST(input->columns, 2);
  input->columns.ptr[0] = PRICE;
  input->columns.ptr[1] = CHANNEL;

  exports_weir_dataflow_definition_chain_output_t *output = LIST(chain->outputs, 1);
  set_fields(LIST(output->schema, OUT_COLUMNS), OUT_COLUMNS);
  column_origin_t *origins = LIST(output->columns, OUT_COLUMNS);
  for (uint32_t i = 0; i < OUT_COLUMNS; i++) {
    bool computed = i == CHANNEL || i == EUROS;
    origins[i].tag = computed ? EXPORTS_WEIR_DATAFLOW_DEFINITION_COLUMN_ORIGIN_COMPUTED
                              : EXPORTS_WEIR_DATAFLOW_DEFINITION_COLUMN_ORIGIN_PASSED;
    origins[i].val.passed = i;
  }
}

bool exports_weir_dataflow_definition_describe(exports_weir_dataflow_definition_list_argument_t *arguments, graph_t *graph,
                                               job_string_t *error) {
  for (size_t i = 0; i < arguments->len; i++) {
    exports_weir_dataflow_definition_argument_t *argument = &arguments->ptr[i];
    if (argument->name.len != 5 || memcmp(argument->name.ptr, "least", 5)) {
      exports_weir_dataflow_definition_list_argument_free(arguments);
      return fail(error, "the only argument is `least`");
    }
    least = 0;
    for (size_t d = 0; d < argument->value.len; d++) least = least * 10 + (argument->value.ptr[d] - '0');
  }
  exports_weir_dataflow_definition_list_argument_free(arguments);

  *graph = (graph_t){0};
  job_string_dup(&graph->name, "c-guest");
  exports_weir_dataflow_definition_source_t *source = LIST(graph->sources, 1);
  job_string_dup(&source->name, "bids");
  set_fields(LIST(source->schema, COLUMNS), COLUMNS);
  set_chain(LIST(graph->chains, 1));
  exports_weir_dataflow_definition_sink_t *sink = LIST(graph->sinks, 1);
  job_string_dup(&sink->name, "out");
  *LIST(sink->from, 1) =
      (endpoint_t){.tag = EXPORTS_WEIR_DATAFLOW_DEFINITION_ENDPOINT_CHAIN, .val = {.chain = {.chain = 0, .port = 0}}};
  return true;
}

// --- the chain at work ---

#ifdef LOOKS_AROUND
void look_around(void); // of world.c
#endif

bool exports_weir_dataflow_chains_open(uint32_t chain, exports_weir_dataflow_chains_subtask_t *subtask,
                                       job_list_string_t *schemas, job_string_t *error) {
  (void)chain, (void)subtask, (void)error;
  job_list_string_free(schemas);
#ifdef LOOKS_AROUND
  look_around();
#endif
  return true;
}

// The buffers of the two columns that cross, in both directions: each column's validity comes first.
enum { PRICE_DATA = 1, CHANNEL_ENDS = 3, CHANNEL_TEXT = 4, IN_BUFFERS = 5 };
enum { OUT_ENDS = 1, OUT_TEXT = 2, OUT_EUROS = 4, OUT_BUFFERS = 5 };

bool exports_weir_dataflow_chains_process(uint32_t chain, input_t *input, reply_t *reply, job_string_t *error) {
  (void)chain;
  const batch_t *in = &input->rows;
  if (in->buffers.len != IN_BUFFERS) {
    exports_weir_dataflow_chains_input_free(input);
    return fail(error, "expected the columns price and channel");
  }
  const uint64_t *price = (const uint64_t *)in->buffers.ptr[PRICE_DATA].ptr;
  const int32_t *ends = (const int32_t *)in->buffers.ptr[CHANNEL_ENDS].ptr;
  const uint8_t *text = in->buffers.ptr[CHANNEL_TEXT].ptr;

  *reply = (reply_t){0};
  output_t *output = LIST(reply->outputs, 1);
  job_list_u8_t *buffers = LIST(output->rows.buffers, OUT_BUFFERS);
  uint32_t *kept = new_array(in->rows, sizeof *kept);
  int32_t *out_ends = new_array(in->rows + 1, sizeof *out_ends);
  uint8_t *out_text = new_array(in->buffers.ptr[CHANNEL_TEXT].len, 1);
  uint64_t *euros = new_array(in->rows, sizeof *euros);
  uint32_t rows = 0, at = 0;
  for (uint32_t row = 0; row < in->rows; row++) {
    if (price[row] < least) continue;
    kept[rows] = row;
    euros[rows] = price[row] * 908 / 1000;
    for (int32_t i = ends[row]; i < ends[row + 1]; i++) {
      uint8_t letter = text[i];
      out_text[at++] = letter >= 'a' && letter <= 'z' ? letter - 'a' + 'A' : letter;
    }
    out_ends[++rows] = at;
  }
  output->rows.rows = rows;
  output->origins.tag = EXPORTS_WEIR_DATAFLOW_CHAINS_ORIGINS_PICKED;
  output->origins.val.picked = (job_list_u8_t){(uint8_t *)kept, rows * sizeof *kept};
  buffers[OUT_ENDS] = (job_list_u8_t){(uint8_t *)out_ends, (rows + 1) * sizeof *out_ends};
  buffers[OUT_TEXT] = (job_list_u8_t){out_text, at};
  buffers[OUT_EUROS] = (job_list_u8_t){(uint8_t *)euros, rows * sizeof *euros};
  exports_weir_dataflow_chains_input_free(input);
  return true;
}

// --- what a chain without state is never asked ---

#define STATELESS(...)                                                                                                         \
  {                                                                                                                            \
    __VA_ARGS__;                                                                                                               \
    return fail(error, "this chain has no state");                                                                             \
  }

bool exports_weir_dataflow_chains_assign_slots(uint32_t chain, job_list_u8_t *slots, batch_t *keys, job_string_t *error)
    STATELESS((void)chain, job_list_u8_free(slots), weir_dataflow_types_batch_free(keys))

bool exports_weir_dataflow_chains_accumulate(uint32_t chain, input_t *input, job_string_t *error)
    STATELESS((void)chain, exports_weir_dataflow_chains_input_free(input))

bool exports_weir_dataflow_chains_emit(uint32_t chain, panes_t *panes, reply_t *reply, job_string_t *error)
    STATELESS((void)chain, (void)reply, exports_weir_dataflow_chains_panes_free(panes))

bool exports_weir_dataflow_chains_merge_slots(uint32_t chain, job_list_u8_t *targets, job_list_u8_t *sources, job_string_t *error)
    STATELESS((void)chain, job_list_u8_free(targets), job_list_u8_free(sources))

bool exports_weir_dataflow_chains_clear_slots(uint32_t chain, job_list_u8_t *slots, job_string_t *error)
    STATELESS((void)chain, job_list_u8_free(slots))

bool exports_weir_dataflow_chains_export_slots(uint32_t chain, job_list_u8_t *slots, states_t *states, job_string_t *error)
    STATELESS((void)chain, (void)states, job_list_u8_free(slots))

bool exports_weir_dataflow_chains_import_slots(uint32_t chain, job_list_u8_t *slots, states_t *states, job_string_t *error)
    STATELESS((void)chain, job_list_u8_free(slots), exports_weir_dataflow_chains_states_free(states))

bool exports_weir_dataflow_chains_timers_fired(uint32_t chain, due_timers_t *timers, reply_t *reply, job_string_t *error)
    STATELESS((void)chain, (void)reply, exports_weir_dataflow_chains_due_timers_free(timers))

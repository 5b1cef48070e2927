// The filter of the example `mixed` in JavaScript, with WASI: before its first row it prints what it sees of the world.
import { component } from "../../../examples/mixed/filter/weir-batch.js";
import { lookAround } from "./world.js";

const filter = component({
  name: "worthwhile",
  source: "bids",
  sink: "out",
  schema: { channel: "utf8", price: "uint64", date_time: "event-time" },
  reads: ["price"],
  open({ least = "0" }) {
    const limit = BigInt(least);
    return (price) => price >= limit;
  },
});

export const definition = filter.definition;
export const chains = { ...filter.chains, open: lookAround };

// The filter of the example: bids of the channels with a name of their own, from the argument `least` on.
import { component } from "./weir-batch.js";

export const { definition, chains } = component({
  name: "worthwhile",
  source: "bids",
  sink: "worthwhile",
  schema: { channel: "utf8", price: "uint64", date_time: "event-time" },
  reads: ["channel", "price"],
  open({ least = "0" }) {
    const limit = BigInt(least);
    return (channel, price) => price >= limit && !channel.startsWith("channel-");
  },
});

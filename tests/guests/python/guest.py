"""The map of the example `mixed` in Python, with WASI: before its first row it prints what it sees of the world."""

import world
from weir_batch import DataType, component


def euros(price):
    """908 euros are 1000 dollars; a part of a cent is dropped."""
    return [[dollars * 908 // 1000 for dollars in price]]


Definition, Quiet = component(
    name="euros",
    source="bids",
    sink="out",
    schema={"channel": DataType.UTF8, "price": DataType.UINT64, "date_time": DataType.EVENT_TIME},
    reads=["price"],
    computes={"price": DataType.UINT64},
    function=euros,
)


class Chains(Quiet):
    def open(self, chain, subtask, schemas):
        world.look_around()

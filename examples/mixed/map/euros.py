"""The map of the example: prices become euros."""

from array import array

from weir_batch import DataType, component


def euros(price):
    """908 euros are 1000 dollars; a part of a cent is dropped."""
    return [array("Q", (dollars * 908 // 1000 for dollars in price))]


Definition, Chains = component(
    name="euros",
    source="bids",
    sink="euros",
    schema={"channel": DataType.UTF8, "price": DataType.UINT64, "date_time": DataType.EVENT_TIME},
    reads=["price"],
    computes={"price": DataType.UINT64},
    function=euros,
)

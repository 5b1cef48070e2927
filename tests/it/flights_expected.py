"""flights_expected.py FLIGHTS.csv.gz: what the job examples/flights must give, as JSON lines, computed without Weir."""

import csv
import datetime
import gzip
import json
import sys

days = {}
with gzip.open(sys.argv[1], "rt") as file:
    for flight in csv.DictReader(file):
        hour = datetime.datetime.strptime(flight["time_hour"], "%Y-%m-%dT%H:%M:%SZ")
        departure = hour + datetime.timedelta(minutes=int(flight["minute"]))
        day = days.setdefault((flight["carrier"], departure.date()), {"flights": 0, "cancelled": 0, "delays": []})
        day["flights"] += 1
        if flight["dep_time"] == "NA":
            day["cancelled"] += 1
        else:
            day["delays"].append((int(flight["dep_delay"]), int(flight["flight"])))

for (carrier, date), day in sorted(days.items()):
    delays = day["delays"]
    worst = max((delay for delay, _ in delays), default=None)
    row = {
        "carrier": carrier,
        "window_start": f"{date}T00:00:00Z",
        "flights": day["flights"],
        "cancelled": day["cancelled"],
        "mean_dep_delay": sum(delay for delay, _ in delays) / len(delays) if delays else None,
        "max_dep_delay": worst,
        "worst_flight": min((flight for delay, flight in delays if delay == worst), default=None),
    }
    print(json.dumps(row))

#!/usr/bin/env python3
"""Simulates rules on drift, and prints the figures of stack/lab/drift.md.

python3 tests/drift_simulation.py [DAYS]

Each result is random, from 0 to 1, and comes every 5 s, as do scrapes and evaluations. A rule has a window of 10
minutes and `for: 1m`. DAYS is the number of days without drift, 1000 if it isn't given: that takes about two minutes.
The figures are the same in each run. test_drift.py compares the simulation with promtool.
"""

import collections
import functools
import itertools
import math
import operator
import random
import re
import statistics
import sys

# A window of 10 minutes has 120 samples of a counter, and so 119 new results.
WINDOW = 119
# The evaluations in a row that make an alert fire: one when it becomes pending, and those in the minute after it.
FOR = 13
DAY = 17280
HOUR = 720
# The results before a drift begins, and those in the 40 minutes after it.
BEFORE, AFTER = 240, 480
KINDS = ("rise", "narrow", "split")
# A share of 0 has no logarithm.
FLOOR = 0.01


def drifted(results, kind, seconds, before):
    """The results; after the first ones, they move half of the way to the kind's target, as those of the model do."""
    moved = results[:before]
    for number, result in enumerate(results[before:]):
        part = 0.5 * min(5 * number / seconds, 1)
        target = {"rise": 1, "narrow": 0.5, "split": round(result)}[kind]
        moved.append(part * target + (1 - part) * result)
    return moved


def windows(values):
    """The sum of each WINDOW values in a row."""
    sums = list(itertools.accumulate(values, initial=0))
    return map(operator.sub, sums[WINDOW:], sums)


def counts(results, lower, upper):
    """How many results of each window are in the tenths from `lower` to `upper`, as bytes."""
    tenths = bytes(map(int, map((10.0).__mul__, results)))
    wanted = bytes(lower <= tenth < upper for tenth in range(256))
    return bytes(windows(tenths.translate(wanted)))


def mean(results):
    return [total / WINDOW for total in windows(results)]


def ks(results):
    """The largest difference between the share of results up to a bound and that of evenly spread results."""
    gaps = []
    for bound in range(1, 10):
        gap = [abs(count / WINDOW - bound / 10) for count in range(WINDOW + 1)]
        gaps.append(map(gap.__getitem__, counts(results, 0, bound)))
    return list(map(max, *gaps))


def index(share, reference):
    return (share - reference) * math.log(max(share, FLOOR) / max(reference, FLOOR))


TERMS = [index(count / WINDOW, 0.2) for count in range(WINDOW + 1)]


def psi(results):
    fifths = [map(TERMS.__getitem__, counts(results, lower, lower + 2)) for lower in range(0, 10, 2)]
    return list(functools.reduce(functools.partial(map, operator.add), fifths))


# The terms of each count, by the count an hour before.
TERMS_OF_PAST = [[index(count / WINDOW, past / WINDOW) for past in range(WINDOW + 1)] for count in range(WINDOW + 1)]


def psi_of_past(results):
    """The index against the distribution an hour before. In the first hour, it is 0."""
    fifths = []
    for lower in range(0, 10, 2):
        now = counts(results, lower, lower + 2)
        fifths.append(map(operator.getitem, map(TERMS_OF_PAST.__getitem__, now[HOUR:]), now))
    return [0] * HOUR + list(functools.reduce(functools.partial(map, operator.add), fifths))


# The measures that the page compares, with their limits.
RULES = {"mean": (mean, [0.6]), "KS": (ks, [0.19]), "PSI": (psi, [0.1, 0.2, 0.25])}
AGAINST_THE_PAST = {"PSI against an hour ago": (psi_of_past, [0.3, 0.4, 0.5])}


def alarms(values, limit):
    """The numbers of the evaluations at which the alert begins to fire."""
    over = bytes(map(limit.__lt__, values))
    return [found.start() + FOR - 1 for found in re.finditer(b"\1{%d,}" % FOR, over)]


def each_rule(rules, results):
    """The name of each measure, each of its limits, and the values of the measure."""
    for name, (measure, limits) in rules.items():
        values = measure(results)
        for limit in limits:
            yield f"{name} > {limit}", values, limit


def false_alarms(rules, days, seed):
    """How often each rule fires without drift. Days are simulated ten at a time, to save memory."""
    found = collections.Counter()
    draws = random.Random(seed)
    for _ in range(0, days, 10):
        results = [draws.random() for _ in range(min(days, 10) * DAY + WINDOW - 1)]
        for rule, values, limit in each_rule(rules, results):
            found[rule] += len(alarms(values, limit))
    return found


def times(rules, kind, drifts, seed, seconds=600, before=BEFORE, after=AFTER):
    """The seconds from the start of each drift until the alert fires, by the rule; infinite if it doesn't."""
    found = collections.defaultdict(list)
    draws = random.Random(seed)
    # The window of value 0 ends with the result number WINDOW - 1. An alert that fires at the start of the drift
    # became pending before.
    start = before - (WINDOW - 1) - (FOR - 1)
    for _ in range(drifts):
        results = drifted([draws.random() for _ in range(before + after)], kind, seconds, before)
        for rule, values, limit in each_rule(rules, results):
            fires = alarms(values[start:], limit)
            found[rule].append(5 * (fires[0] - FOR + 1) if fires else math.inf)
    return found


def high_starts(count, starts=10_000):
    """How many models without drift have an index above 0.25 after their first results."""
    draws = random.Random(3)
    high = 0
    for _ in range(starts):
        fifths = collections.Counter(int(5 * draws.random()) for _ in range(count))
        high += sum(index(fifths[fifth] / count, 0.2) for fifth in range(5)) > 0.25
    return high


def described(found):
    """The median and the worst time, or how many of the drifts the alert found."""
    fired = sorted(each for each in found if each < math.inf)
    if len(fired) == len(found):
        return f"{statistics.median_low(fired)} s, {fired[-1]} s"
    return f"{len(fired)} in {len(found):,}" if fired else "never"


def main():
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    quiet = false_alarms(RULES, days, seed=1)
    drifts = [times(RULES, kind, 1000, seed=2) for kind in KINDS]
    print(f"| rule | false alarms in {days:,} days | " + " | ".join(KINDS) + " |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for rule, count in quiet.items():
        print(f"| {rule} | {count:,} | " + " | ".join(described(found[rule]) for found in drifts) + " |")

    for count in (20, 50, 100):
        print(f"PSI > 0.25 after {count} results without drift: {high_starts(count):,} of 10,000 starts")

    long = {"seconds": 86400, "after": DAY + HOUR}
    past = {"before": HOUR + BEFORE}
    quiet = false_alarms(AGAINST_THE_PAST, days // 10, seed=4)
    fast = times(AGAINST_THE_PAST, "narrow", 100, seed=5, **past)
    slow = times(AGAINST_THE_PAST, "narrow", 100, seed=6, **past, **long)
    for rule, count in quiet.items():
        found = f"narrow in 600 s: {described(fast[rule])}; in a day: {described(slow[rule])}"
        print(f"{rule}: {count} false alarms in {days // 10} days; {found}")
    slow = times({"PSI": (psi, [0.25])}, "narrow", 100, seed=6, **long)["PSI > 0.25"]
    print(f"PSI > 0.25: narrow in a day: {described(slow)}")


if __name__ == "__main__":
    main()

"""The closed forms behind `definitions`, compiled: loops over the tie groups of each query, in float64.

One query, tie groups by distance: n items and r relevant ones in a group, C (`closer`) items and K (`found`) relevant
ones strictly closer, R relevant in all. Arrays are those of a `Ranking`; `out` gets one value for each query. Callers
and callees stay in this one file: the compiled code on disk is renewed when the file of the caller changes.
"""

import numpy as np

from xmodal.metrics.ranking import Floats, Ints, compiled

_NEGLIGIBLE = 1e-20  # of the likeliest outcome: what is left out of a distribution's tails does not reach float64


@compiled
def _reciprocals(start: int, stop: int) -> float:
    """H_stop - H_start = 1/(start+1) + ... + 1/stop to full precision, without a table."""
    total = 0.0
    while start < stop and (start < 256 or stop - start <= 16):
        start += 1
        total += 1.0 / start
    if start < stop:  # Euler-Maclaurin at the half integers; the next term is below 1e-16 of the first from 256 on
        a, b = start + 0.5, stop + 0.5
        a2, b2 = 1.0 / (a * a), 1.0 / (b * b)
        total += np.log1p((stop - start) / a) + (b2 - a2) / 24.0 - 7.0 * (b2 * b2 - a2 * a2) / 960.0
    return total


@compiled
def _precisions(n: int, r: int, m: int, closer: int, found: int, span: float) -> float:
    """Expected sum of the precisions at the relevant items in the first m places of a group; span = H_{C+m} - H_C."""
    if r == 0 or m == 0:
        return 0.0
    slope = (r - 1) / (n - 1) if n > 1 else 0.0
    return r / n * (slope * m + (found + 1 - slope * (closer + 1)) * span)


@compiled
def _hypergeometric(n: int, r: int, m: int) -> tuple[int, Floats]:
    """Probabilities of h relevant items among m of n that hold r, as (first h, its and the following probabilities)."""
    low, high = max(0, m - (n - r)), min(r, m)
    likeliest = min(max(((m + 1) * (r + 1)) // (n + 2), low), high)
    weights = np.empty(high - low + 1)
    weights[likeliest - low] = mass = 1.0
    last = first = likeliest
    while last < high and weights[last - low] > _NEGLIGIBLE:
        ratio = (r - last) * (m - last) / ((last + 1) * (n - r - m + last + 1))
        weights[last + 1 - low] = weights[last - low] * ratio
        last += 1
        mass += weights[last - low]
    while first > low and weights[first - low] > _NEGLIGIBLE:
        ratio = first * (n - r - m + first) / ((r - first + 1) * (m - first + 1))
        weights[first - 1 - low] = weights[first - low] * ratio
        first -= 1
        mass += weights[first - low]
    for i in range(first - low, last - low + 1):
        weights[i] /= mass
    return first, weights[first - low : last - low + 1]


@compiled
def _place_of(t: int, n: int, r: int) -> tuple[int, Floats]:
    """Probabilities of the place (from 1) of the t-th of r relevant items in n, as (first place, probabilities)."""
    low, high = t, n - r + t
    near = min(max((t * (n + 1)) // (r + 1), low), high)  # the mean
    weights = np.empty(high - low + 1)
    weights[near - low] = mass = 1.0
    last = first = near
    while last < high and weights[last - low] > _NEGLIGIBLE:
        ratio = last / (last + 1 - t) * ((n - last - (r - t)) / (n - last))
        weights[last + 1 - low] = weights[last - low] * ratio
        last += 1
        mass += weights[last - low]
    while first > low and weights[first - low] > _NEGLIGIBLE:
        ratio = (first - t) / (first - 1) * ((n - first + 1) / (n - first + 1 - (r - t)))
        weights[first - 1 - low] = weights[first - low] * ratio
        first -= 1
        mass += weights[first - low]
    for i in range(first - low, last - low + 1):
        weights[i] /= mass
    return first, weights[first - low : last - low + 1]


@compiled
def _cut_over_hits(n: int, r: int, m: int, closer: int, found: int, whole: float) -> float:
    """E[(whole + S) / (found + h)] where the cut group puts h relevant items into its first m places."""
    span = _reciprocals(closer, closer + m)
    first, probability = _hypergeometric(n, r, m)
    value = 0.0
    for i in range(len(probability)):
        h = first + i
        if found + h > 0:
            value += probability[i] * (whole + _precisions(m, h, m, closer, found, span)) / (found + h)
    return value


@compiled
def _first_relevant(n: int, r: int, t: int, closer: int, found: int) -> float:
    """Expected sum of the precisions at the first t of the r relevant items of a group.

    Given the place p of the t-th, the t - 1 before it lie anywhere in p - 1 places.
    """
    first, probability = _place_of(t, n, r)
    span = _reciprocals(closer, closer + first - 1)
    value = 0.0
    for i in range(len(probability)):
        p = first + i
        before = _precisions(p - 1, t - 1, p - 1, closer, found, span)
        value += probability[i] * (before + (found + t) / (closer + p))
        span += 1.0 / (closer + p)
    return value


@compiled
def average_precision(
    offsets: Ints, closer: Ints, items: Ints, relevant: Ints, divisor: Ints, top: int, out: Floats
) -> None:
    """AP of the first `top` items: the expected sum of precisions over a divisor that the order cannot change."""
    for q in range(len(offsets) - 1):
        found, value = 0, 0.0
        for g in range(offsets[q], offsets[q + 1]):
            n, r, c = items[g], relevant[g], closer[g]
            if c >= top:
                break
            if n == 1:
                value += r * (found + 1) / (c + 1)
            elif r > 0:
                m = min(n, top - c)
                value += _precisions(n, r, m, c, found, _reciprocals(c, c + m))
            found += r
        out[q] = value / divisor[q] if divisor[q] > 0 else 0.0


@compiled
def average_precision_over_hits(
    offsets: Ints, closer: Ints, items: Ints, relevant: Ints, top: int, out: Floats
) -> None:
    """AP of the first `top` items over the relevant ones among them, a number that the order of ties changes."""
    for q in range(len(offsets) - 1):
        found, value = 0, 0.0
        g, end = offsets[q], offsets[q + 1]
        while g < end and closer[g] + items[g] <= top:
            n, r, c = items[g], relevant[g], closer[g]
            value += _precisions(n, r, n, c, found, _reciprocals(c, c + n))
            found += r
            g += 1
        if g < end and closer[g] < top and relevant[g] > 0:
            out[q] = _cut_over_hits(items[g], relevant[g], top - closer[g], closer[g], found, value)
        else:
            out[q] = value / found if found > 0 else 0.0


@compiled
def hit_truncated(offsets: Ints, closer: Ints, items: Ints, relevant: Ints, total: Ints, top: int, out: Floats) -> None:
    """Mean precision at the first min(top, R) relevant items, wherever they rank."""
    for q in range(len(offsets) - 1):
        found, value, wanted = 0, 0.0, min(total[q], top)
        for g in range(offsets[q], offsets[q + 1]):
            n, r, c = items[g], relevant[g], closer[g]
            if found >= wanted:
                break
            if found + r <= wanted:
                value += _precisions(n, r, n, c, found, _reciprocals(c, c + n))
            else:
                value += _first_relevant(n, r, wanted - found, c, found)
            found += r
        out[q] = value / wanted if wanted > 0 else 0.0


@compiled
def average_precision_bound(
    offsets: Ints, closer: Ints, items: Ints, relevant: Ints, total: Ints, kind: int, out: Floats
) -> None:
    """AP of the whole ranking under the worst (kind 0) and best order (1), or at the group ends (2)."""
    for q in range(len(offsets) - 1):
        found, value = 0, 0.0
        for g in range(offsets[q], offsets[q + 1]):
            n, r, c = items[g], relevant[g], closer[g]
            if kind == 2:
                value += r * (found + r) / max(c + n, 1)
            else:
                first = c + n - r if kind == 0 else c
                value += r + (found - first) * _reciprocals(first, first + r)
            found += r
        out[q] = value / total[q] if total[q] > 0 else 0.0


@compiled
def gain_within(
    offsets: Ints, closer: Ints, items: Ints, weight: Floats, discount: Floats, tops: Ints, out: Floats
) -> None:
    """Expected discounted gain within each cut-off; `discount` is cumulative, discount[k] over the first k places."""
    longest = len(discount) - 1
    for q in range(len(offsets) - 1):
        for g in range(offsets[q], offsets[q + 1]):
            if closer[g] >= longest:
                break
            for t in range(len(tops)):
                last = min(closer[g] + items[g], tops[t])
                if last > closer[g]:
                    out[q, t] += weight[g] / items[g] * (discount[last] - discount[closer[g]])

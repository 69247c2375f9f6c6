"""The loops over spikes and timesteps, compiled (numba), without Python's lock: one image after the other, whose charge stays in the nearest cache.

A spike is one integer: its pixel in the upper 32 bits, then its channel, then 1 where it is negative. It adds one short run of weights to the sums of
every row of outputs that it reaches; runs are `LANES` long, or several times that, so that a processor adds them in whole vectors. What lies beyond
the end of a run is zero, or lands beyond the end of a row of sums, where nobody looks.
"""

from typing import Any, NamedTuple

import numba
import numpy as np

LANES = 64


def compiled(function: Any) -> Any:
    """Compiled at its first call, and kept on disk for the next process where there is a place that can be written to."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no such place
        return numba.njit(nogil=True)(function)


class Lines(NamedTuple):
    """What sends spikes: an image `height` by `width` of `channels`, its channels last."""

    height: int
    width: int
    channels: int


class Wires(NamedTuple):
    """Where a spike's charge goes.

    `places` `[pixels, 4]` is, for a pixel, where its first run of sums begins, where its weights do, how many `LANES` it takes, and how many runs there
    are: each begins `up` sums before the last one, its weights `across` later. `starts` `[channels, 2]` is what a channel adds to either beginning;
    those of negative spikes come `opposite` weights later. Channels of one of several `groups` reach sums of their own.
    """

    weights: Any
    places: Any
    starts: Any
    up: int
    across: int
    opposite: int
    groups: int


class Neurons(NamedTuple):
    """What fires: `threshold` and `charge` `[groups, row]` of the neurons in each row of a group; a sum is worth `scale` of their units.

    A timestep takes up to `max_spikes` of each, upward from its threshold on, downward below `lowest`. After the window they go on (if it `drains`) until
    no further spike could change a count clipped to `low` to `high`.
    """

    threshold: Any
    charge: Any
    scale: int
    max_spikes: int
    lowest: int
    drains: bool
    low: int
    high: int


@compiled
def run_counts(counts: Any, lines: Lines, spikes: Any, wires: Wires, neurons: Neurons, charges: Any, out: Any) -> Any:
    """The windows of images `counts` `[n, lines]`: what each neuron counts, into `out` `[n, rows, row]`; returns spikes, and timesteps of draining.

    Lines of one count c spike in the same timesteps, those where `spikes[t, c]` is 1. So their charge is summed once, into `charges[c]`, and the current
    of a timestep is the sum of what the counts that spike in it have. `charges` has room for each count `[counts, rows, row + LANES]`.
    """
    num_fires, most = 0, 0
    num_timesteps, num_counts = spikes.shape
    events, numbers = np.empty((num_counts, counts.shape[1]), np.int64), np.zeros(num_counts, np.int64)
    active, num_active = np.empty((num_timesteps, num_counts), np.int64), np.zeros(num_timesteps, np.int64)
    sums, fired = np.empty(charges.shape[2], charges.dtype), np.empty(out.shape[2], neurons.threshold.dtype)
    height = charges.shape[1] // len(neurons.threshold)
    for n in range(len(counts)):
        _sort_counts(counts[n], lines, events, numbers)
        num_active[:] = 0
        for count in range(1, num_counts):
            if numbers[count]:
                charges[count] = 0
                _integrate(charges[count].reshape(-1), wires, events[count], numbers[count])
                for t in range(num_timesteps):
                    if spikes[t, count]:
                        active[t, num_active[t]] = count
                        num_active[t] += 1
        for row in range(charges.shape[1]):
            threshold, charge = neurons.threshold[row // height], neurons.charge[row // height]
            sums[:] = 0
            fired[:] = 0
            for t in range(num_timesteps):
                _add_rows(sums, charges, row, active[t], num_active[t])
                num_fires += _fire(sums, fired, threshold, charge, neurons)
            more, length = _settle(sums, fired, threshold, charge, neurons, out[n, row])
            num_fires, most = num_fires + more, max(most, length)
    return num_fires, -(-most // neurons.max_spikes)


@compiled
def run_sent(sent: Any, before: Any, lines: Lines, wires: Wires, neurons: Neurons, sums: Any, fired: Any) -> int:
    """A block of timesteps of images that have `sent` `[timesteps, n, lines]`, after `before` `[n, lines]`; `sums` `[n, rows, row + LANES]` and `fired`
    `[n, rows, row]` go on. Returns spikes."""
    num_fires = 0
    height = sums.shape[1] // len(neurons.threshold)
    events = np.empty(sent.shape[2], np.int64)
    for n in range(sent.shape[1]):
        for t in range(len(sent)):
            number = _sort_sent(sent[t, n], sent[t - 1, n] if t else before[n], lines, events)
            _integrate(sums[n].reshape(-1), wires, events, number)
            for row in range(sums.shape[1]):
                num_fires += _fire(sums[n, row], fired[n, row], neurons.threshold[row // height], neurons.charge[row // height], neurons)
    return num_fires


@compiled
def settle(sums: Any, fired: Any, neurons: Neurons, out: Any) -> Any:
    """After the window: the counts of images `[n, rows, row]` into `out`; returns the spikes and timesteps that it took."""
    num_fires, most = 0, 0
    height = sums.shape[1] // len(neurons.threshold)
    for n in range(len(sums)):
        for row in range(sums.shape[1]):
            threshold, charge = neurons.threshold[row // height], neurons.charge[row // height]
            more, length = _settle(sums[n, row], fired[n, row], threshold, charge, neurons, out[n, row])
            num_fires, most = num_fires + more, max(most, length)
    return num_fires, -(-most // neurons.max_spikes)


@compiled
def _sort_counts(counts: Any, lines: Lines, events: Any, numbers: Any) -> None:
    """The lines of each count. Column by column: neighbours in a row would wait for sums that have just been written."""
    numbers[:] = 0
    for x in range(lines.width):
        for y in range(lines.height):
            pixel = y * lines.width + x
            for channel in range(lines.channels):
                count = np.int64(counts[pixel * lines.channels + channel])
                if count != 0:
                    size = abs(count)
                    events[size, numbers[size]] = (pixel << 32) | (channel << 1) | (count < 0)
                    numbers[size] += 1


@compiled
def _sort_sent(sent: Any, before: Any, lines: Lines, events: Any) -> int:
    """The lines that spike in one timestep: those that have sent more than before, or less."""
    number = 0
    for x in range(lines.width):
        for y in range(lines.height):
            pixel = y * lines.width + x
            for channel in range(lines.channels):
                line = pixel * lines.channels + channel
                if sent[line] != before[line]:
                    events[number] = (pixel << 32) | (channel << 1) | (sent[line] < before[line])
                    number += 1
    return number


@compiled
def _integrate(sums: Any, wires: Wires, events: Any, number: int) -> None:
    """Every line's weights, added to the sums that it reaches: those of one pixel, which follow each other, by fours and twos where they can."""
    done = 0
    while done < number:
        pixel = events[done] >> 32
        begin, length, runs = wires.places[pixel, 0], wires.places[pixel, 2] * LANES, wires.places[pixel, 3]
        begin += wires.starts[(events[done] >> 1) & 0x7FFFFFFF, 0]
        first = _weights_of(events[done], wires)
        if wires.groups == 1 and done + 3 < number and events[done + 3] >> 32 == pixel:
            second, third, fourth = _weights_of(events[done + 1], wires), _weights_of(events[done + 2], wires), _weights_of(events[done + 3], wires)
            for run in range(runs):
                into, on = sums[begin - run * wires.up :][:length], run * wires.across
                a, b = wires.weights[first + on :][:length], wires.weights[second + on :][:length]
                c, d = wires.weights[third + on :][:length], wires.weights[fourth + on :][:length]
                for i in range(length):
                    into[i] += a[i] + b[i] + c[i] + d[i]
            done += 4
        elif wires.groups == 1 and done + 1 < number and events[done + 1] >> 32 == pixel:
            second = _weights_of(events[done + 1], wires)
            for run in range(runs):
                into, on = sums[begin - run * wires.up :][:length], run * wires.across
                a, b = wires.weights[first + on :][:length], wires.weights[second + on :][:length]
                for i in range(length):
                    into[i] += a[i] + b[i]
            done += 2
        else:
            for run in range(runs):
                into, a = sums[begin - run * wires.up :][:length], wires.weights[first + run * wires.across :][:length]
                for i in range(length):
                    into[i] += a[i]
            done += 1


@compiled
def _weights_of(event: int, wires: Wires) -> int:
    """Where the weights of an event's line begin."""
    return wires.places[event >> 32, 1] + wires.starts[(event >> 1) & 0x7FFFFFFF, 1] + (event & 1) * wires.opposite


@compiled
def _add_rows(into: Any, charges: Any, row: int, active: Any, number: int) -> None:
    """What the counts that are active have for one row, added."""
    for k in range(0, number - 3, 4):
        a, b, c, d = charges[active[k], row], charges[active[k + 1], row], charges[active[k + 2], row], charges[active[k + 3], row]
        for i in range(len(into)):
            into[i] += a[i] + b[i] + c[i] + d[i]
    for k in range(number // 4 * 4, number):
        a = charges[active[k], row]
        for i in range(len(into)):
            into[i] += a[i]


@compiled
def _fire(sums: Any, fired: Any, threshold: Any, charge: Any, neurons: Neurons) -> int:
    """One timestep of one row of neurons; returns their spikes."""
    kind = threshold.dtype.type
    scale, lowest = kind(neurons.scale), kind(neurons.lowest)
    fires = kind(0)
    for i in range(len(threshold)):
        potential = kind(kind(kind(sums[i] * scale) + charge[i]) - kind(fired[i] * threshold[i]))
        up, down = kind(potential >= threshold[i]), kind(potential < lowest)
        fired[i] = kind(fired[i] + kind(up - down))
        fires = kind(fires + kind(up + down))
    number = int(fires)
    if fires and neurons.max_spikes > 1:
        for i in range(len(threshold)):
            more = (sums[i] * scale + charge[i] - fired[i] * threshold[i]) // threshold[i]
            more = min(max(more, 1 - neurons.max_spikes if lowest == 0 else 0), neurons.max_spikes - 1)
            fired[i] += more
            number += abs(more)
    return number


@compiled
def _settle(sums: Any, fired: Any, threshold: Any, charge: Any, neurons: Neurons, out: Any) -> Any:
    """Fire until every count of a row is settled, and write it; the spikes, and the most of one neuron. First one spike each, over and over, which is
    fast and mostly enough; then what is left at once."""
    number, most, kind = 0, 0, threshold.dtype.type
    scale, lowest, low, high = kind(neurons.scale), kind(neurons.lowest), kind(neurons.low), kind(neurons.high)
    fires = kind(neurons.drains)
    while fires and most < 8:
        fires = kind(0)
        for i in range(len(threshold)):
            potential = kind(kind(kind(sums[i] * scale) + charge[i]) - kind(fired[i] * threshold[i]))
            up = kind(kind(potential >= threshold[i]) & kind(fired[i] < high))
            down = kind(kind(potential < lowest) & kind(fired[i] > low))
            fired[i] = kind(fired[i] + kind(up - down))
            fires = kind(fires + kind(up + down))
        if fires:
            number, most = number + fires, most + 1
    if fires:
        spent = most
        for i in range(len(threshold)):
            target = (sums[i] * scale + charge[i]) // threshold[i]
            settled = min(max(target, min(fired[i], low) if lowest == 0 else fired[i]), max(fired[i], high))
            left = abs(settled - fired[i])
            fired[i] = settled
            number, most = number + left, max(most, spent + left)
    for i in range(len(threshold)):
        out[i] = min(max(fired[i], low), high)  # a byte's bits are the same with a sign and without
    return number, most

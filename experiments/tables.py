"""The command of a table: trains what it lacks, one training after the other or several at once, and prints it."""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from floating import Floating, data_of
from methods import DATA, SEEDS, Method
from printed import Aims, table_lines
from rows import add, read

Wanted = dict[tuple[str, int], list[tuple[Method, int]]]  # rows that a table lacks, method and bits, by network and seed


class Bench:
    """Trains what a table lacks. Floating-point networks and their controls lie in a folder and serve every table.

    A `brief` table fine-tunes for BRIEF epochs.
    """

    def __init__(self, table: str, title: str, methods: Sequence[Method], bits: Sequence[int], aims: Aims | None = None, brief: bool = False) -> None:
        self.table, self.title, self.bits, self.aims = table, title, tuple(bits), aims or Aims()
        self.methods = tuple(replace(method, brief=brief) for method in methods)

    def ways(self, network: str) -> list[tuple[Method, int]]:
        """The rows that a seed of the network has: method and bits."""
        tried = (method for method in self.methods if network in method.networks)
        return [(method, bits) for method in tried for bits in self.bits if not method.only or bits in method.only]

    def main(self) -> None:
        """The command line of a table."""
        parser = argparse.ArgumentParser(description=f"{self.title}. Finished rows are skipped; half-trained ones go on.")
        parser.add_argument("--networks", nargs="+", default=list(DATA), choices=list(DATA))
        parser.add_argument("--seeds", type=int, help="how many, from 0 on (default: 5 on MNIST, 3 on CIFAR-10)")
        parser.add_argument("--bits", nargs="+", type=int, default=self.bits, choices=self.bits, help="only these for now")
        common_options(parser)
        parser.add_argument("--device", default="cpu")
        parser.add_argument("--jobs", type=_number, default=1, help="so many trainings at once, each a process with its share of the processor's threads")
        parser.add_argument("--print", action="store_true", help="train nothing: print the rows that are there")
        asked = parser.parse_args()
        if not asked.print:
            done = {row.key for row in read(self.table)}
            wanted: Wanted = {}
            for network in asked.networks:
                for seed in range(asked.seeds or SEEDS[network]):
                    ways = [way for way in self.ways(network) if way[1] in asked.bits and _key(network, *way, seed) not in done]
                    if ways:
                        wanted[network, seed] = ways
            in_turn(self.table, wanted, asked) if asked.jobs == 1 else at_once(self.table, wanted, asked)
        print(f"# {self.title}\n")
        for line in table_lines(read(self.table), self.aims):
            print(line)


def common_options(parser: argparse.ArgumentParser) -> None:
    """What every command here asks: where the data lie, where checkpoints go, whether what is trained on a processor goes through torch.compile, and
    whether networks that lie in the repository are trained all the same."""
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MEMSPIKE_DATA", "../shared/data")), help="folder with mnist/ and cifar10/")
    parser.add_argument("--runs", type=Path, default=Path("runs/tables"), help="where checkpoints go, those of table 4 for all commands")
    without = "train without torch.compile, which takes a C++ compiler; also to use checkpoints that were made so, as on CUDA"
    parser.add_argument("--no-compile", dest="compile", action="store_false", help=without)
    parser.add_argument("--anew", action="store_true", help="train the floating-point networks too that lie in experiments/networks (rows that are there stay)")
    parser.set_defaults(device="cpu")


def _number(said: str) -> int:
    if not said.isdecimal() or int(said) < 1:
        raise argparse.ArgumentTypeError(f"{said!r} is no number of trainings, 1 or more")
    return int(said)


def in_turn(table: str, wanted: Wanted, asked: argparse.Namespace) -> None:
    """One training after the other."""
    for (network, seed), ways in wanted.items():
        floating = floating_of(network, seed, asked)
        for method, bits in ways:
            add(floating.row(table, method, bits)[0])


def at_once(table: str, wanted: Wanted, asked: argparse.Namespace) -> None:
    """`asked.jobs` processes: first what the rows of a seed share, its floating-point network and controls, then the rows."""
    threads = max(1, (os.cpu_count() or 1) // asked.jobs)
    with ProcessPoolExecutor(asked.jobs, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        shared = {
            pool.submit(_share, network, seed, {method.epochs(network) for method, _ in ways}, asked): (network, seed)
            for (network, seed), ways in wanted.items()
        }
        rows: list[Future[None]] = []
        try:
            for ready in as_completed(shared):
                ready.result()
                network, seed = shared[ready]
                rows += [pool.submit(_row, table, network, seed, method, bits, asked) for method, bits in wanted[network, seed]]
            for row in as_completed(rows):
                row.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what runs goes on to its end; what waits is for another time
            raise


def _share(network: str, seed: int, epochs: set[int], asked: argparse.Namespace) -> None:
    floating = floating_of(network, seed, asked)
    for number in sorted(epochs):
        floating.control(number)


def _row(table: str, network: str, seed: int, method: Method, bits: int, asked: argparse.Namespace) -> None:
    add(floating_of(network, seed, asked).row(table, method, bits)[0])


def floating_of(network: str, seed: int, asked: argparse.Namespace) -> Floating:
    """The floating-point network of a seed, as the command line asks for it."""
    return Floating(network, seed, data_of(network, asked.data), asked.runs, asked.device, asked.compile, asked.anew)


def _key(network: str, method: Method, bits: int, seed: int) -> tuple[str, ...]:
    chosen = method.bits(bits)
    return (network, str(chosen.activation or "fp32"), str(chosen.weight or "fp32"), method.name, str(seed))

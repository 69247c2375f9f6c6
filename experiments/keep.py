"""Keep floating-point networks in the repository: trains those that are not there, and writes their weights and where they are from to experiments/networks.

Run: python experiments/keep.py [--networks alexnet_cifar resnet20] [--seeds 3]
Every table starts from a kept network, unless it is told to train `--anew`; one of another recipe or other data is left aside.
"""

import argparse

from floating import Floating
from methods import DATA, SEEDS
from tables import common_options, floating_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["alexnet_cifar", "resnet20"], choices=list(DATA))
    parser.add_argument("--seeds", type=int, help="how many, from 0 on (default: 5 on MNIST, 3 on CIFAR-10)")
    common_options(parser)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    for network in asked.networks:
        for seed in range(asked.seeds or SEEDS[network]):
            print(_kept(floating_of(network, seed, asked)))


def _kept(floating: Floating) -> str:
    if floating.is_kept:
        found = f"{floating.network}, seed {floating.seed}: kept already, {floating.accuracy:.2%}"
        return f"{found} (with --anew the one of --runs takes its place, trained if it is not there)"
    return f"{floating.keep()}: {floating.accuracy:.2%}"


if __name__ == "__main__":
    main()

"""Every table that has rows, as docs/tables.md: what the experiments gave so far, beside the paper's figures. Trains nothing.

Run: python experiments/show_tables.py
"""

from importlib import import_module
from pathlib import Path

from rows import SEEDS, TITLES, Bench, read, table_lines

TABLES = ("table1_neuron_convergence", "table2_weight_clustering", "table3_both", "table4_recipe", "table5_fixed_point", "table6_ablation")
PAGE = Path(__file__).parents[1] / "docs" / "tables.md"
HEAD = """# Tables

Written by `python experiments/show_tables.py` from [its rows](../experiments/results). Each table is filled by a command of its own, which
skips the rows that are there. Accuracies are per cent of all 10 000 test images, mean and standard deviation over seeds; a program's is that of the compiled
integers, image, first and last layer included. A loss is against fp32 with the same further epochs, in points. Won and lost are images that only the quantised,
or only the fp32 network of that seed classifies rightly, all seeds together. The epoch is always the last."""


def main() -> None:
    parts = [HEAD]
    for name in TABLES:
        bench: Bench = import_module(name).BENCH
        rows = read(name)
        wanted = {network: len(bench.methods) * len(bench.bits) * seeds for network, seeds in SEEDS.items()}
        have = ", ".join(f"{TITLES[network]} {sum(row.network == network for row in rows)} of {number}" for network, number in wanted.items())
        parts += [f"## {bench.title}", f"`python experiments/{name}.py`; rows so far: {have}."]
        if rows:
            parts.append("\n".join(table_lines(rows, bench.paper)))
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()

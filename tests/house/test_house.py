"""The house keeps its own rules: imports, first lines, sizes, words."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "memspike").rglob("*.py"))


def test_the_import_contract_holds() -> None:
    done = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_file_begins_with_one_sentence_that_says_what_it_is() -> None:
    for path in SOURCES:
        first = path.read_text(encoding="utf-8").split("\n")[0]
        assert re.fullmatch(r'""".+[.:](""")?', first), f"{path.relative_to(ROOT)}: {first!r}"


def test_every_public_function_and_class_has_a_docstring() -> None:
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                is_overload = any(getattr(decorator, "id", "") == "overload" for decorator in node.decorator_list)
                assert is_overload or ast.get_docstring(node), f"{path.relative_to(ROOT)}: {node.name}"


def test_no_room_for_leftovers() -> None:
    for path in SOURCES:
        assert path.stem not in {"utils", "helpers", "common", "misc"}, path


def test_words_that_we_do_not_say() -> None:
    unsaid = re.compile(r"\b(n_bits|bitwidth|xbar|Gmax|v_th|vth|n_steps|spike_train\b(?!s)|SA0|SA1)\b")
    for path in SOURCES:
        found = unsaid.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)} says {found[0]!r}; see CONVENTIONS.md" if found else ""


def test_files_are_read_in_one_sitting() -> None:
    for path in SOURCES:
        assert len(path.read_text(encoding="utf-8").split("\n")) <= 600, path


def test_the_front_door_is_light() -> None:
    code = "import sys, memspike; assert 'torch' not in sys.modules and 'plotly' not in sys.modules and 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_name_at_the_front_door_opens() -> None:
    import memspike

    for name in memspike.__all__:
        assert getattr(memspike, name) is not None


def test_peers_import_what_their_environment_has() -> None:
    """But for peers that are measured only where somebody installed them."""
    lines = (ROOT / "benchmarks/peers/requirements.txt").read_text(encoding="utf-8").split()
    known = {line.split("==")[0] for line in lines} | {"aihwkit", "simulator"} | sys.stdlib_module_names
    for path in [*ROOT.glob("benchmarks/peers/*.py"), *ROOT.glob("experiments/peers/*.py")]:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        found = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
        found |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        assert {name.split(".")[0] for name in found} <= known, path

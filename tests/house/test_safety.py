"""The source holds nothing through which a file could run code: no pickle, eval, shell, or unpacking of archives to disk."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("src", "experiments", "benchmarks", "docs", ".ci") for path in (ROOT / folder).rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "extractall", "unpack_archive", "os.system", "os.popen", "getoutput", "getstatusoutput"}
FORBIDDEN = {"shell": True, "allow_pickle": True, "weights_only": False}


def dangers(source: str) -> list[str]:
    """What a source does that it should not, as `line: what`."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, f"imports {name.name}") for name in node.names if name.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0], *(name.name for name in node.names)}
            found += [(node.lineno, f"imports {name}") for name in sorted(names & MODULES)]
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
            # Methods of a model or a data frame may be called eval; the builtin may not.
            if CALLS & {name, ast.unparse(node.func)} and not (name in ("eval", "exec") and isinstance(node.func, ast.Attribute)):
                found.append((node.lineno, f"calls {ast.unparse(node.func).split('.')[-1] if name in CALLS else ast.unparse(node.func)}"))
            for keyword in node.keywords:
                if keyword.arg in FORBIDDEN and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is not FORBIDDEN[keyword.arg]):
                    found.append((node.lineno, f"passes {keyword.arg}={ast.unparse(keyword.value)}"))
            # torch.load is safe only when it is told to be; numpy's savez and load pickle only when they are told to.
            if ast.unparse(node.func) == "torch.load" and "weights_only" not in {keyword.arg for keyword in node.keywords}:
                found.append((node.lineno, "calls torch.load without weights_only"))
            if ast.unparse(node.func) == "torch.save":
                found.append((node.lineno, "calls torch.save, which pickles"))
    return [f"{line}: {what}" for line, what in sorted(found)]


def test_there_is_a_source_to_read() -> None:
    assert ROOT / "src" / "memspike" / "storage" / "forms.py" in SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_can_run_what_a_file_says(path: Path) -> None:
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import pickle", "1: imports pickle"),
        ("from joblib import load", "1: imports joblib"),
        ("\neval('1')", "2: calls eval"),
        ("subprocess.run(x, shell=True)", "1: passes shell=True"),
        ("subprocess.run(x, shell=flag)", "1: passes shell=flag"),
        ("archive.extractall(folder)", "1: calls extractall"),
        ("numpy.load(path, allow_pickle=True)", "1: passes allow_pickle=True"),
        ("torch.load(path)", "1: calls torch.load without weights_only"),
        ("torch.load(path, weights_only=False)", "1: passes weights_only=False"),
        ("torch.save(x, path)", "1: calls torch.save, which pickles"),
        ("os.system('ls')", "1: calls os.system"),
    ],
)
def test_the_test_sees_each_danger(source: str, said: str) -> None:
    assert dangers(source) == [said]


def test_the_test_leaves_the_harmless_alone() -> None:
    assert (
        dangers("model.eval()\nnumpy.load(path, allow_pickle=False)\ntorch.load(path, weights_only=True)\nsubprocess.run(x, shell=False)\nplatform.system()")
        == []
    )

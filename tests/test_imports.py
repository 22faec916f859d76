"""Imports point one way: cli -> api -> job, plan, runner, training, results -> tasks | models -> kernels -> torch."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import partial
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "atlas_bench"
OURS = ("atlas_bench", "benchmarks", "docs", "studies", "examples", "tests")  # folders of code
FREE = {"types", "errors", "files", "units", "registry", "stats"}  # anybody may import them
ALLOWED = {  # part of the package -> our parts it may import; a part that is above all others has no row
    "errors": set(),
    "files": {"errors", "files"},
    "units": {"errors"},
    "types": {"errors"},
    "registry": {"errors", "files", "types"},
    "stats": {"stats"},
    "kernels": {"kernels"},
    "models": FREE | {"kernels", "models"},
    "tasks": FREE | {"tasks"},
    "results": FREE | {"results"},
    "export": FREE | {"export", "results"},
    "running": FREE | {"models", "results", "running", "tasks"},
    "training": FREE | {"kernels", "models", "results", "running", "tasks", "training"},
    "lmeval": FREE | {"lmeval", "models", "results", "running", "tasks"},
    "comparison": FREE | {"comparison", "kernels", "models", "results", "running", "training"},
    "job": FREE | {"job", "lmeval", "models", "results", "running"},
    "api": FREE | {"comparison", "job", "results", "running", "training"},
    "cli": FREE
    | {"api", "cli", "comparison", "export", "job", "kernels"}
    | {"lmeval", "models", "results", "running", "tasks", "training"},
}
ENTRANCES = {"__init__", "__main__"}  # they import the parts that a user calls, and one command its parent's
SEES_NO_TORCH = {*FREE, "tasks", "results", "export", "running", "job", "api", "cli"}
SEES_TORCH = {"running/resources.py", "cli/doctor.py"}  # where it is there already, or is what is looked at

BY_STRING = {  # file that imports modules by a string -> the library that it keeps out
    "registry.py": "torch, for names are listed without it",
    "kernels/dispatch.py": "triton",
    "kernels/aot.py": "triton",
    "kernels/selftest.py": "triton",
    "models/huggingface/packages.py": "packages that the user names",
    "models/loading.py": "transformers and aiohttp",
}


def imports(file: Path) -> set[str]:
    """Absolute names of every module the file imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_one_way(file):
    part = file.relative_to(ROOT).parts[0].removesuffix(".py")
    found = imports(file)
    ours = {name.split(".")[1] for name in found if name.startswith("atlas_bench.")} - {"__version__"}
    if part not in ENTRANCES and file != ROOT / "cli" / "child.py":
        assert ours <= ALLOWED[part]
    if part in SEES_NO_TORCH and str(file.relative_to(ROOT)) not in SEES_TORCH:
        assert not {name for name in found if name.split(".")[0] == "torch"}


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the package."""
    names = {file: file.relative_to(ROOT.parent).with_suffix("").parts for file in ROOT.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): file for file, parts in names.items()}


def graph() -> dict[str, set[str]]:
    """Module -> modules that it imports, lazily and for types too; but for the version's number, the package's own."""
    known = modules()
    imported = {name: imports(file) - {"atlas_bench.__version__"} for name, file in known.items()}
    return {
        name: {each if each in known else each.rpartition(".")[0] for each in found} & known.keys() - {name}
        for name, found in imported.items()
    }


def test_no_module_imports_itself_by_way_of_others():
    list(TopologicalSorter(graph()).static_order())  # its CycleError names the modules


def test_the_runner_is_given_what_it_needs():
    """What runs a cell does not look up what to run: planning, estimates and announcements stand above it."""
    edges, below = graph(), {"atlas_bench.running.runner"}
    while further := set().union(*(edges[name] for name in below)) - below:
        below |= further
    assert {"atlas_bench.running.attempt", "atlas_bench.running.evaluation"} <= below
    assert not {name for name in below if name.endswith((".plan", ".estimate", ".announce", ".job", ".api"))}


def test_imports_by_string_are_known_and_lead_somewhere():
    loading = {
        str(file.relative_to(ROOT))
        for file in modules().values()
        if re.search(r"\b(import_module|__import__)\(", file.read_text())
    }
    assert loading <= BY_STRING.keys(), "an import by string hides an edge from these tests; import inside a function"
    written = {
        name for file in modules().values() for name in re.findall(r"[\"'](atlas_bench[.\w]+:\w+)", file.read_text())
    }
    assert written  # the registry's at least
    for name in written:
        module, _, member = name.partition(":")
        assert re.search(
            rf"^(class |def |from .* import .*)?\b{member}\b", modules()[module].read_text(), re.MULTILINE
        ), name


def test_functions_fit_a_screen():
    """60 lines at most, docstring included, but for kernels."""
    long = {
        f"{file.relative_to(ROOT)}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for file in modules().values()
        if file.relative_to(ROOT).parts[0] != "kernels"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60
    }
    assert not long, f"60 is the limit; move a part into a function of its own: {', '.join(sorted(long))}"


def test_the_root_holds_little():
    assert len(list(ROOT.glob("*.py"))) <= 8


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['atlas-bench', 'run', '--help']\n"
        "from atlas_bench.cli.app import app\n"
        "app(standalone_mode=False)\n"
        "print('HEAVY', sorted({'torch', 'numpy', 'pandas', 'scipy', 'rich', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert "--checkpoint-every" in done.stdout and max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.strip().endswith("HEAVY []"), done.stdout[-200:]


def test_controls_and_tasks_import_no_torch():
    code = (
        "import sys\n"
        "from atlas_bench import registry; from atlas_bench.running import plan, runner\n"
        "from atlas_bench.models import loading\n"
        "[loading.load(name) for name in registry.MODELS], [registry.task(name) for name in registry.TASKS]\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)


# a Python in which packages are not there, as on a machine that is only to read records
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in set(sys.argv[1].split(",")):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Missing())
from typer.testing import CliRunner
from atlas_bench.cli.app import app
for words in sys.argv[2:]:
    result = CliRunner().invoke(app, words.split())
    said = result.stderr.strip() or f"{len(result.stdout)} characters"
    print(result.exit_code, said.splitlines()[-1], repr(result.exception) if result.exit_code == 1 else "", sep="|")
"""


def without(packages: str, *commands: str) -> list[list[str]]:
    """[exit code, the last line of stderr, the exception of code 1] of commands where those packages are not there."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, packages, *commands],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT.parent,
    )
    return [line.split("|") for line in done.stdout.splitlines()]


without_torch = partial(without, "torch,transformers,triton,lm_eval")
OPTIONAL = "aiohttp,datasets,lm_eval,matplotlib,nltk,pyarrow,ray,triton"  # what extras bring


@pytest.mark.slow
def test_what_extras_bring_is_not_needed_without_them(tmp_path):
    found = without(
        OPTIONAL,
        f"run mqar:8 --len 1K --samples 2 --model atlas-nano --quiet --out {tmp_path / 'runs'}",
        f"run babilong:qa1 --len 1K --samples 2 --model atlas-nano --quiet --out {tmp_path / 'runs'}",
        f"report {tmp_path / 'runs'}", f"report {tmp_path / 'runs'} -o {tmp_path / 'board.html'}", "doctor",
        "describe atlas-nano", "verify examples/my_memory.py",
    )  # fmt: skip
    assert [code for code, *_ in found] == ["0"] * len(found), found


def test_a_missing_extra_is_one_message(tmp_path):
    (tmp_path / "book.txt").write_text("It rained. " * 2000)
    run = f"run babilong:qa1 --len 1K --samples 1 --model constant --out {tmp_path / 'runs'}"
    commands = {
        f"{run} --background {tmp_path}": "pip install nltk",
        f"{run} --background pg19": "pip install datasets",
        f"{run} --data hub": "pip install datasets",
        f"{run} --prompt official": "pip install lm-eval",
        f"run ruler:qa_1 --len 4Ki --data hub --model constant --out {tmp_path / 'runs'}": "pip install datasets",
        f"run lm-eval:lambada_openai --model atlas-nano --out {tmp_path / 'runs'}": "pip install lm-eval",
        f"run mqar:8 --len 1K --model openai:http://localhost:9/v1#m --out {tmp_path / 'runs'}": "pip install aiohttp",
        f"push results/retention.jsonl {tmp_path / 'data'}": "pip install pyarrow",
        f"run mqar:8 --len 1K --model oracle --engine ray --out {tmp_path / 'runs'}": "pip install ray",
        "lm-eval --help": "pip install lm-eval",
    }
    for (code, said, _), (command, advice) in zip(without(OPTIONAL, *commands), commands.items(), strict=True):
        assert code == "2" and said.startswith("error: ") and advice in said, (command, code, said)
    assert not (tmp_path / "runs").exists()


def test_every_module_of_ours_that_is_imported_exists():
    """Studies and benchmarks import lazily, and no other test runs most of them."""

    def is_module(name: str) -> bool:
        path = ROOT.parent.joinpath(*name.split("."))
        return path.with_suffix(".py").exists() or (path / "__init__.py").exists()

    wanted = {
        name: file
        for folder in OURS
        for file in (ROOT.parent / folder).rglob("*.py")
        for name in imports(file)
        if name.split(".")[0] in OURS
    }

    def is_there(name: str) -> bool:
        """Whether it is a module, or a name in one; of a package, a name that its __init__.py mentions."""
        parent = ROOT.parent.joinpath(*name.rpartition(".")[0].split("."))
        if is_module(name) or parent.with_suffix(".py").exists():
            return True
        init = parent / "__init__.py"
        return init.exists() and re.search(rf"\b{name.rpartition('.')[2]}\b", init.read_text()) is not None

    missing = {name for name in wanted if not is_there(name)}
    assert not {name: str(wanted[name]) for name in missing}


def test_every_imported_package_is_declared():
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    written = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    declared = {re.match(r"[\w-]+", text)[0].lower().replace("-", "_") for text in written}
    declared |= {"yaml", "atlas_bench", *sys.stdlib_module_names}  # pyyaml is imported by another name
    declared |= {*OURS, "fla", "titans_pytorch"}  # peers, which benchmarks time where somebody has installed them
    declared |= {"tensorboard", "trackio", "wandb"}  # and trackers, which `train --log-to` writes to there
    imported = {
        name.split(".")[0]: file
        for folder in OURS
        for file in (ROOT.parent / folder).rglob("*.py")
        for name in imports(file)
    }
    assert not {name: str(file) for name, file in imported.items() if name not in declared}


def test_results_are_read_where_torch_is_not_installed(tmp_path):
    found = without_torch(
        "--help", "report --help", "list", "list memories --json", "describe titans", "describe babilong:qa1",
        "describe atlas-nano", "run --print-config", "report results/retention.jsonl",
        f"report results -o {tmp_path / 'page.html'}", "changes results/retention.jsonl results/retention.jsonl",
        f"push results/retention.jsonl {tmp_path / 'data'}",
        f"run mqar:8 --len 1K --samples 2 --model oracle --quiet --out {tmp_path / 'runs'}",
    )  # fmt: skip
    assert [code for code, *_ in found] == ["0"] * len(found), found


def test_what_needs_torch_says_so_in_one_message(tmp_path):
    commands = (
        f"run mqar:8 --len 1K --out {tmp_path}", "verify titans", f"train --memory titans --out {tmp_path / 'model'}",
        f"compare atlas-nano swa-nano --task mqar:8 --len 1K --out {tmp_path}", "describe 170M",
        f"probe atlas-nano --out {tmp_path}",
    )  # fmt: skip
    for (code, said, _), command in zip(without_torch(*commands), commands, strict=True):
        assert code == "2" and said.startswith("error: torch is not installed"), (command, said)
        assert f"{command.split()[0]}` needs it: pip install torch" in said
    (code, said, _), (doctor, _, ended) = without_torch("lm-eval --help", "doctor")
    assert code == "2" and "lm-eval is not installed" in said and "pip install lm-eval" in said
    assert doctor == "1" and ended == "SystemExit(1)"


def completed(shell: str, **variables: str) -> tuple[list[str], str]:
    """(what a shell is told, the heavy modules that it waited for)."""
    code = (
        "import sys; sys.argv = ['atlas-bench']\n"
        "from atlas_bench.cli.app import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'tokenizers', 'transformers', 'scipy'} & set(sys.modules)), file=sys.stderr)"
    )
    environment = os.environ | {"_ATLAS_BENCH_COMPLETE": f"complete_{shell}", **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, env=environment
    )
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["de"], ["describe"]),
        (["run", "bab"], ["babilong"]),
        (["run", "babilong", ":", "qa2"], ["qa2", "qa20"]),
        (["run", "mqar", ":", "8,niah", ":", "mu"], ["multi"]),
        (["run", "mqar", ":", "8", "--model", "omeganet-n"], ["omeganet-nano"]),
        (["compare", "tit", "titans"], ["titans", "titans-nano"]),
        (["report", "--no-p"], ["--no-published"]),
        (["list", "me"], ["memories"]),
        (["score", "runs", "--scorer", "babilong/w"], ["babilong/word"]),
    ],
)
def test_bash_completes_names_without_torch(words, said):
    variables = {"COMP_WORDS": "\n".join(["atlas-bench", *words]), "COMP_CWORD": str(len(words))}
    assert completed("bash", **variables) == (said, "[]\n")


def test_zsh_is_given_whole_words():
    found, heavy = completed("zsh", _TYPER_COMPLETE_ARGS="atlas-bench run babilong:qa2")
    assert heavy == "[]\n" and [word for word in found if "qa20" in word] and "babilong" in found[-1]

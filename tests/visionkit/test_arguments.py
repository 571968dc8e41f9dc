"""The command line of the training verbs is checked before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionkit import configurations
from visionkit.arguments import MEASURING, RUN_OPTIONS, check_arguments, given, option, trainer_options
from visionkit.errors import CheckpointError, DataError, UsageError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["classification", "task/classification", "configs/task/classification.yaml"])
@pytest.mark.parametrize("form", [["-c", "{}"], ["--config={}"], ["-c={}"]])
def test_a_shipped_configuration_is_found_by_name_from_anywhere(name, form):
    (resolved,) = [each for each in check_arguments("fit", [part.format(name) for part in form]) if each[0] != "-"] or [
        check_arguments("fit", [part.format(name) for part in form])[0].partition("=")[2]
    ]
    assert Path(resolved).is_file() and Path(resolved).name == "classification.yaml"


def test_every_shipped_configuration_has_a_name_and_is_sound():
    known = configurations.shipped()
    folders = ("task", "data", "trainer", "logger", "experiment")
    paths = [path for folder in folders for path in (configurations.SHIPPED / folder).glob("*.yaml")]
    assert len(paths) > 20 and {known[f"{path.parent.name}/{path.stem}"] for path in paths} == set(paths)
    for path in paths:
        assert configurations.read(path)


def test_a_file_of_the_user_wins_over_a_shipped_name(tmp_path):
    (tmp_path / "classification").write_text("model: {}\n")
    assert configurations.resolve("classification") == Path("classification")
    (tmp_path / "detection").mkdir()
    assert configurations.resolve("detection").suffix == ".yaml"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "nope.yaml"], "-c nope.yaml: no such file"),
        (["-c", "clasification"], "did you mean 'classification'"),
        (["-c"], "-c: name a configuration file"),
        (["-c", "."], "a folder, not a configuration file"),
        (["--trainer.max_epoch", "3"], r"unknown option --trainer\.max_epoch; did you mean '--trainer\.max_epochs'"),
        (["--max_epochs", "3"], r"unknown option --max_epochs; did you mean '--trainer\.max_epochs'"),
        (["--rnu=a"], "unknown option --rnu; did you mean '--run'"),
        (["--run"], "--run: a value is missing"),
        (["--run", "--model", "X"], "--run: a value is missing"),
        (["photos"], "unexpected argument 'photos'"),
        (["--results", "a.json"], "unknown option --results"),
    ],
)
def test_wrong_options_are_named_with_the_nearest(arguments, message):
    with pytest.raises(UsageError, match=message):
        check_arguments("fit", arguments)


@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
def test_what_is_right_passes_unchanged(verb, tmp_path):
    (tmp_path / "a.yaml").write_text("model: {class_path: A}\n")
    more = [] if verb == "fit" else ["--results", "a.json"]
    right = ["-c", "a.yaml", "--model", "A", "--model.x", "-1", "--data.batch_size=4", "--trainer.logger+", "X", *more]
    right += ["--trainer.accelerator.help", "--trainer.callbacks.x=1", "--run=a", "--print_config", "--seed_everything"]
    assert check_arguments(verb, [*right, "1"]) == [*right, "1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [\n", r"line 2 column 1: not valid yaml"),
        ("- model\n", "a configuration is a mapping"),
        ("just words\n", "a configuration is a mapping"),
        ("model: {a: 1, b: 2, a: 3}\n", r"line 1: duplicate key model\.a"),
        ("model:\n- {a: 1}\n- {b: 1, b: 2}\n", r"line 3: duplicate key model\.1\.b"),
        ("? [a]\n: 1\n", "a key is a word"),
        ("a: &a [*a]\n", "its aliases stand for over"),
        (b"\xff\xfe\x00", "not UTF-16 text"),
        (
            "a: &a [l,l,l,l,l,l,l,l,l]\n"
            + "".join(f"{chr(98 + k)}: &{chr(98 + k)} [{','.join(['*' + chr(97 + k)] * 9)}]\n" for k in range(9)),
            "its aliases stand for over",
        ),
        ("[" * 5000, "nested too deep|not valid yaml"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_place(text, message, tmp_path):
    (tmp_path / "a.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=message) as caught:
        check_arguments("fit", ["-c", "a.yaml"])
    assert str(caught.value).startswith("a.yaml") and len(str(caught.value).splitlines()) == 1


def test_aliases_and_byte_order_marks_of_honest_files_pass(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfmodel: {init_args: &x {a: 1}}\ndata: {init_args: *x}\n")
    assert configurations.read(tmp_path / "a.yaml")["data"] == {"init_args": {"a": "1"}}


def test_data_that_does_not_exist_is_refused_unless_it_is_downloaded(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "a.yaml").write_text("data: {init_args: {root: fotos}}\n")
    with pytest.raises(DataError, match=r"data\.root fotos: no such folder; did you mean 'photos'"):
        check_arguments("fit", ["-c", "a.yaml"])
    check_arguments("fit", ["--data.root", "s3://bucket/photos"])  # an address is no folder of this machine
    with pytest.raises(DataError, match=r"--data\.root photo: no such folder"):
        check_arguments("test", ["-c", "a.yaml", "--data.root", "photo"])
    check_arguments("fit", ["-c", "a.yaml", "--data.root=photos"])
    check_arguments("fit", ["-c", "a.yaml", "--data.download", "true"])


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("fit", ["--init_from", "no.ckpt"], "no.ckpt: no such checkpoint"),
        ("fit", ["--ckpt_path=no.ckpt"], "no.ckpt: no such checkpoint"),
        ("fit", ["--ckpt_path", "."], "a folder"),
        ("test", ["--ckpt_path", "no"], "no: no such checkpoint"),
        ("test", ["--ckpt_path", "run/checkpoints"], "no bundle"),
        ("validate", ["--ckpt_path", "empty.ckpt"], "empty"),
        ("validate", ["--ckpt_path", "text.ckpt"], "no checkpoint of visionkit"),
        ("validate", ["--ckpt_path", "run"], "no best or last checkpoint"),
        ("validate", ["--ckpt_path", "best", "--run", "run"], "no best checkpoint"),
    ],
)
def test_models_that_do_not_exist_are_refused(verb, arguments, message, tmp_path):
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "text.ckpt").write_text("words")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=message):
        check_arguments(verb, arguments)


def test_two_beginnings_are_refused():
    with pytest.raises(UsageError, match="give one of them"):
        check_arguments("fit", ["--init_from", "a.ckpt", "--ckpt_path", "b.ckpt"])


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "runs" / "a"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("last.ckpt", "best-3.ckpt"):
        (folder / "checkpoints" / name).write_bytes(b"PK\x03\x04")
    (folder / "config.yaml").write_text("run: runs/a\n")
    return Path("runs/a")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--ckpt_path", "runs/a"], "best-3.ckpt"),
        (["--ckpt_path", "best", "--run", "runs/a"], "best-3.ckpt"),
        (["--ckpt_path", "last", "--run", "runs/a"], "last.ckpt"),
        (["--ckpt_path", "last", "-c", "runs/a/config.yaml"], "last.ckpt"),
    ],
)
def test_a_run_or_best_or_last_is_measured(arguments, name, run):
    resolved = check_arguments("test", arguments)
    assert option(resolved, "--ckpt_path") == str(run / "checkpoints" / name)
    assert configurations.files(resolved) == [run / "config.yaml"], "its data comes from its own configuration"
    with_data = check_arguments("test", [*arguments, "--data", "FolderData"])
    assert len(configurations.files(with_data)) == arguments.count("-c")


def test_a_run_that_was_moved_is_found_beside_its_configuration(run, tmp_path):
    (tmp_path / "runs").rename(tmp_path / "old")
    resolved = check_arguments("test", ["-c", "old/a/config.yaml", "--ckpt_path", "best"])
    assert option(resolved, "--ckpt_path") == "old/a/checkpoints/best-3.ckpt"


def test_best_without_a_run_states_how_to_name_it():
    with pytest.raises(UsageError, match="--ckpt_path best: name its run with --run"):
        check_arguments("test", ["--ckpt_path", "best"])


def test_options_with_their_values():
    assert given(["a", "--b", "c", "--d=e", "--f", "-c", "g"]) == [
        *(("", "a"), ("--b", "c"), ("--d", "e"), ("--f", None), ("-c", "g"))
    ]
    assert option(["--b", "1", "--b=2"], "--b") == "2"


def test_the_tables_name_what_the_parser_has():
    import inspect

    from lightning import Trainer

    from visionkit.cli import VisionCLI

    assert trainer_options() == set(inspect.signature(Trainer.__init__).parameters) - {"self"}

    class Asked(VisionCLI):
        def parse_arguments(self, parser, args):
            names = {name.lstrip("-").split(".")[0] for name in self._subcommand_parsers["test"]._option_string_actions}
            assert {each.name for each in (*RUN_OPTIONS, *MEASURING)} < names
            for name in names - {"c", "h"}:
                check_arguments("test", [f"--{name}=timm:x" if name != "config" else "--config=classification"])
            raise SystemExit

    with pytest.raises(SystemExit):
        Asked("test", [])

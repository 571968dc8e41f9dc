"""The command: what it loads before it knows its verb, and how failures are reported."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import sys
from typing import NoReturn

import pytest

from ui import cli
from ui.commands import completion, training
from visionkit.errors import CheckpointError, DataError, Diverged, EnvironmentFault, Terminated, UsageError

EVERY = (*training.VERBS, *cli.VERBS)


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(args: object) -> NoReturn:
        raise error

    monkeypatch.setattr(cli.verb_module("models"), "run", run)


def test_help_and_version_import_nothing_heavy() -> None:
    """Measured by what is loaded, since seconds depend on the machine."""
    calls = [["--help"], ["--version"], *([verb, "--help"] for verb in EVERY), ["completion", "bash"]]
    code = (
        "import sys; from ui.cli import main\n"
        f"statuses = [main(call) for call in {calls}]\n"
        "heavy = {'torch', 'lightning', 'gradio', 'timm', 'numpy', 'PIL', 'cv2', 'jsonargparse', 'rich', 'yaml'}\n"
        "print('RESULT', statuses, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(f"RESULT {[0] * len(calls)} []"), done.stdout[-500:]


@pytest.mark.parametrize("verb", EVERY)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"usage: visionkit {verb}") and "--debug" in page
    assert cli.main(["help", verb]) == 0


def test_the_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    page = capsys.readouterr().out
    for verb in EVERY:
        assert re.search(rf"^  {verb}  +\w", page, re.MULTILINE)
    assert max(map(len, page.splitlines())) <= 110
    assert cli.main([]) == 2


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["predcit"], "'predict'"),
        (["trian"], ""),
        (["--versoin"], ""),
        (["predict", "m", "p", "--batchsize", "3"], "'--batch-size'"),
        (["predict", "m", "p", "--engine", "onx"], "'onnx'"),
        (["serve", "--prot", "1"], "'--port'"),
        (["completion", "bsh"], "'bash'"),
        (["predict"], ""),
        (["predict", "m", "p", "--batch-size", "many"], ""),
        (["predict", "m", "p", "--batch-size", "0"], ""),
        (["predict", "m", "p", "--draw"], "--out"),
        (["export", "m"], "--out"),
        (["serve", "extra"], "'extra'"),
        (["serve", "--port", "70000"], "65535"),
        (["serve", "--device", "gpu"], "cuda"),
        (["serve", "--models", "/nowhere/at/all"], "no such folder"),
        (["export", "m", "--out", "x", "--int8"], "--calibrate"),
    ],
)
def test_usage_errors_are_one_line(arguments: list[str], nearest: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    message = capsys.readouterr()
    assert message.out == "" and message.err.count("\n") == 1
    assert message.err.startswith("visionkit: error: ") and nearest in message.err


@pytest.mark.parametrize(
    ("verb", "line", "option", "value"),
    [
        ("follow", "MODEL --box -5,20,80,60 VIDEO", "box", "-5,20,80,60"),
        ("follow", "MODEL VIDEO --box -.5,20,80,60 --draw", "box", "-.5,20,80,60"),
        ("propagate", "MODEL --mask a.png --out b VIDEO", "mask", "a.png"),
        ("predict", "MODEL --track sort --rate -1 VIDEO", "rate", -1.0),
        ("evaluate", "tracks --gt a --pred b --min-visibility -1", "min_visibility", -1.0),
    ],
)
def test_options_stand_anywhere_and_numbers_may_be_negative(verb: str, line: str, option: str, value: object) -> None:
    args = cli.build_parser(verb).parse(line.split())
    assert getattr(args, option) == value
    if "VIDEO" in line:
        assert args.model == "MODEL" and (args.sources == ["VIDEO"] if verb == "predict" else args.source == "VIDEO")


def test_what_follows_two_dashes_is_no_option() -> None:
    args = cli.build_parser("predict").parse(["MODEL", "--top", "3", "--", "-5.jpg"])
    assert args.sources == ["-5.jpg"] and args.top == 3


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("a"), 2, "visionkit: error: a"),
        (DataError("two\nlines"), 3, "visionkit: error: two lines"),
        (CheckpointError("c"), 4, "visionkit: error: c"),
        (EnvironmentFault("d"), 5, "visionkit: error: d"),
        (Diverged("e"), 6, "visionkit: error: e"),
        (KeyboardInterrupt(), 130, "visionkit: interrupted"),
        (Terminated("saved"), 143, "visionkit: saved"),
        (MemoryError(), 5, "visionkit: error: out of memory; use smaller batches or images"),
        (OSError(errno.ENOSPC, "No space left on device", "x.ckpt"), 5, "visionkit: error: x.ckpt: no space left"),
        (KeyError("boo"), 1, "visionkit: error: KeyError: 'boo' (a defect of visionkit; run with --debug"),
        (SystemExit(3), 3, ""),
        (SystemExit("text"), 1, ""),
    ],
)
def test_every_failure_has_its_status_and_one_line(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _failing(monkeypatch, error)
    assert cli.main(["models"]) == status
    message = capsys.readouterr().err
    assert message.startswith(said) and message.count("\n") == bool(said)


@pytest.mark.parametrize("arguments", [["--debug", "models"], ["models", "--debug"]])
def test_debug_anywhere_shows_the_traceback(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _failing(monkeypatch, KeyError("boo"))
    assert cli.main(arguments) == 1
    message = capsys.readouterr().err
    assert "Traceback" in message and message.strip().endswith("visionkit: error: KeyError: 'boo'")


@pytest.mark.parametrize("arguments, debug", [(["--debug", "models"], True), (["models"], False)])
def test_a_command_is_given_what_was_asked(arguments: list[str], debug: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is started by one reports failures of its threads itself."""
    given: list[bool] = []
    monkeypatch.setattr(cli.verb_module("models"), "run", lambda args: given.append(args.debug) or 0)
    assert cli.main(arguments) == 0 and given == [debug]


def test_a_closed_pipe_is_no_error() -> None:
    code = "import sys; from ui.cli import main; sys.exit(main(['completion', 'fish']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) in (0, 141)


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion_is_small_and_names_everything(shell: str) -> None:
    script = completion.script(shell)
    assert len(script.encode()) < 80_000
    for verb in EVERY:
        assert verb in script
    for word in ("batch-size", "ckpt_path", "calibrate", "onnx-int8"):
        assert word in script


def test_completion_completes_in_bash() -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash here")

    def complete(*words: str) -> set[str]:
        quoted = " ".join(f"'{word}'" for word in words)
        lines = f"{completion.script('bash')}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n_shtab_visionkit\n"
        script = lines + 'printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert complete("visionkit", "pre") == {"predict"}
    assert complete("visionkit", "predict", "--ba") == {"--batch-size"}
    assert complete("visionkit", "predict", "--engine", "onnx") == {"onnx", "onnx-int8"}
    assert complete("visionkit", "fit", "--model.pretrained", "t") == {"true"}
    assert complete("visionkit", "completion", "z") == {"zsh"}
    assert "README.md" in complete("visionkit", "fit", "-c", "READ")


def test_the_engines_of_the_option_are_those_there_are() -> None:
    from typing import get_args

    from ui.commands.predict import ENGINES
    from visionkit.engines import EngineName

    assert get_args(EngineName) == ENGINES


def test_options_may_stand_between_arguments() -> None:
    parsed = cli.build_parser("predict").parse(["m", "a.jpg", "--draw", "b.jpg", "--out", "x"])
    assert (parsed.model, parsed.sources, parsed.draw) == ("m", ["a.jpg", "b.jpg"], True)


def test_the_pages_of_the_training_verbs_name_options_that_exist() -> None:
    """The short pages are written by hand, so they are held against the parsers."""
    training.import_classes()
    from tasks.classification.task import ClassificationTask
    from visionkit.cli import VisionCLI
    from visionkit.configurations import resolve
    from visionkit.data import VisionDataModule

    def below(cls: type) -> set[str]:
        return {cls.__name__}.union(*map(below, cls.__subclasses__()))

    readers = below(VisionDataModule)
    for example in (line for lines in training.EXAMPLES.values() for line in lines):
        assert set(re.findall(r"--data (\w+)", example)) <= readers
        for file in re.findall(r"-c (\S+)", example):
            assert resolve(file).is_file()

    class Parser(VisionCLI):
        """Stops where the parser is built."""

        def parse_arguments(self, parser: object, args: object) -> NoReturn:
            raise Built(self._parser(self._verb))

    for verb in training.VERBS:
        with pytest.raises(Built) as built:
            Parser(verb, [])
        known = {name for action in built.value.parser._actions for name in action.option_strings}
        for option in training.OPTIONS[verb]:
            if option.name in ("--help-all", "--debug", "--replay"):  # which no parser is built for
                continue
            if option.name.startswith("--model."):
                field = option.name.removeprefix("--model.").split(".")[0]
                assert field in ClassificationTask.__init__.__annotations__, option
            elif option.name.startswith("--data."):
                assert option.name in ("--data.root", "--data.batch_size", "--data.num_workers")
            else:
                assert option.name in known, option


class Built(Exception):
    def __init__(self, parser: object) -> None:
        self.parser = parser

import pytest

from visionkit.option_order import in_order


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("--data.batch_size 4 --data Folder", "--data Folder --data.batch_size 4"),
        ("--data.batch_size=4 --data=Folder", "--data=Folder --data.batch_size=4"),
        (
            "--model.optim.lr -1 --data.root a --model M --data D",
            "--model M --model.optim.lr -1 --data D --data.root a",
        ),
        ("--ema 0.9 -c a.yaml --run r --config b.yaml", "-c a.yaml --config b.yaml --ema 0.9 --run r"),
        ("--data.augment.flip 0 --data.augment A --data D", "--data D --data.augment A --data.augment.flip 0"),
        ("--trainer.callbacks.monitor x --trainer.callbacks E", "--trainer.callbacks E --trainer.callbacks.monitor x"),
        ("--data D --data.a 1", "--data D --data.a 1"),
        ("--dataset.a 1 --data D", "--dataset.a 1 --data D"),
    ],
)
def test_a_class_comes_before_its_keys_and_files_before_all(given, wanted):
    assert in_order(given.split()) == wanted.split()


def test_what_is_added_keeps_its_keys():
    given = [
        "--trainer.callbacks+=A",
        "--trainer.callbacks.x",
        "1",
        "--trainer.callbacks+=B",
        "--trainer.callbacks.y",
        "2",
    ]
    assert in_order(given) == given
    twice = ["--data.x", "1", "--data", "A", "--data", "B"]
    assert in_order(twice) == twice

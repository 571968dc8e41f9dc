"""A data set as the terminal and the demo browse it."""

from __future__ import annotations

from visionkit.browsing.browser import DataBrowser
from visionkit.browsing.measured_model import MeasuredModel
from visionkit.data import VisionDataModule
from visionkit.geometry import InputSpec


def browser_of(
    data: VisionDataModule,
    input: InputSpec | None = None,
    augmented: bool = True,
    model: MeasuredModel | None = None,
) -> DataBrowser:
    """The samples of a data set, augmented as it states or, by default, by the preset for such labels.

    Args:
        data: The data.
        input: Input of the network that is to be trained.
        augmented: Whether samples are shown after augmentation too.
        model: See `DataBrowser`.

    Raises:
        DataError: The data has no split that can be read.
    """
    browser = DataBrowser(data, input=input, model=model)
    if not augmented:
        browser.augment = None
    elif browser.augment is None:
        from datamodules.augmentation.usual import usual_augment

        browser.augment = usual_augment(browser.first_target(), browser.facts.skeleton)
    return browser

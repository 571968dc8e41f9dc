"""Samples of a data set to be browsed: drawn with their labels, before and after augmentation, filtered.

`browser.DataBrowser` finds the samples that a filter asks for and draws them; `page.write_page` writes them as a page
that needs no server. A task needs nothing of its own: types of predictions state which labels they draw
(`Prediction.from_labels`).
"""

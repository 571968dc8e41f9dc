"""Examines data before anything is trained on it: what is wrong with images, labels and splits, and what to do.

`examination.examine` reads a data module whole; `examination.examine_labels` is its cheap part, without images, which
every training runs. A check is a function that yields findings: of the objects of a split (`objects.object_check`), or
of samples with a type of target (`samples.sample_check`). A task needs nothing of its own, since its targets bring
their checks. Every kind of finding is declared in `kinds`.
"""

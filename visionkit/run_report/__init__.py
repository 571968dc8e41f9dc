"""What lies in a run's folder for people: curves, figures, sheets of images, metrics per image and a summary.

`RunReport` is the callback that writes it. A task takes part by what it has anyway: the predictions it restores, which
draw themselves and state what a table states of them, its `tables`, and its `charts`, which state how a table is drawn.
"""

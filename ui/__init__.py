"""Terminal and browser: the one package that imports all others."""

from ui.server.gradio_import import without_stubs

without_stubs()  # before anything here imports gradio

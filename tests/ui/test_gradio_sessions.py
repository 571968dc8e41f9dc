"""Sessions of gradio: what is left out is not needed, and gradio still does it where it was looked for."""

from __future__ import annotations

import inspect

import gradio as gr
from gradio import blocks, state_holder

from ui.server.gradio_hardening import is_closed
from ui.server.gradio_sessions import fast_sessions

fast_sessions()


def test_signatures_are_read_once_and_components_are_described_as_before(monkeypatch) -> None:
    remembered = blocks.inspect
    with gr.Blocks():
        components = [gr.Image(label="a"), gr.Slider(0, 4, 2), gr.Dropdown(["b", "c"]), gr.Button("d"), gr.HTML("e")]
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "inspect", inspect)
        wanted = [each.get_config() for each in components]
    assert [each.get_config() for each in components] == wanted
    asked = remembered.signature.cache_info().misses
    assert asked >= len(components), "gradio reads them elsewhere now"
    fast_sessions()
    assert [each.get_config() for each in components] == wanted and blocks.inspect is remembered
    assert remembered.signature.cache_info().misses == asked
    assert blocks.inspect.isfunction(fast_sessions), "the rest is Python's own"


def test_a_session_has_its_state_and_describes_what_changes_alone() -> None:
    with gr.Blocks() as page:
        state, words = gr.State([1]), gr.Textbox("a")
    holder = state_holder.StateHolder()
    holder.set_blocks(page)
    mine, other = holder["mine"], holder["other"]
    assert mine.config_values == {}, "gradio describes components elsewhere now"
    mine[state._id].append(2)
    assert (mine[state._id], other[state._id]) == ([1, 2], [1]) and mine[words._id] is words
    mine[words._id] = gr.Textbox("b", render=False)
    mine._update_value_in_config(words._id, "c")
    assert mine.config_values[words._id]["props"]["value"] == "c" and other.config_values == {}
    assert (other[words._id].value, words._id in other) == ("a", True)
    assert is_closed("/gradio_api/deep_link"), "which alone needs all of them"

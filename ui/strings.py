"""Every text that the demo shows, and the one way by which words from data get into it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from visionkit.errors import some_of

TITLE = "visionkit"
LEAD = (
    "Choose a model, give it an image, read what it shows. Everything is computed on the machine that runs this page."
)

REVIEW = "Review of labels"
REVIEW_LEAD = (
    "Accept what the model found, change its class, delete it, or draw what is missing. Every change is saved at once."
)
REVIEW_END = "All images are reviewed. Train on them:"

HOME = "All tasks"
TASK = "Task"
ANY_TASK = "all tasks"
MODEL = "Model"
MODEL_HINT = "An example model, one of your own, or a public name that you type: timm:resnet50"
DETECTOR = "Detector"
DETECTOR_HINT = "Finds whom the model then processes, one crop each"
OVERLAP = "Allowed overlap"
OVERLAP_NOTE = (
    "Where two boxes of one class overlap by more, the one with the lower score is dropped (non-maximum suppression)"
)
AS_THE_MODEL = "the model's own value"
NO_DETECTOR = "none: the image shows one"
BUILT_IN_FINDER = "built in: frontal faces"
IMAGE = "Image"
DROP = "# Drop an image here\nor paste it, or click to choose one"
EXAMPLES = "Or try one of these"
DOWNLOAD = "Download JSON"
COCO = "Download COCO JSON"
RAW = "The prediction as JSON"
WHY = "See why"
EXPLANATION_NOTE = (
    "Where in the image the network found evidence for a class (Grad-CAM on its last features): bright is strong, "
    "gray is none. It shows what the prediction rests on, not whether it is right."
)
WHY_CLASS = "Class"
CARD = "About this model"
USE = "Use it from a program"
PEOPLE = "People: enrol and recognize faces"
PEOPLE_PRIVACY = (
    "Faces stay on the machine that runs this page: images are processed and not kept, the gallery holds names and "
    "embeddings alone, and nothing is sent anywhere. Enrol people who agreed. A match is a hint, never a decision. "
)
PEOPLE_KEPT = "The gallery is kept until you remove people."
PEOPLE_FORGOTTEN = "The gallery is forgotten when the server ends; `visionkit serve --gallery DIR` keeps one."
PEOPLE_CROP = "The images are faces already (nothing is searched)"
PEOPLE_FAR = "Rate at which strangers may pass"
PEOPLE_ENROL = "Enrol"
PEOPLE_IDENTIFY = "Identify"
PEOPLE_VERIFY = "Compare two"
PEOPLE_LIST = "Who is enrolled"
PEOPLE_ONE = "An image of one person"
PEOPLE_OTHER = "Another image"
PEOPLE_GROUP = "A photo, of a group too"
PEOPLE_NAME = "Name"
PEOPLE_WHICH = "Which face, where there are several (1 is the largest)"
PEOPLE_ADD = "A further image of somebody who is enrolled"
PEOPLE_WHO = "Whom to forget"
PEOPLE_REMOVE = "Forget this person"
MATCHES = "Match two photographs"
MATCHES_LEAD = "Which points of two photographs of one thing are the same, and how are the views related?"
MATCHES_ONE, MATCHES_OTHER = "First photograph", "Second photograph"
MATCHES_NEED = "give both photographs"
MATCHES_MODEL = "What describes the points"
MATCHES_KIND = "The photographs show"
MATCHES_KINDS = [("a plane, or the camera only turned", "homography"), ("any scene at rest", "fundamental")]
MATCHES_RATIO = "Largest ratio to the next best match"
MATCHES_RATIO_HINT = "Lower keeps fewer matches and more certain ones; 1 keeps all."
MATCHES_OUTLIERS = "Draw the outliers too, in gray"
MATCHES_RUN = "Match"
MATCHES_FILE = "Matches (json)"
LOGIN = "Log in"
LOGIN_NAME = "Name"
LOGIN_PASSWORD = "Password"
LOGIN_WRONG = "No such name and password."
LOGIN_TOO_OFTEN = "Too many failures; wait some minutes and try again."
COMPARE = "Compare"
COMPARE_LEAD = "Two models on the same image, side by side."
COMPARE_ONE, COMPARE_OTHER = "One model", "The other"
BATCH = "Many images"
BATCH_LEAD = "A folder of images, or a zip of them, through one model: all results in one archive."
BATCH_INPUT = "Images, or zips of images"
BATCH_RUN = "Predict all"
BATCH_RESULT = "Results (zip)"
BATCH_COLUMNS = ["image", "size", "prediction"]
STOP = "Stop"
VIDEO = "Video"
VIDEO_LEAD = "Follow the objects of a video, cut one out, or run any model on its frames; or on what a camera sees now."
VIDEO_FILE = "A file"
VIDEO_INPUT = "Video (mp4, mov, webm, mkv, avi)"
VIDEO_WHAT = "What to do"
VIDEO_TRACK, VIDEO_FOLLOW, VIDEO_CUT = "Every object", "Follow one object", "Cut one object out"
VIDEO_METHOD = "Followed by"
VIDEO_METHODS = {"hcf": "features of a network (HCF)", "kcf": "pixels, fast (KCF)"}
VIDEO_OBJECT = "The object"
VIDEO_OBJECT_HINT = "Click it on the frame above, draw a box around it, or type x1, y1, x2, y2 in pixels"
VIDEO_NOTHING_THERE = "The model finds no object there: draw a box around it."
VIDEO_MASKS = "Masks (zip of png)"
VIDEO_TRACKER = "Tracking"
VIDEO_TRACKER_HINT = "Every object gets a number and a color that it keeps"
VIDEO_TRACKERS = {"bytetrack": "ByteTrack", "ocsort": "OC-SORT", "sort": "SORT"}
VIDEO_NO_TRACKER = "none: each frame by itself"
VIDEO_LINES = "Lines to count at"
VIDEO_LINES_HINT = "Click two points on the frame above, or type x1, y1, x2, y2 in pixels, one line per row"
VIDEO_RATE = "Frames per second to process"
VIDEO_RUN = "Process the video"
VIDEO_DRAWN = "The drawn video (mp4)"
VIDEO_RECORDS = "Records (jsonl)"
VIDEO_TEXT = "Tracks (MOT text)"
VIDEO_SUMMARY = "Counts and timeline (json)"
VIDEO_FRAME = "The first frame, on which lines and objects are marked; the fields below take them as numbers"
VIDEO_CLEAR = "Clear"
VIDEO_STOPPED = "Stopped; what was done until then is kept."
VIDEO_LIVE = "Camera"
VIDEO_LIVE_INPUT = "Camera"
VIDEO_LIVE_NOTE = (
    "The browser asks whether this page may use the camera; it does so on this machine and over https alone. Frames "
    "are processed and not kept."
)
FACES_ALONE = (
    "No face was found, so the whole image was taken as one face and turned into the numbers that faces are compared "
    "by; the json holds them. To name faces, enrol people below."
)
FACES_UNNAMED = "The json holds the numbers that faces are compared by. To name faces, enrol people below."
BRUSH_CANVAS = "The image, on which what is to be filled in is painted; a file below does as well"
BRUSH_SIZE, BRUSH_PAINT, BRUSH_ERASE, BRUSH_UNDO, BRUSH_CLEAR = "Brush", "Paint", "Erase", "Undo", "Clear"
NUMBERS = {"noise_level": "Standard deviation of the noise, in gray levels of 255"}
"""What the numbers are that models take beside the image."""
EMPTY = "The prediction appears here."
NO_MODELS = (
    "There is no model yet: type a public name such as timm:resnet50 above, or start with "
    "`visionkit serve --models DIR`, where DIR holds what `visionkit fit` or `visionkit export` wrote."
)
UNFIT = "The request does not fit what this server takes; see the part on use from a program."
NOT_UPLOADED = "Send the file itself: only what was uploaded here is opened."
UNKNOWN = "There is nothing by that name here."
WRONG_METHOD = "This route does not take requests of that method."
NO_PAGE = "this server has no page, since it was started with --api-only; use /api/models and /api/predict"
REPORT_GONE = "This report is not kept any more; ask for it again."
LACK = "The server has no room left on its disk or in its memory; try again later."
DEFECT = "Something went wrong on the server; its terminal shows the error."

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|~:/$^=@])")
_CARD_ROWS = {"summary": "What it does", "data": "Data", "terms": "Terms", "command": "Command", "seed": "Seed"}


def further_inputs(missing: Sequence[str]) -> str:
    """What is shown where only some of the images that a model takes are there."""
    return f"This model also needs: {plain(', '.join(missing))}."


def own_page(model: str, missing: Sequence[str]) -> str:
    """Why a page of many images or models refuses one that takes more than an image and numbers."""
    return (
        f"{model} takes more than an image ({', '.join(missing).lower()}): give it on the page of its own task, or in "
        "the terminal with --input of `visionkit predict`"
    )


def mask_file(label: str) -> str:
    """The label of the place where a mask is given as a file."""
    return f"{label} as a file: white is filled in"


def trained_on(text: str, limits: Any) -> str:
    """What stands under a number that a model takes, with the range that it was trained on where it states one."""
    if not isinstance(limits, (list, tuple)) or len(limits) != 2:
        return text
    return f"{text}. This model was trained on {limits[0]:g} to {limits[1]:g}"


def plain(text: object) -> str:
    """Words from data as Markdown that shows exactly them: no markup, no links, no images, one line.

    Class names, file names and model cards come from files, and a file can hold anything.
    """
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def fault(text: str) -> str:
    """An expected failure, reported where the prediction would be."""
    return f"**This did not work.** {plain(text)}"


def incomplete(text: str) -> str:
    """What is missing of a result that is there, and why."""
    return f"**Not all of it is there.** {plain(text)}"


def nothing_followed(hint: str) -> str:
    """Why a tracker followed nothing, and what can be done."""
    return f"**Nothing was followed:** {plain(hint)}. Other trackers begin at other scores."


def remarks(nothing: str, unlike: str, cautions: Sequence[str] = ()) -> str:
    """What stands above a prediction: that there is nothing in it, that the image is unlike the model's own; often "".

    Args:
        nothing: The prediction in words, where it is empty.
        unlike: The sentence of an image that is marked.
        cautions: Sentences about what the model was not made for.
    """
    sentences = [plain(each) for each in (unlike, *cautions) if each]
    return "  \n".join([*([f"**{plain(nothing)}.**"] if nothing else []), *sentences])


def facts(decode: float, network: float, total: float, height: int, width: int) -> str:
    """The line under a prediction: times in seconds, size in pixels."""
    times = f"{_time(decode)} to decode · {_time(network)} in the network · {_time(total)} in all"
    return f"{width} × {height} pixels · {times}"


def _time(seconds: float) -> str:
    milliseconds = seconds * 1e3
    return (
        f"{seconds:.1f} s"
        if seconds >= 1
        else f"{milliseconds:.0f} ms"
        if milliseconds >= 10
        else f"{milliseconds:.1f} ms"
    )


def seen(done: int, total: int, what: str, bad: int = 0) -> str:
    """How far a long piece of work is."""
    failed = f", {bad} of them could not be read" if bad else ""
    return f"{done} of {total} {what}{failed}"


def limits(images: int, image_mb: int, upload_mb: int, seconds: float, keep_minutes: float) -> str:
    """What a visitor may send, in a sentence."""
    return (
        f"Up to {images} images of {image_mb} MB, {upload_mb} MB per file, the first {seconds:g} seconds of a "
        f"video. What you send and get is deleted after {keep_minutes:g} minutes."
    )


def note(entry_fault: str, summary: str, terms: str) -> str:
    """The line under the choice of model."""
    if entry_fault:
        return f"**This model cannot be used:** {plain(entry_fault)}"
    parts = [plain(summary)] if summary else []
    if terms:
        parts.append(f"Terms of its data: {plain(terms)}")
    return "  \n".join(parts)


def card(name: str, task: str, facts_: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The model card as Markdown."""
    rest = dict(facts_)
    for key in ("name", "figure"):
        rest.pop(key, None)
    results = rest.pop("results", None)
    rows = {"Task": task, "Backbone": config.get("backbone")}
    spec = config.get("input")
    if isinstance(spec, Mapping) and isinstance(spec.get("size"), (list, tuple)):
        rows["Input"] = f"{' × '.join(map(str, spec['size']))} pixels ({spec.get('resize_mode', '')})"
    rows |= {title: rest.pop(key, "not stated") for key, title in _CARD_ROWS.items()}
    rows |= {str(key).replace("_", " ").capitalize(): value for key, value in rest.items()}
    lines = [f"- **{plain(title)}:** {plain(value)}" for title, value in rows.items() if value not in (None, "")]
    classes = [str(each) for each in config.get("classes") or ()]
    if classes:
        lines.append(f"- **Classes:** {len(classes)}: {plain(some_of(classes, 30))}")
    return "\n".join([f"**{plain(name)}**", "", *lines, "", *_results(results)])


def _results(results: Any) -> list[str]:
    if not isinstance(results, (list, tuple)) or not results:
        return []
    lines = ["| metric | value | split | protocol |", "|---|---|---|---|"]
    for row in results:
        if isinstance(row, Mapping):
            value = row.get("value")
            shown = f"{value:.4f}" if isinstance(value, float) else value
            cells = (row.get("metric", ""), shown, row.get("split", ""), row.get("protocol", ""))
            lines.append("| " + " | ".join(map(plain, cells)) + " |")
    return lines


def no_card(name: str, public: bool) -> str:
    """What is stated about a model without a model card."""
    if public:
        return f"{plain(name)} is a public model; its weights come from the network when they are first asked for."
    return f"{plain(name)} is a checkpoint. `visionkit export` makes a bundle of it, with a model card."


def program(address: str) -> str:
    """How to ask this server from Python and how to do without it."""
    return "\n".join(
        [
            "From any machine that reaches this server (`pip install gradio_client`):",
            "",
            "```python",
            "from gradio_client import Client, handle_file",
            "",
            f'server = Client("{address}")',
            'server.predict(api_name="/models")  # what can be chosen',
            'server.predict(handle_file("photo.jpg"), "NAME", api_name="/predict")',
            "```",
            "",
            "In one request, with curl (`&drawn=1` gives the drawn image):",
            "",
            "```bash",
            f"curl --data-binary @photo.jpg '{address}/api/predict?model=NAME'",
            "```",
            "",
            f"The faces of an image, and who they are by the gallery that this server was started with: "
            f"`{address}/api/find` and `{address}/api/identify`, sent in the same way",
            "",
            f"The objects of a video, followed: `curl --data-binary @video.mp4 '{address}/api/track?model=NAME'`",
            "",
            f"As tools of an assistant that speaks MCP, by streamable HTTP: `{address}/mcp`",
            "",
            "Without a server, with the same prediction:",
            "",
            "```python",
            "from visionkit import load",
            "",
            'load("model.ckpt")("photo.jpg").to_json()',
            "```",
        ]
    )

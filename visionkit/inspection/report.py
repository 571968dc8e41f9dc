"""What an inspection found, as numbers and as text: table, csv, json, Markdown, HTML."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visionkit.inspection.layers import PASSIVE, Layer
from visionkit.inspection.receptive_field import ReceptiveField

CONVENTION = (
    "One multiply-add is one multiplication and one addition. Counted are convolutions, linear layers, matrix products "
    "and attention; biases, normalization, activation, pooling, resizing, softmax and element-wise operations are not."
)
"""What is counted."""

FLOPS = "FLOPs are twice the multiply-adds. Counted are convolutions, linear layers, matrix products and attention."
"""The same where operations are counted one by one."""

FIELDS = (
    "Receptive field, jump and center are in input pixels. 'whole' is the whole image: a layer up to there mixes all "
    "positions; a number behind it is the field along the other layers."
)
"""How receptive fields are stated."""

MEMORY = "Activation memory is that of the outputs of all layers for one image in 32 bit; layers in place need none."
"""How memory is counted."""

FORMATS = ("table", "csv", "json", "markdown", "html")
LARGEST = 5

Row = Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """The layers of a network and their sums.

    Attributes:
        name: Name of the network.
        inputs: Shapes of the inputs, without the batch.
        input_bytes: Bytes of the inputs in 32 bit.
        layers: In the order in which they run; what has parameters and does not run comes last.
        flops: Texts state FLOPs in place of multiply-adds.
    """

    name: str
    inputs: tuple[tuple[int, ...], ...]
    input_bytes: int
    layers: tuple[Layer, ...]
    flops: bool = False

    @property
    def parameters(self) -> int:
        """Parameters of the network."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Bytes of the input and of the outputs of all layers: what a training keeps of one image, about."""
        return self.input_bytes + sum(layer.activation_bytes for layer in self.layers)

    @property
    def operations(self) -> str:
        """Name of what is counted."""
        return "FLOPs" if self.flops else "multiply-adds"

    @property
    def notes(self) -> tuple[str, ...]:
        """How the numbers are meant."""
        return (FLOPS if self.flops else CONVENTION, MEMORY, FIELDS)

    def counted(self, multiply_adds: int) -> int:
        """Multiply-adds in the unit of the report."""
        return multiply_adds * (2 if self.flops else 1)

    def sums(self) -> dict[str, int]:
        """The totals by name."""
        return {
            "parameters": self.parameters,
            self.operations: self.counted(self.multiply_adds),
            "activation bytes": self.activation_bytes,
            "weight bytes": 4 * self.parameters,
        }

    def kinds(self) -> list[dict[str, Any]]:
        """Number of layers, parameters and operations of each kind, with their fractions, the most operations first."""
        rows: dict[str, dict[str, Any]] = {}
        for layer in self.layers:
            row = rows.setdefault(layer.kind, {"kind": layer.kind, "layers": 0, "parameters": 0, self.operations: 0})
            row["layers"] += 1
            row["parameters"] += layer.parameters
            row[self.operations] += self.counted(layer.multiply_adds)
        for row in rows.values():
            row["parameter fraction"] = row["parameters"] / max(1, self.parameters)
            row["operation fraction"] = row[self.operations] / max(1, self.counted(self.multiply_adds))
        return sorted(rows.values(), key=lambda row: (-row[self.operations], -row["parameters"]))

    def largest(self) -> dict[str, list[Layer]]:
        """The layers with the most parameters, operations and activation memory."""
        ranks: dict[str, Callable[[Layer], int]] = {
            "parameters": lambda layer: layer.parameters,
            self.operations: lambda layer: layer.multiply_adds,
            "activation bytes": lambda layer: layer.activation_bytes,
        }
        return {
            name: [layer for layer in sorted(self.layers, key=rank, reverse=True)[:LARGEST] if rank(layer)]
            for name, rank in ranks.items()
        }

    def records(self) -> list[dict[str, Any]]:
        """One row of plain values per layer."""
        return [self._record(layer) for layer in self.layers]

    def _record(self, layer: Layer) -> dict[str, Any]:
        field = layer.field
        return {
            "layer": layer.name,
            "kind": layer.kind,
            "kernel": _by(layer.kernel),
            "stride": _by(layer.stride),
            "padding": _by(layer.padding),
            "dilation": _by(layer.dilation),
            "groups": layer.groups or "",
            "output": _by(layer.output),
            "parameters": layer.parameters,
            self.operations: self.counted(layer.multiply_adds),
            "activation bytes": layer.activation_bytes,
            "receptive field": _by(field.size) if field else "",
            "jump": _by(field.jump) if field else "",
            "center": _by(field.center) if field else "",
            "whole image": field.whole if field else "",
        }

    def text(self, format: str = "table", every: bool = False) -> str:
        """The report as text.

        Args:
            format: One of `FORMATS`.
            every: Tables show activations and normalizations too; csv and json always do.
        """
        if format == "json":
            record = {"name": self.name, "inputs": self.inputs, **self.sums(), "notes": self.notes}
            return json.dumps(record | {"kinds": self.kinds(), "layers": self.records()}, indent=1) + "\n"
        if format == "csv":
            file = io.StringIO()
            writer = csv.DictWriter(file, list(self._record(Layer("", ""))), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.records())
            return file.getvalue()
        title = f"{self.name}, input {' and '.join(map(_by, self.inputs))}"
        return tables(title, self._tables(every), self.notes, format)

    def rows(self, every: bool = False) -> list[Row]:
        """One row of words per layer, for people.

        Args:
            every: Activations and normalizations too.
        """
        return [self._row(layer) for layer in self.layers if every or layer.kind not in PASSIVE]

    def _tables(self, every: bool) -> dict[str, list[Row]]:
        shown = self.rows(every)
        left = len(self.layers) - len(shown)
        title = f"Layers (normalization and activation, {left} layers, are left out)" if left else "Layers"
        total = {"quantity": "receptive field of the last map", "sum": _shown_field(self.last_field())}
        return {
            title: shown,
            "Kinds": [
                {
                    "kind": row["kind"],
                    "layers": f"{row['layers']:,}",
                    "parameters": f"{row['parameters']:,}",
                    "of all": f"{row['parameter fraction']:.2%}",
                    self.operations: f"{row[self.operations]:,}",
                    "of all operations": f"{row['operation fraction']:.2%}",
                }
                for row in self.kinds()
            ],
            "Largest layers": [
                {"by": name, "layers": ", ".join(layer.name for layer in layers)}
                for name, layers in self.largest().items()
            ],
            "Sums": [
                *({"quantity": name, "sum": f"{value:,}"} for name, value in self.sums().items()),
                *([total] if self.last_field() else []),
            ],
        }

    def field_of(self, layer: str) -> ReceptiveField | None:
        """Receptive field of a layer, or of the last one inside it, where its output is a map."""
        found = [
            each.field
            for each in self.layers
            if f"{each.name}.".startswith(f"{layer}.") and each.field is not None and len(each.field.axes) == 2
        ]
        return found[-1] if found else None

    def last_field(self) -> ReceptiveField | None:
        """Receptive field of the last layer whose output is a map, or has one position per token."""
        fields = [layer.field for layer in self.layers if layer.field is not None and layer.field.axes]
        return fields[-1] if fields else None

    def _row(self, layer: Layer) -> Row:
        field = layer.field
        return {
            "layer": layer.name,
            "kind": layer.kind,
            "kernel": _by(layer.kernel),
            "stride": _by(layer.stride),
            "pad": _by(layer.padding),
            "dil": _by(layer.dilation),
            "groups": str(layer.groups or ""),
            "output": _by(layer.output),
            "parameters": f"{layer.parameters:,}" if layer.parameters else "",
            self.operations: f"{self.counted(layer.multiply_adds):,}" if layer.multiply_adds else "",
            "memory": f"{layer.activation_bytes / 1024:,.1f} KiB" if layer.activation_bytes else "",
            "field": _shown_field(field),
            "jump": _short(field.jump) if field and field.axes else "",
            "center": _short(field.center) if field and field.axes else "",
        }


def tables(title: str, parts: Mapping[str, Sequence[Row]], notes: Sequence[str], format: str) -> str:
    """Tables with a title and notes, for the terminal, as Markdown or as HTML."""
    if format == "html":
        body = "".join(f"<h2>{html.escape(name)}</h2>{_html(rows)}" for name, rows in parts.items() if rows)
        remarks = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>{_STYLE}'
        return f"{head}<h1>{html.escape(title)}</h1>{body}{remarks}</html>\n"
    if format == "markdown":
        body = "".join(f"## {name}\n\n{_markdown(rows)}\n" for name, rows in parts.items() if rows)
        return f"# {title}\n\n{body}{' '.join(notes)}\n"
    body = "".join(f"{name}\n{_plain(rows)}\n" for name, rows in parts.items() if rows)
    return f"{title}\n\n{body}{chr(10).join(notes)}\n"


_STYLE = (
    "<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{padding:2px 8px;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}"
    "</style>"
)


def _html(rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row.values())}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _markdown(rows: Sequence[Row]) -> str:
    lines = [list(rows[0]), [":---", *["---:"] * (len(rows[0]) - 1)], *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _plain(rows: Sequence[Row]) -> str:
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}

    def line(row: Row) -> str:
        first, *rest = names
        cells = [row[first].ljust(widths[first]), *(row[name].rjust(widths[name]) for name in rest)]
        return f"  {'  '.join(cells)}".rstrip() + "\n"

    return line({name: name for name in names}) + "".join(map(line, rows))


def _by(value: Sequence[float] | str) -> str:
    return value if isinstance(value, str) else "x".join(f"{each:g}" for each in value)


def _short(value: Sequence[float]) -> str:
    return f"{value[0]:g}" if len(set(value)) == 1 else _by(value)


def _shown_field(field: ReceptiveField | None) -> str:
    if field is None:
        return ""
    size = _short(tuple(round(each, 1) for each in field.size))
    return f"whole {size}" if field.whole and field.axes else "whole" if field.whole else size

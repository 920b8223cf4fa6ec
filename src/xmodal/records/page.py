"""`runs/compare.html`: one page that needs nothing but itself, made from records; its look is in the folder `page/`."""

import base64
import io
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from xmodal.files import write_atomically
from xmodal.records.charts import Chart, Line, line_charts
from xmodal.records.contests import Contest, Row, ablations, contests, notes, standing
from xmodal.records.record import computed_by
from xmodal.records.setups import MEASURES, Floats, Record, Setup, read_arrays
from xmodal.significance import LEVEL

GALLERIES, GALLERY_WIDTH = 12, 760  # embedded pictures, and their width in pixels: about 60 kB each
CURVES = 12  # lines in one precision-recall chart; more cannot be told apart
DIRECTIONS = {"i2t": "image → text", "t2i": "text → image"}
WITHIN = {"map_i2i": "image → image", "map_t2t": "text → text"}
WORDS = {"map": "both directions", "map_i2t": DIRECTIONS["i2t"], "map_t2i": DIRECTIONS["t2i"]}


def write_page(path: Path, setups: Sequence[Setup], broken: Sequence[str]) -> None:
    """Write the page.

    Args:
        path: of the page; links to records are relative to it.
        setups: what is compared, as `by_setup` sorts it.
        broken: why other records are left out.

    Raises:
        UserError: the page cannot be written.
    """
    look = Environment(
        loader=PackageLoader("xmodal.records", "page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )

    def folder(record: Record) -> str:
        """Where a record lies, as a link."""
        return quote(os.path.relpath(Path(record["path"]).parent, path.parent))

    look.filters |= {"p_value": _p_value, "names": _names, "folder": folder}
    # Contests with rivals come first, and so do datasets that have one.
    ranked = sorted(contests(setups), key=lambda contest: len(contest.ranking["map"]) < 2)
    protocols: dict[object, list[Contest]] = defaultdict(list)
    for contest in ranked:
        protocols[contest.setup.protocol].append(contest)
    series = sorted({_series(each) for each in setups})
    text = look.get_template("page.html").render(
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        setups=setups,
        notes=notes(setups),
        broken=broken,
        protocols=[_protocol(each, setups) for each in protocols.values()],
        ablations=ablations(setups),
        colours={name: number for number, name in enumerate(series)},
        series=_series,
        labels=_labels(setups),
        place=_place,
        measures=WORDS,
        level=LEVEL,
        data=_runs(folder, setups, ranked),
    )
    write_atomically(path, text)


def _protocol(ranked: Sequence[Contest], setups: Sequence[Setup]) -> dict[str, Any]:
    """What the page shows of the contests of one protocol."""
    first = ranked[0].setup
    rows = [row for contest in ranked for row in contest.rows]
    bounds = [end for row in rows for end in (row.intervals["map"][1:] if row.intervals else [row.setup.score])]
    return {
        "setup": first,
        "record": first.records[0],
        "runs": sum(len(each.records) for each in setups if each.protocol == first.protocol),
        "sentences": [sentence for measure in MEASURES if (sentence := _sentence(ranked, measure))],
        "contests": ranked,
        "fullest": max(ranked, key=lambda contest: len(contest.ranking["map"])),
        "range": (min(bounds), max(bounds)),
        "within": {key: words for key, words in WITHIN.items() if any(row.setup.spread(f"test/{key}") for row in rows)},
        "sizes": _size_charts(ranked),
        "curves": [(contest, charts) for contest in ranked if (charts := _curve_charts(contest))],
    }


def _sentence(ranked: Sequence[Contest], measure: str) -> dict[str, Any] | None:
    """Who leads where in a measure, by how much, and where it is significant; None where nobody has a rival."""
    led: dict[str, list[Contest]] = defaultdict(list)
    for contest in ranked:
        if len(contest.ranking[measure]) > 1:
            led[contest.ranking[measure][0].setup.method].append(contest)
    winners = []
    for method, where in sorted(led.items(), key=lambda winner: -len(winner[1])):
        leads = [_lead(contest.ranking[measure], measure) for contest in where]
        words = dict.fromkeys(f"{lead:.3f}" for lead in (min(leads), max(leads)))
        tests = [contest.ranking[measure][1].behind[measure] for contest in where]
        sure = [contest for contest, test in zip(where, tests, strict=True) if test and test.significant]
        single = any(test and test.seeds == 1 for test in tests)
        doubt = "rests on one seed" if single else "is not significant" if any(tests) else "is untested"
        winners.append({"method": method, "led": where, "lead": " to ".join(words), "sure": sure, "doubt": doubt})
    return {"measure": WORDS[measure], "winners": winners} if winners else None


def _lead(rank: Sequence[Row], measure: str) -> float:
    """Mean of the first less that of the second."""
    first, second = (row.setup.spread(f"test/{measure}") for row in rank[:2])
    return first.mean - second.mean if first and second else 0.0


def _size_charts(ranked: Sequence[Contest]) -> list[Chart]:
    """The mAP over the size, one chart a direction; embeddings are dashed."""
    panels = {}
    sizes = sorted({contest.setup.output_size for contest in ranked})
    for direction, title in DIRECTIONS.items():
        points: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
        for setup in (row.setup for contest in ranked for row in _drawn(contest)):
            if spread := setup.spread(f"test/map_{direction}"):
                points[_series(setup), setup.kind].append((setup.output_size, spread.mean, spread.deviation or 0.0))
        panels[title] = [Line(name, sorted(found), dashed=kind == "real") for (name, kind), found in points.items()]
    return line_charts(panels, "bits of a code, or dimensions of an embedding (hollow)", "mAP@all", sizes, log=True)


def _curve_charts(contest: Contest) -> list[Chart]:
    """Precision over recall by rank, one chart a direction, of the best setups of the contest."""
    panels = {
        title: [
            Line(_series(row.setup), curve, marked=False)
            for row in _drawn(contest)[:CURVES]
            if (curve := _curve(row.setup, f"pr_rank_{direction}"))
        ]
        for direction, title in DIRECTIONS.items()
    }
    return line_charts(panels, "recall", "precision", (0, 0.2, 0.4, 0.6, 0.8, 1))


def _series(setup: Setup) -> str:
    """What has one colour on the page: a method as it is, or tuned."""
    if setup.variant == "tuned-edited":
        return f"{setup.method}, tuned (edited)"
    return f"{setup.method}, tuned" if setup.variant.startswith("tuned") else setup.method


def _drawn(contest: Contest) -> list[Row]:
    """One row a colour, the one that validates best, by falling mAP."""
    best: dict[str, Row] = {}
    for row in sorted(contest.rows, key=lambda row: standing(row.setup)):
        best.setdefault(_series(row.setup), row)
    return sorted(best.values(), key=lambda row: -row.setup.score)


def _curve(setup: Setup, name: str) -> list[tuple[float, float, float]]:
    """Recall and precision, mean over the seeds, at most 80 points; none if a run kept no curve."""
    curves: list[Floats] = []
    for record in setup.records:
        kept = read_arrays(Path(record["path"]).with_name("evaluation.npz"), name, columns=(3,))
        if kept is None or len(kept[0]) != len(curves[0] if curves else kept[0]):
            return []
        curves.append(kept[0])
    mean = np.mean(curves, axis=0)
    last = len(mean) - 1
    ranks = np.unique(np.concatenate([np.geomspace(1, last + 1, 40) - 1, np.linspace(0, last, 40)]).astype(int))
    return [(float(recall), float(precision), 0.0) for _, precision, recall in mean[ranks]]


def _runs(folder: Callable[[Record], str], setups: Sequence[Setup], ranked: Sequence[Contest]) -> dict[str, Any]:
    """What the side-by-side view needs: all runs with their settings, less those that all share, and galleries."""
    runs = [(each, record) for each in setups for record in each.records]
    own_keys = {"seed_everything": "seed", "job_type": "job_type"}  # which the runs of a setup do not share
    settings = [
        each.settings | {key: str(record[name]) for key, name in own_keys.items() if key in each.settings}
        for each, record in runs
    ]
    kept = [set(own.items()) for own in settings]
    shared = set.intersection(*filter(None, kept)) if any(kept) else set()
    rows = (row for rank in zip_longest(*(contest.ranking["map"] for contest in ranked)) for row in rank if row)
    pictures = _pictures([row.setup for row in rows])
    shown = {each: place for place, each in enumerate(pictures)}
    labels = _labels(setups)
    listed = [
        {
            "contest": _place(each),
            "name": f"{labels[each]}, seed {record['seed']}",
            "folder": folder(record),
            "map": {words: record["metrics"].get(f"test/{measure}") for measure, words in WORDS.items()},
            "commit": f"{(record.get('commit') or 'unknown')[:10]}{' + changes' if record.get('dirty') else ''}",
            "device": computed_by([record], "device"),
            "seconds": record.get("seconds"),
            "W&B run": record.get("wandb_id"),
            "gallery": shown.get(each),
            "settings": dict(sorted(own - shared)),
        }
        for (each, record), own in zip(runs, kept, strict=True)
    ]
    galleries = [
        {"name": f"{labels[each]}, seed {each.records[0]['seed']}, {_place(each)}", "image": image}
        for each, image in pictures.items()
    ]
    return {"runs": listed, "shared": len(shared), "pair": _first_pair(runs, ranked), "galleries": galleries}


def _first_pair(runs: Sequence[tuple[Setup, Any]], ranked: Sequence[Contest]) -> tuple[int, int]:
    """Where the side-by-side view starts: the two best of the contest that has most methods."""
    places = {each: place for place, (each, _) in reversed(list(enumerate(runs)))}
    fullest = max((contest.ranking["map"] for contest in ranked), key=len, default=())
    first, second = [places[row.setup] for row in fullest[:2]] if len(fullest) > 1 else (0, len(runs) - 1)
    return first, second


def _pictures(setups: Iterable[Setup]) -> dict[Setup, str]:
    """Galleries of the first setups that have one, of their first seed, small enough to be embedded."""
    found: dict[Setup, str] = {}
    for each in setups:
        path = Path(each.records[0]["path"]).with_name("gallery.png")
        if len(found) < GALLERIES and path.is_file():
            try:
                with Image.open(path) as picture:
                    small = picture.convert("RGB")
            except OSError:
                continue  # a damaged picture is none
            small.thumbnail((GALLERY_WIDTH, 4 * GALLERY_WIDTH), Image.Resampling.BILINEAR, reducing_gap=1)
            buffer = io.BytesIO()
            small.save(buffer, "WEBP", quality=60, method=0)
            found[each] = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return found


def _labels(setups: Sequence[Setup]) -> dict[Setup, str]:
    """Method and variant, with the start of the setup's hash where two setups have the same name."""
    names = {each: each.method if each.variant == "base" else f"{each.method}, {each.variant}" for each in setups}
    times = Counter((each.contest, name) for each, name in names.items())
    return {
        each: name if times[each.contest, name] == 1 else f"{name} ({each.setup_hash[:6]})"
        for each, name in names.items()
    }


def _place(setup: Setup) -> str:
    return f"{setup.dataset} {setup.split_hash[:8]}, labels {setup.relevance_hash}, {setup.sized}"


def _p_value(value: float) -> str:
    return ("p < 0.001" if value < 0.001 else f"p = {value:.3f}").replace(" ", "\N{NO-BREAK SPACE}")


def _names(ranked: Sequence[Contest]) -> str:
    """Sizes in words: `16, 32 and 64 bits`."""
    texts = []
    for unit, found in groupby(ranked, lambda contest: contest.setup.unit):
        *most, last = [str(contest.setup.output_size) for contest in found]
        texts.append(f"{', '.join(most)}{' and ' if most else ''}{last} {unit}")
    return "; ".join(texts)

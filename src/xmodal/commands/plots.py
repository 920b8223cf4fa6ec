"""`xmodal plots`: what a study found, drawn, and precision over recall of the runs at its size."""

import sys
from collections import Counter
from collections.abc import Sequence

from xmodal import arguments
from xmodal.errors import UserError
from xmodal.experiment import configuration, experiment
from xmodal.records.figures import draw_curves
from xmodal.records.setups import by_setup, collect, is_plain
from xmodal.run import MAX_SIZE, size_argument, whole_list
from xmodal.studies.plots import draw_study
from xmodal.studies.storage import study_name


def main(argv: Sequence[str]) -> int:
    """`xmodal plots METHOD DATA --bits 64 [--storage URL]`: PNG files in the folder of that size; prints their paths.

    Importance of the parameters and parallel coordinates of the study, if there is one; precision over recall of the
    plain and tuned runs, if there are any. With `--against`, the front of that study, beside its table.
    """
    from xmodal.cli import Parsed

    options = arguments.parser("plots").parse_args(list(argv))
    bits, dim, sizes = options.bits, options.dim, []
    if options.against:
        kind = "bits" if dim is None else "dim"
        sizes = whole_list(kind.upper(), getattr(options, kind) or "", 1, MAX_SIZE)
        bits, dim = (str(sizes[0]) if given else None for given in (bits, dim))
    plan = experiment(options.method, options.data)
    parsed = Parsed([*configuration(None, None, [plan.file]), *size_argument(plan.method, bits, dim)])
    name = study_name(plan.method, plan.dataset, sizes or [parsed.size], options.against)
    folder = parsed.folder.parents[1 if options.against else 0]
    written = draw_study(folder, name, options.storage, options.against)
    found = by_setup(collect(folder)[0])
    setups = [each for each in found if is_plain(each.variant) and each.queries is not None]
    if setups and not options.against:
        times = Counter(each.variant for each in setups)
        names = [
            f"{each.variant} ({each.setup_hash[:6]})" if times[each.variant] > 1 else each.variant for each in setups
        ]
        draw_curves(folder / "precision_recall.png", zip(names, setups, strict=True), name)
        written.append(folder / "precision_recall.png")
    if not written:
        raise UserError(
            f"nothing to draw: no two finished trials that differ in the study {name}"
            + ("." if options.against else f", and no evaluated run in {folder}.")
        )
    sys.stdout.writelines(f"{path}\n" for path in written)
    return 0

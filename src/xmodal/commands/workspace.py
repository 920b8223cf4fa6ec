"""`xmodal workspace`: a saved W&B workspace for the suite's runs, by wandb-workspaces (the extra `workspace`)."""

import sys
from collections.abc import Sequence
from importlib import import_module

from xmodal import arguments
from xmodal.errors import UserError
from xmodal.records.wandb_mode import need_server

MEASURES = {"both directions": "test/map", "i2t": "test/map_i2t", "t2i": "test/map_t2i"}


def main(argv: Sequence[str]) -> int:
    """`xmodal workspace`: save a W&B view that groups runs by setup, so that it shows mean and spread over seeds.

    Raises:
        UserError: wandb-workspaces is not installed, there is no key, or the server does not answer or refuses.
    """
    options = arguments.parser("workspace").parse_args(list(argv))
    try:
        panels, views = (import_module(f"wandb_workspaces.{name}") for name in ("reports.v2", "workspaces"))
    except ImportError as error:
        raise UserError(
            "wandb-workspaces is not installed: `make workspace` installs it, or `pip install 'xmodal[workspace]'`."
        ) from error
    need_server("a workspace lies on the server, try again later.")
    import wandb

    entity = options.entity or wandb.Api().default_entity
    setup, mean = "config.setup_hash", "mean"
    spread = {"groupby": setup, "groupby_aggfunc": mean, "groupby_rangefunc": "stddev"}
    found = {"orientation": "h", **spread}
    sections = [
        views.Section(
            "Query set",
            [panels.BarPlot(title=f"mAP, {name}", metrics=[key], **found) for name, key in MEASURES.items()],
            is_open=True,
        ),
        views.Section(
            "Validation",
            [panels.LinePlot(title="val/map", x="epoch", y=["val/map"], **spread)],
            is_open=True,
        ),
        views.Section(
            "Size",
            [
                panels.ScatterPlot(title=f"mAP, {name}, over size", x=panels.Config("size"), y=key)
                for name, key in MEASURES.items()
            ],
        ),
        views.Section(
            "Precision and recall",
            [
                panels.CustomChart(
                    query={"summaryTable": {"tableKey": f"pr_{direction}_table"}},
                    chart_name="wandb/line/v0",
                    chart_fields={"x": "recall", "y": "precision"},
                    chart_strings={"title": f"precision over recall, {direction}"},
                )
                for direction in ("i2t", "t2i")
            ],
        ),
        views.Section("Gallery", [panels.MediaBrowser(title="gallery", media_keys=["gallery"])]),
        views.Section("Settings", [panels.RunComparer(diff_only="split")]),
    ]
    runs = views.RunsetSettings(
        groupby=[views.Config("method"), views.Config("variant"), views.Config("setup_hash")],
        filters="Metric('JobType') not in ['smoke', 'trial', 'test']",
    )
    view = views.Workspace(entity, "xmodal", options.name, sections, runset_settings=runs)
    try:
        view.save()
    except (wandb.Error, OSError, ValueError) as error:
        raise UserError(f"W&B refused the workspace: {' '.join(str(error).split())[:300]}") from error
    sys.stdout.write(f"{view.url}\n")
    return 0

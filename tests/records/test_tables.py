"""The four forms of a table, letter by letter."""

import pytest

from xmodal.errors import UserError
from xmodal.records.setups import Spread
from xmodal.records.tables import Table

TABLE = Table(
    "dmsf on a_b, 16 bits",
    ("variant", "mean", "p", ""),
    (
        ("full", Spread(0.55, 0.07071067811865474), "", ""),
        ("no_graph", Spread(0.3125, 0.08838834764831845), "0.0300", "better"),
    ),
    ("Mean +- deviation; 95 % & more.",),
)


def test_text():
    assert TABLE.text() == (
        "dmsf on a_b, 16 bits\n"
        "\n"
        "variant   mean              p\n"
        "full      0.5500 +- 0.0707\n"
        "no_graph  0.3125 +- 0.0884  0.0300  better\n"
        "\n"
        "Mean +- deviation; 95 % & more.\n"
    )


def test_markdown():
    assert TABLE.markdown() == (
        "dmsf on a_b, 16 bits\n"
        "\n"
        "| variant | mean | p |  |\n"
        "| --- | --- | --- | --- |\n"
        "| full | 0.5500 +- 0.0707 |  |  |\n"
        "| no_graph | 0.3125 +- 0.0884 | 0.0300 | better |\n"
        "\n"
        "Mean +- deviation; 95 % & more.\n"
    )


def test_csv_keeps_full_precision():
    assert TABLE.csv() == (
        "variant,mean,mean deviation,p,\n"
        "full,0.55,0.07071067811865474,,\n"
        "no_graph,0.3125,0.08838834764831845,0.0300,better\n"
    )


def test_latex():
    assert TABLE.latex() == (
        "\\begin{table}\n"
        "\\caption{dmsf on a\\_b, 16 bits. Mean $\\pm$ deviation; 95 \\% \\& more.}\n"
        "\\begin{tabular}{llll}\n"
        "\\toprule\n"
        "variant & mean & p &  \\\\\n"
        "\\midrule\n"
        "full & $0.5500 \\pm 0.0707$ &  &  \\\\\n"
        "no\\_graph & $0.3125 \\pm 0.0884$ & $0.0300$ & better \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
    )


def test_a_single_seed_has_no_deviation():
    assert Table("", ("mean",), ((Spread(0.5, None),),)).csv() == "mean,mean deviation\n0.5,\n"


def test_the_files_lie_beside_each_other_and_an_unwritable_folder_is_said(tmp_path):
    paths = TABLE.write(tmp_path / "deep" / "ablation")
    assert [path.name for path in paths] == ["ablation.md", "ablation.csv", "ablation.tex"]
    assert paths[1].read_text() == TABLE.csv()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        TABLE.write(tmp_path / "file" / "ablation")

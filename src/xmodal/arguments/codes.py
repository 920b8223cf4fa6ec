"""Command lines of what is done with codes: metrics, search, export."""

from argparse import ArgumentParser
from pathlib import Path

from xmodal.arguments.common import DATA, FOLDERS, named

FORMATS, KINDS = ("npz", "parquet", "mat", "faiss", "onnx"), ("flat", "ivf", "hnsw", "multihash")


def _run_folder(own: ArgumentParser) -> None:
    words = "folder of a run, such as runs/dmsf/emoji/64/seed0"
    own.add_argument("run", metavar="RUN", help=words).complete = FOLDERS  # type: ignore[attr-defined]


def index() -> ArgumentParser:
    """See `xmodal.commands.index`."""
    words = (
        "Encode the database of a dataset, or a folder of pictures, with a trained run, and index it. A killed "
        "encoding goes on where it was. The last line on stdout is the folder of the index."
    )
    own = named("index", words, "xmodal index runs/dmsf/emoji/64/seed0 --folder photos --captions captions.csv")
    _run_folder(own)
    words = "a dataset, or a YAML file of your own data; default: what the run was trained on"
    own.add_argument("--data", metavar="NAME", help=words).complete = DATA  # type: ignore[attr-defined]
    own.add_argument("--folder", type=Path, metavar="PICTURES", help="a folder of pictures instead")
    own.add_argument("--captions", type=Path, metavar="FILE.csv", help="a table of their file names and texts")
    own.add_argument("--out", type=Path, metavar="DIR", help="default: in the run's folder, index/<what it holds>")
    words = "flat (exact) or an approximate one: docs/search.md says when"
    own.add_argument("--kind", default="flat", choices=KINDS, help=words)
    return own


def search() -> ArgumentParser:
    """See `xmodal.commands.search`."""
    words = (
        "The nearest items of an index to words or pictures; without any, queries come from stdin: texts or paths of "
        "pictures, one a line."
    )
    own = named("search", words, "xmodal search runs/dmsf/emoji/64/seed0/index/emoji --text 'red fruit' -k 5")
    words = "a folder that `xmodal index` made"
    own.add_argument("index", metavar="INDEX", type=Path, help=words).complete = FOLDERS  # type: ignore[attr-defined]
    own.add_argument("--text", action="append", default=[], help="a query in words; may be given several times")
    own.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture as a query, likewise")
    own.add_argument("--queries", type=Path, metavar="FILE", help="a text a line, or a picture's path a line")
    own.add_argument("--among", choices=("image", "text"), help="what is searched; default: the other side")
    own.add_argument("--run", metavar="RUN", help="the run that made the index, where it was moved")
    own.add_argument("-k", type=int, default=10, help="hits of a query")
    own.add_argument("--json", action="store_true", help="a JSON object a line for each query")
    own.add_argument("--html", type=Path, metavar="FILE", help="write a gallery that needs nothing but itself")
    return own


def demo() -> ArgumentParser:
    """See `xmodal.commands.demo`."""
    words = (
        "A page that searches by words and pictures. Without arguments it offers the runs at hand; where there is "
        "none, it trains DCMHT on the embedded data first. The page is for this machine alone."
    )
    own = named("demo", words, "xmodal demo runs/dmsf/emoji/64/seed0 --port 8000")
    words = "runs, or folders that `xmodal index` made"
    own.add_argument("sources", metavar="RUN|INDEX", nargs="*", help=words).complete = FOLDERS  # type: ignore[attr-defined]
    own.add_argument("--port", default="8000", help="0: any that is free")
    return own


def export() -> ArgumentParser:
    """See `xmodal.commands.export`."""
    words = (
        "Codes or embeddings of all roles with labels and positions (npz, parquet, mat, faiss), or both encoders "
        "(onnx). docs/search.md says what each format holds. The last line on stdout is the file or folder."
    )
    own = named("export", words, "xmodal export runs/dmsf/emoji/64/seed0 --to mat")
    _run_folder(own)
    own.add_argument("--to", choices=FORMATS, required=True, help="the format")
    own.add_argument("--out", type=Path, help="default: in the run's folder, export/<method>-<dataset>.<format>")
    return own


def evaluate() -> ArgumentParser:
    """See `xmodal.commands.evaluate`."""
    words = "Every retrieval metric, with its convention, of codes or embeddings in files."
    own = named("evaluate", words, "xmodal evaluate mine.npz theirs.mat")
    own.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help=".npz, .mat, .h5 ...; two are compared as well"
    )
    own.add_argument("--json", action="store_true", help="print JSON, numbers at full precision")
    return own

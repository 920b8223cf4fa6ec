"""`xmodal export RUN --to FORMAT`: codes or embeddings of a run, or its encoders, for other programs."""

import sys
from collections.abc import Sequence

from xmodal import arguments


def main(argv: Sequence[str]) -> int:
    """Run the command; the last line on stdout is the file or folder; 1 where an ONNX encoder gives another code."""
    options = arguments.parser("export").parse_args(list(argv))
    from xmodal.search import Trained, export

    trained = Trained.open(options.run)
    name = f"{trained.method.name}-{trained.data.name}"
    ending = f"-{options.to}" if options.to in ("faiss", "onnx") else f".{options.to}"  # folders and files
    out = options.out or trained.folder / "export" / f"{name}{ending}"
    status = 0
    if options.to == "onnx":
        from xmodal.search.onnx import export_onnx

        for side, (equal, count) in export_onnx(trained, out).items():
            sys.stderr.write(f"{side}.onnx: {equal} of {count} queries get the same code\n")
            status |= int(equal < count)
    else:
        write = {"npz": export.to_npz, "parquet": export.to_parquet, "mat": export.to_mat, "faiss": export.to_faiss}
        write[options.to](trained, export.encode_roles(trained), out)
    sys.stdout.write(f"{out}\n")
    return status

"""Makes docs/pictures/compare.png, the picture of the comparison page: `python results/pictures.py`.

Trains CCA, and DMSF as it is and tuned for ten epochs with three seeds each, on `emoji` at 64 bits, writes the
comparison page of these runs, and takes a picture of its top in Chromium.
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from xmodal import paths

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
WIDTH, HEIGHT = 1400, 1480  # of the page that is shown, in pixels
SETUPS = (("cca", "emoji"), ("dmsf", "emoji"), ("dmsf", "tuned/emoji-64"))


def xmodal(*words: str) -> None:
    """Run a command of the suite."""
    subprocess.run([sys.executable, "-m", "xmodal", *words], check=True)


def main() -> None:
    """Train, compare, look."""
    for method, data in SETUPS:
        for seed in range(3):
            xmodal("train", method, data, "--bits=64", "--epochs=10", f"--seed={seed}")
    xmodal("compare", "--methods=cca,dmsf", "--data=emoji", "--bits=64")
    browser = next(path for name in ("chromium", "google-chrome") if (path := shutil.which(name)))
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "page.png"
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/browser"]
        command += ["--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}"]
        page = (paths.runs() / "compare.html").as_uri()
        subprocess.run([*command, page], check=True, capture_output=True, timeout=120)
        buffer = io.BytesIO()
        Image.open(shot).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / "compare.png").write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main()

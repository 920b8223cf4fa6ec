"""Makes the pictures of docs/pictures: `python results/pictures.py`, which first makes the runs that they show.

Trains CCA, and DCMHT and DMSF with their tuned settings, with three seeds each on `emoji` at 64 bits; runs that are
finished are used again. `compare.png` is the top of their comparison page in Chromium, light and dark; `curves.svg` is
precision over recall; `gallery.png` is what tuned DMSF leaves; `search.png` is the page of `make demo`, asked with an
unseen query of the dataset. The other figures are drawn from tables, by `figures.py`, and `wandb.png` by
`wandb_picture.py`.
"""

import io
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

from PIL import Image

from xmodal import paths
from xmodal.records.figures import draw_curves
from xmodal.records.setups import by_setup, collect

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "pictures"
SETUPS = (("cca", "emoji"), ("dcmht", "tuned/emoji-64"), ("dmsf", "tuned/emoji-64"))
BEST = Path("dmsf", "emoji", "64", "tuned-seed0")
QUERY = "example=98&side=text"  # hot pepper
XMODAL = (sys.executable, "-m", "xmodal")


def photograph(address: str, name: str, height: int) -> None:
    """Take pictures of a page, 1400 pixels wide: `<name>.png` and `<name>-dark.png`."""
    browser = next(path for name in ("chromium", "google-chrome") if (path := shutil.which(name)))
    for scheme, ending in enumerate(("-dark", "")):
        with tempfile.TemporaryDirectory() as folder:
            shot = Path(folder) / "page.png"
            command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/browser"]
            command += [f"--blink-settings=preferredColorScheme={scheme}", "--hide-scrollbars"]
            command += [f"--window-size=1400,{height}", "--virtual-time-budget=8000", f"--screenshot={shot}", address]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            buffer = io.BytesIO()
            Image.open(shot).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        (PICTURES / f"{name}{ending}.png").write_bytes(buffer.getvalue())


def photograph_search() -> None:
    """Take pictures of the page that searches with tuned DMSF; it is asked once before, while it opens its files."""
    demo = [*XMODAL, "demo", str(paths.runs() / BEST), "--port=0"]
    with subprocess.Popen(demo, stdout=subprocess.PIPE, text=True) as server:
        address = server.stdout.readline().strip()
        urlopen(f"{address}/api/search?{QUERY}").close()
        photograph(f"{address}/?{QUERY}", "search", 785)
        server.terminate()


def main() -> None:
    """Train, compare, look."""
    PICTURES.mkdir(exist_ok=True)
    for method, data in SETUPS:
        for seed in range(3):
            subprocess.run([*XMODAL, "train", method, data, "--bits=64", f"--seed={seed}"], check=True)
    methods = ",".join(dict.fromkeys(method for method, _ in SETUPS))
    chosen = [f"--methods={methods}", "--data=emoji", "--bits=64"]
    subprocess.run([*XMODAL, "compare", *chosen], check=True)
    photograph((paths.runs() / "compare.html").as_uri(), "compare", 1650)
    shutil.copy(paths.runs() / BEST / "gallery.png", PICTURES)
    photograph_search()
    shown = {(method, "tuned" if "tuned" in data else "base") for method, data in SETUPS}
    setups = [
        each
        for each in by_setup(collect(paths.runs())[0])
        if (each.dataset, each.sized) == ("emoji", "64 bits") and (each.method, each.variant) in shown
    ]
    draw_curves(PICTURES / "curves.svg", {each.method: each for each in setups}, "emoji, 64 bits")
    runpy.run_path(str(HERE / "figures.py"), run_name="__main__")


if __name__ == "__main__":
    main()

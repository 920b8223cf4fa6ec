"""Write every dataset of the field as its original release lays it out, a few pairs each."""

import csv
import io
import json
import zipfile

import numpy as np
from PIL import Image

N = 30


def jpeg(seed, size=(20, 16)):
    pixels = np.random.default_rng(seed).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def zipped(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)


def multi_hot(classes, pairs=N, seed=0):
    label = (np.random.default_rng(seed).random((pairs, classes)) < 0.2).astype(np.uint8)
    label[np.arange(pairs), np.arange(pairs) % classes] = 1
    return label


def features(width, pairs=N, seed=0):
    return np.random.default_rng(seed).normal(size=(pairs, width)).astype(np.float32)


def pixels(pairs=N, side=8):
    return np.random.default_rng(3).integers(256, size=(pairs, side, side + 1, 3), dtype=np.uint8)


def tags(width, pairs=N):
    return multi_hot(width, pairs, 5)


def mirflickr(root):
    """The release: photos, tags and the list of common tags in one zip, annotations in another."""
    members = {"mirflickr/doc/common_tags.txt": "sky 900\nblue 800\nwater 20\n"}
    for k in range(1, N + 1):
        words = ["sky", "nobodyelse"] if k % 2 else ["blue", "water"]
        members |= {f"mirflickr/im{k}.jpg": jpeg(k), f"mirflickr/meta/tags/tags{k}.txt": "\n".join(words)}
    members["mirflickr/meta/tags/tags4.txt"] = "nobodyelse"  # no common tag
    zipped(root / "mirflickr25k.zip", members)
    label = multi_hot(24)
    label[6] = 0  # im7 has no label
    annotations = {"README.txt": "about"}
    for column in range(24):
        lines = "\n".join(str(row + 1) for row in np.flatnonzero(label[:, column]))
        annotations |= {f"concept{column:02d}.txt": lines, f"concept{column:02d}_r1.txt": "1"}
    zipped(root / "mirflickr25k_annotations_v080.zip", annotations)


def nuswide(root, concepts):
    names = [f"actor\\{k:04d}_{k * 7}.jpg" for k in range(N)]
    label = multi_hot(len(concepts))
    label[2] = 0
    for folder in ("Groundtruth/AllLabels", "NUS_WID_Tags", "ImageList"):
        (root / folder).mkdir(parents=True)
    for column, concept in enumerate(concepts):
        lines = "\n".join(map(str, label[:, column]))
        (root / "Groundtruth" / "AllLabels" / f"Labels_{concept}.txt").write_text(lines)
    (root / "NUS_WID_Tags" / "All_Tags.txt").write_text("\n".join(f"{k * 7}   sky tag{k}" for k in range(N)))
    (root / "NUS_WID_Tags" / "AllTags1k.txt").write_text("\n".join("\t".join(map(str, row)) for row in tags(40)))
    (root / "ImageList" / "Imagelist.txt").write_text("\r\n".join(names))
    zipped(root / "Flickr.zip", {f"Flickr/{name.replace(chr(92), '/')}": jpeg(k) for k, name in enumerate(names)})


def coco(root):
    images = [{"id": 10 * k, "file_name": f"{k:012d}.jpg"} for k in range(N)]
    captions = [
        {"id": 5 * k + c, "image_id": 10 * k, "caption": f" A photo {k} of things, caption {c}. "}
        for k in range(N)
        for c in range(5)
    ]
    categories = [{"id": k, "name": f"thing{k}", "supercategory": f"kind{k % 12}"} for k in range(1, 91) if k % 9]
    used = [categories[k % 80]["id"] for k in range(N)]
    instances = [{"id": k, "image_id": 10 * k, "category_id": used[k]} for k in range(N) if k % 10]
    (root / "annotations").mkdir(parents=True)
    text = json.dumps({"images": images, "annotations": captions})
    (root / "annotations" / "captions_val2017.json").write_text(text)
    text = json.dumps({"images": images, "annotations": instances, "categories": categories})
    (root / "annotations" / "instances_val2017.json").write_text(text)
    zipped(root / "val2017.zip", {f"val2017/{image['file_name']}": jpeg(k) for k, image in enumerate(images)})


def flickr_names():
    return [f"{1000 + k}_ab.jpg" for k in range(N)]


def flickr_captions(root, layout="kaggle"):
    who = ("man", "dog")
    names = list(enumerate(flickr_names()))
    pairs = [(name, c, f"A {who[k % 2]}, number {k}, runs {c} .") for k, name in names for c in range(5)]
    if layout == "kaggle":
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([("image", "caption"), *((n, t) for n, _, t in pairs)])
        (root / "captions.txt").write_text(buffer.getvalue())
    elif layout == "token":
        (root / "Flickr8k.token.txt").write_text("\n".join(f"{n}#{c}\t{t}" for n, c, t in pairs))
    elif layout == "results":
        lines = [f"{n}| {c}| {t}" for n, c, t in pairs]
        lines[7] = lines[7].replace("| 2| ", "| 2   ")  # as one line of the release
        (root / "results.csv").write_text("\n".join(["image_name| comment_number| comment", *lines]))
    zipped(root / "images.zip", {f"Images/{name}": jpeg(k) for k, name in enumerate(flickr_names())})


def flickr_lists(root, files):
    names = flickr_names()
    for file, part in zip(files, (names[:15], names[15:20], names[20:28]), strict=True):
        (root / file).write_text("\n".join(part) + "\n")


def karpathy(root, name):
    splits = ["train"] * 14 + ["restval"] + ["val"] * 5 + ["test"] * 10
    images = [
        {"filename": n, "split": splits[k], "sentences": [{"raw": f"A dog {k} runs {c}."} for c in range(5)]}
        for k, n in enumerate(flickr_names())
    ]
    (root / f"dataset_{name}.json").write_text(json.dumps({"images": images, "dataset": name}))
    zipped(root / "images.zip", {n: jpeg(k) for k, n in enumerate(flickr_names())})


def scan(root):
    for part, size in (("train", 12), ("dev", 4), ("test", 6)):
        regions = np.random.default_rng(size).normal(size=(size, 6, 20)).astype(np.float32)
        np.save(root / f"{part}_ims.npy", np.repeat(regions, 5, 0) if part == "test" else regions)
        lines = [f"a dog {k} runs {c}" for k in range(size) for c in range(5)]
        (root / f"{part}_caps.txt").write_text("\n".join(lines))


def pascal(root):
    members = {}
    for number in range(20):
        for k in range(2):
            members[f"dataset/class{number:02d}/2008_{number}{k}.jpg"] = jpeg(number)
            members[f"sentence/class{number:02d}/2008_{number}{k}.txt"] = "\n".join(f"sentence {c}." for c in range(5))
    zipped(root / "pascal.zip", members)


STYLES = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"


def fashion(root, per_article=110):
    """Two branches; one product off its article's path, one rare article, one title with a comma that is not quoted."""
    kinds = [("Apparel", "Topwear", "Shirts"), ("Apparel", "Topwear", "Tops"), ("Footwear", "Shoes", "Heels")]
    rows = [(*kind, f"{kind[2]} number {k}") for kind in kinds for k in range(per_article)]
    rows += [("Apparel", "Dress", "Heels", "stray"), ("Home", "Decor", "Lamps", "rare")]
    lines = [
        f"{k + 1},,{a},{b},{c},{'Red' if k % 2 else 'Blue'},,,Casual,{title}" for k, (a, b, c, title) in enumerate(rows)
    ]
    lines[3] += ", with a comma"
    (root / "styles.csv").write_text("\n".join([STYLES, *lines]) + "\n")
    picture = jpeg(0)
    zipped(root / "images.zip", {"images/": b"", **{f"images/{k + 1}.jpg": picture for k in range(len(rows))}})


def iapr(root, classes=20):
    """Descriptions in Latin-1, one of them missing; LEAR's lists, dictionary and vectors."""
    ids = [f"{k // 10:02d}/{k}" for k in range(N)]
    members = {f"iaprtc12/images/{name}.jpg": jpeg(k) for k, name in enumerate(ids)}
    for k, name in enumerate(ids[:-1]):
        text = f"<DOC>\n<TITLE>Caf\xe9 {k}</TITLE>\n<DESCRIPTION>a caf\xe9 with\n{k} chairs;</DESCRIPTION>\n</DOC>\n"
        members[f"iaprtc12/annotations_complete_eng/{name}.eng"] = text.encode("latin-1")
    zipped(root / "iaprtc12.zip", members)
    (root / "iaprtc12_dictionary.txt").write_text("\n".join(f"word{k}" for k in range(classes)))
    for part, rows in (("train", slice(0, 20)), ("test", slice(20, N))):
        (root / f"iaprtc12_{part}_list.txt").write_text("\n".join(ids[rows]))
        table = np.insert(multi_hot(classes)[rows].astype("<i2"), 0, classes, 1)
        (root / f"iaprtc12_{part}_annot.hvecs").write_bytes(table.tobytes())


def nuswide_10k(root):
    (root / "split").mkdir()
    (root / "text").mkdir()
    for part, rows in (("train", range(20)), ("valid", range(20, 24)), ("test", range(24, N))):
        (root / "split" / f"{part}.txt").write_text("\n".join(f"{k:04d}:{k % 10}" for k in rows))
    for k in range(N):
        (root / "text" / f"{k:04d}.json").write_text(json.dumps(f"sky tag{k}"))
    zipped(root / "image.zip", {f"image/{k:04d}.jpg": jpeg(k) for k in range(N)})

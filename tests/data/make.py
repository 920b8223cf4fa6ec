"""Write every dataset of the field in its real layouts, a few pairs each: releases as downloaded, and the dialects."""

import csv
import io
import json
import pickle
import zipfile

import h5py
import numpy as np
import scipy.io
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


def v5(path, **arrays):
    scipy.io.savemat(path, arrays)


def v73(path, **arrays):
    """As MATLAB writes it: axes reversed, every dataset marked with its class; strings in a cell array."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            if array.dtype.kind in "OU":
                cells = np.empty((1, len(array)), h5py.ref_dtype)
                for row, text in enumerate(array):
                    codes = np.array([[ord(char)] for char in str(text)], np.uint16)
                    cell = file.create_dataset(f"#refs#/{name}{row}", data=codes)
                    cell.attrs["MATLAB_class"] = np.bytes_("char")
                    cells[0, row] = cell.ref
                file.create_dataset(name, data=cells, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                file.create_dataset(name, data=array.T).attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512, b" "))


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


def dcmh(root, write, classes=24):
    """One file; MATLAB's pictures are H x W x 3 x N."""
    write(
        root / "FLICKR-25K.mat",
        images=pixels().transpose(1, 2, 3, 0),
        YAll=tags(40).astype(float),
        LAll=multi_hot(classes),
    )


def djsrh(root, write, classes=24, name="mirflickr25k"):
    write(root / f"{name}-iall.mat", IAll=pixels().transpose(1, 2, 3, 0))
    write(root / f"{name}-yall.mat", YAll=tags(40))
    write(root / f"{name}-lall.mat", LAll=multi_hot(classes))


def djsrh_vgg(root, write, classes=24, name="mirflickr25k"):
    write(root / f"{name}-iall-vgg.mat", XAll=features(50))
    write(root / f"{name}-yall.mat", YAll=tags(40))
    write(root / f"{name}-lall.mat", LAll=multi_hot(classes))


def torchcmh(root, write, classes=24):
    write(root / "imgList.mat", FAll=features(50))
    write(root / "tagList.mat", YAll=tags(40))
    write(root / "labelList.mat", LAll=multi_hot(classes))


def torchcmh_tags(root, write, classes=80):
    write(root / "imgList.mat", imgs=features(50))
    write(root / "tagList.mat", tags=tags(40))
    write(root / "labelList.mat", labels=multi_hot(classes))


def dadh(root, write, classes=21):
    write(root / "NUS-WIDE-TC21.mat", image=features(50), text=tags(40), label=multi_hot(classes))


def paths(root, write, classes=24, key="category", several=False):
    """Paths of the author's machine, padded; captions as text, or five to a picture."""
    names = [f"im{k}.jpg" for k in range(N)]
    zipped(root / "pictures.zip", {f"photos/{name}": jpeg(k) for k, name in enumerate(names)})
    write(root / "index.mat", index=np.array([f"/home/somebody/photos/{name}" for name in names]))
    captions = [[f"picture {k} caption {c}" for c in range(5)] if several else f"tags of picture {k}" for k in range(N)]
    write(root / "caption.mat", caption=np.array(captions))
    write(root / "label.mat", **{key: multi_hot(classes)})


def hichnet(root, write, coarse=8, fine=27, pairs=60):
    write(root / "image.mat", Image=pixels(pairs))
    write(root / "tag.mat", Tag=tags(40, pairs))
    write(root / "label.mat", Label=layered(coarse, fine, pairs))


def hichnet_2(root, write, coarse=4, fine=28, pairs=60):
    write(root / "NImage.mat", img=pixels(pairs))
    write(root / "Tags.mat", tags=tags(40, pairs))
    write(root / "Label.mat", label=layered(coarse, fine, pairs))


def torch_food(root, write, coarse=5, fine=66, pairs=140):
    write(root / "image_vgg.mat", image_vgg=features(50, pairs))
    write(root / "ingredient.mat", ingredient=tags(40, pairs))
    write(root / "label.mat", label=layered(coarse, fine, pairs))


def layered(coarse, fine, pairs):
    classes = np.arange(pairs) % fine
    return np.hstack([np.eye(coarse)[classes % coarse], np.eye(fine)[classes]]).astype(np.uint8)


def dscmr(root, write, classes=20):
    for part, size in (("train", 20), ("test", 10)):
        write(root / f"{part}_img.mat", **{f"{part}_img": features(50, size)})
        write(root / f"{part}_txt.mat", **{f"{part}_txt": features(30, size)})
        numbers = np.arange(size) % classes + 1
        numbers[-1] = classes
        write(root / f"{part}_img_lab.mat", **{f"{part}_img_lab": numbers[:, None].astype(float)})


def ucch_iapr(root, write, classes=25):
    arrays = {}
    for part, label, size in (("Database", "databaseL", 20), ("Test", "testL", 10)):
        arrays |= {f"V{part}": features(50, size), f"Y{part}": tags(40, size), label: multi_hot(classes, size)}
    write(root / "iapr-tc12-rand.mat", **arrays)


def mrl(path, classes=200):
    with h5py.File(path, "w") as file:
        for part, size in (("train", 210), ("valid", 12), ("test", 14)):
            numbers = np.arange(size) % classes + 1
            numbers[:2] = 1, classes
            file[f"{part}_imgs_deep"], file[f"{part}_text"] = features(50, size), features(30, size)
            file[f"{part}_imgs_labels"] = file[f"{part}_texts_labels"] = numbers


def xmedianet_views(path, classes=200):
    arrays = {}
    for part, size in (("train", 210), ("valid", 12), ("test", 14)):
        numbers = np.arange(size) % classes + 1
        numbers[:2] = 1, classes
        views, labels = np.empty((1, 4), object), np.empty((1, 4), object)
        for view in range(4):
            views[0, view], labels[0, view] = features(50 - view, size), numbers[:, None]
        arrays |= {part: views, f"{part}_labels": labels}
    scipy.io.savemat(path, arrays)


def clip4cmr(root, classes=10):
    for part, size in (("train", 20), ("test", 10)):
        held = {"image": features(512, size), "text": features(512, size), "label": np.arange(size) % classes}
        (root / f"clip_{part}.pkl").write_bytes(pickle.dumps(held | {"ids": np.arange(size)}))


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

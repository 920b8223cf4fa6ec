"""Write every dialect in circulation, a few pairs each, in both versions of .mat."""

import pickle

import h5py
import numpy as np
import scipy.io

from tests.data.make import N, features, jpeg, multi_hot, pixels, tags, zipped


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


def mrl(path, classes=200, parts=(("train", 210), ("valid", 12), ("test", 14))):
    with h5py.File(path, "w") as file:
        for part, size in parts:
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


def wikidata(root, write):
    """MTFH's file: the official features with labels, in the official sizes."""
    arrays = {}
    for part, size in (("tr", 2173), ("te", 693)):
        arrays |= {f"I_{part}": features(128, size), f"T_{part}": features(10, size)}
        arrays |= {f"L_{part}": np.eye(10)[np.arange(size) % 10]}
    write(root / "wikiData.mat", **arrays)


def torch_vgg(root, write, coarse=8, fine=27, pairs=60):
    write(root / "image_vgg.mat", Image_vgg=features(50, pairs))
    write(root / "tag.mat", Tag=tags(40, pairs))
    write(root / "label.mat", Label=layered(coarse, fine, pairs))

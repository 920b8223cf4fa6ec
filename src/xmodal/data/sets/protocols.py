"""The named protocols of every benchmark, one table, which docs/datasets.md shows.

The first protocol of a dataset is its default. `xmodal` is ours and takes any number of pairs; the others fix their
test roles as the cited code does.
"""

from collections.abc import Mapping

from xmodal.data.recipes import Cut, Official, PerLabel, Recipe

MIRFLICKR, TC21, TC10, COCO = 20015, 195834, 186577, 122218  # pairs in the selections that recipes were written for


def ours(query: int, train: int | None) -> Cut:
    """Our protocol: a seeded permutation; `train` None leaves everything that is not a query for training."""
    trained = "everything else for training" if train is None else f"{train:,} training pairs, rest database"
    words = f"ours: numpy.random.default_rng(0).permutation, {query:,} queries, {trained}"
    return Cut(words, query, train, "modern")


def dchmt(who: str, size: int | None = None) -> Cut:
    """DCHMT's draw, which its successors kept."""
    return Cut(f"RandomState(1814): 5,000 queries, 10,000 train ({who})", 5000, 10000, "legacy", 1814, size=size)


def tagged(query: int, size: int) -> dict[str, Recipe]:
    """HiCHNet's and HMCH's protocols of a set: so many queries, everything else is database and trained on."""
    rest = f"{query:,} queries, the rest database and trained on"
    return {
        "hichnet": Cut(f"file order: {rest} (HiCHNet, SHDCH)", query, None, size=size),
        "hmch": Cut(f"RandomState(1234): {rest} (HMCH)", query, None, "legacy", 1234, size=size),
    }


def lists(sizes: str) -> dict[str, Recipe]:
    """The one protocol of caption datasets."""
    return {"official": Official(f"{sizes} pictures for training, validation and test; gallery = the test pictures")}


PROTOCOLS: Mapping[str, Mapping[str, Recipe]] = {
    "fashion": {"xmodal": ours(2000, 10000)},
    "fashionvc": {
        **tagged(3000, 19862),
        "shoh": Cut("file order: 2,000 queries, the rest database and trained on (SHOH)", 2000, None, size=19862),
        "xmodal": ours(3000, None),
    },
    "flickr30k": lists("29,000 / 1,014 / 1,000"),
    "flickr8k": lists("6,000 / 1,000 / 1,000"),
    "food71": {
        "torch": Cut(
            "RandomState(0): TORCH draws them without a seed; 4,500 queries, the rest database and trained on",
            *(4500, None, "legacy", 0),
            size=30817,
        ),
        "xmodal": ours(4500, None),
    },
    "iapr-tc12": {
        "xmodal": ours(2000, 10000),
        "official": Official(
            "the lists of the files: Guillaumin's, or UCCH's test pairs against its database", database="train"
        ),
        "ucch": Cut("file order: the last 2,000 are queries, the first 10,000 train (UCCH)", 2000, 10000, last=True),
        "dchmt": dchmt("QinLab"),
    },
    "mirflickr25k": {
        "xmodal": ours(2000, 10000),
        "dcmh": Cut(
            "file order: 2,000 queries, next 10,000 train, 18,015 database (DCMH, SSAH, AGAH, DADH)",
            *(2000, 10000),
            size=MIRFLICKR,
        ),
        "torchcmh": Cut(
            "RandomState(6): 2,000 queries, 10,000 train (torchcmh)", 2000, 10000, "legacy", 6, size=MIRFLICKR
        ),
        "mith": Cut("RandomState(1): 2,000 queries, 10,000 train (MITH)", 2000, 10000, "legacy", 1, size=MIRFLICKR),
        "ucch": Cut(
            "file order: the last 2,000 are queries, the first 10,000 train (UCCH)",
            *(2000, 10000),
            last=True,
            size=MIRFLICKR,
        ),
        "djsrh": PerLabel(
            "160 queries and 400 training pairs of the first label, 80 and 200 of each other, filled up to 5,000; "
            "our seed: theirs is not set (DJSRH)",
            size=MIRFLICKR,
        ),
        "dchmt": dchmt("DCHMT, QinLab, DSPH"),
        "dchmt-defaults": Cut(
            "RandomState(1814): 5,120 queries, 10,240 train (DCHMT's defaults)", 5120, 10240, "legacy", 1814
        ),
    },
    "mscoco": {
        "xmodal": ours(5000, 10000),
        "dchmt": dchmt("DCHMT, QinLab", COCO),
        "mith": Cut("RandomState(1): 5,000 queries, 10,000 train (MITH)", 5000, 10000, "legacy", 1, size=COCO),
        "torchcmh": Cut("RandomState(8): 5,000 queries, 10,000 train (torchcmh)", 5000, 10000, "legacy", 8),
        "karpathy": Official(
            "Karpathy's lists, 113,287 / 5,000 / 5,000 photos, one pair per caption; needs captions=all"
        ),
    },
    "nuswide": {
        "xmodal": ours(2100, 10500),
        "last": Cut(
            "file order: the last 2,100 are queries, the first 10,000 train (DADH, UCCH)", 2100, 10000, last=True
        ),
        "agah": Cut("file order: 2,100 queries, next 10,000 train (AGAH)", 2100, 10000, size=TC21),
        "mith": Cut("RandomState(1): 2,100 queries, 10,500 train (MITH)", 2100, 10500, "legacy", 1),
        "torchcmh": Cut("RandomState(7): 2,100 queries, 10,500 train (torchcmh)", 2100, 10500, "legacy", 7),
        "ugach": Cut("file order: 1,866 queries (1 %), the rest trained on (UGACH)", 1866, None, size=TC10),
        "srsh": Cut("file order: 2,000 queries, the rest database, 10,000 train (SRSH)", 2000, 10000, size=TC10),
        "djsrh": PerLabel(
            "200 queries and 500 training pairs of each label, our seed: theirs is not set (DJSRH, tc10)",
            size=TC10,
            first=200,
            each=200,
        ),
        "dchmt": dchmt("DCHMT, QinLab"),
        "official": Official("the lists of the files: 8,000 train, 1,000 val, 1,000 test (NUS-WIDE-10k)"),
    },
    "pascal-sentence": {
        "official": Official("the lists of DSCMR's files: 800 train, 100 test (the other 100 are not in them)"),
        "xmodal": ours(100, 800),
    },
    "ssense": {**tagged(2000, 15696), "xmodal": ours(2000, None)},
    "xmedianet": {
        "official": Official("the lists of the files: 32,000 train, 4,000 val, 4,000 test; gallery = test"),
        "xmodal": ours(4000, 32000),
    },
}

"""Flickr30k (Young et al., TACL 2014): 31,783 photos with five captions each."""

from xmodal.data.captions import CaptionBenchmark, official


class Flickr30k(CaptionBenchmark):
    """One pair per caption; Karpathy's split of 29,000 / 1,014 / 1,000 photos."""

    name = "flickr30k"
    expected = (
        "dataset_flickr30k.json (Karpathy) with the photos; or results_20130124.token or results.csv with train.txt, "
        "val.txt, test.txt (photo names) and the photos; or {train,dev,test}_ims.npy with *_caps.txt (SCAN)"
    )
    origin = "the Hockenmaier group, University of Illinois, on request; splits from Karpathy and Fei-Fei, CVPR 2015"
    lists = ("train.txt", "val.txt", "test.txt")
    recipes = official("29,000 / 1,014 / 1,000")

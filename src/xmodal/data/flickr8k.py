"""Flickr8k (Hodosh, Young and Hockenmaier, JAIR 2013): 8,091 photos with five captions each."""

from xmodal.data.captions import CaptionBenchmark, official


class Flickr8k(CaptionBenchmark):
    """One pair per caption; official lists of 6,000 / 1,000 / 1,000 photos, 91 photos are in none."""

    name = "flickr8k"
    expected = (
        "captions.txt or Flickr8k.token.txt, Flickr_8k.{train,dev,test}Images.txt, and the photos (folder or zip); or "
        "dataset_flickr8k.json (Karpathy) with the photos; or {train,dev,test}_ims.npy with *_caps.txt (SCAN)"
    )
    origin = "the Hockenmaier group, University of Illinois, on request; Kaggle adityajn105/flickr8k"
    lists = ("Flickr_8k.trainImages.txt", "Flickr_8k.devImages.txt", "Flickr_8k.testImages.txt")
    recipes = official("6,000 / 1,000 / 1,000")

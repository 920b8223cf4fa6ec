"""COCO's JSON, Karpathy's, and lists of objects, as columns."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from xmodal.data.readers.text import parse_json, text_of
from xmodal.errors import UserError


def read_coco(parts: Sequence[Path], roles: Mapping[Path, str | None]) -> dict[str, list[Any]]:
    """A row per picture, with lists of captions and of category names; of a list, a row per object.

    Args:
        parts: the files; what they say of one picture's id is of one picture, and a caption in two of them is one.
        roles: of the files.

    Raises:
        UserError: a file is damaged, or gives two pictures one id.
    """
    images: dict[str, dict[str, Any]] = {}  # by id, which some write as a number here and as text there
    captions: dict[str, dict[tuple[str, Any], None]] = defaultdict(dict)  # the ids of two files may be of two captions
    names: dict[str, Any] = {}
    labels: dict[str, dict[Any, None]] = defaultdict(dict)
    for part in parts:
        try:
            content = parse_json(text_of(part))
            apart = isinstance(content, list)  # objects, whose numbers may come again
            if apart:
                content = {"images": [{"id": place, **row} for place, row in enumerate(content)]}
            names |= {str(each["id"]): each["name"] for each in content.get("categories", ())}
            for place, image in enumerate(content["images"]):
                own = f"{part} {place}"
                key = own if apart else str(image.get("id", image.get("imgid", image.get("file_name", own))))
                known = images.setdefault(key, dict(image))
                for name in ("file_name", "filename"):
                    if name in image and known.get(name, image[name]) != image[name]:
                        raise UserError(f"{part} gives {known[name]!r} and {image[name]!r} one id, {key}.")
                known.update(image)
                if roles[part]:
                    known.setdefault("split", roles[part])
                captions[key] |= {(str(k), each["raw"]): None for k, each in enumerate(image.get("sentences", ()))}
            for place, mark in enumerate(content.get("annotations", ())):
                if "caption" in mark:
                    captions[str(mark["image_id"])][str(mark.get("id", place)), mark["caption"]] = None
                elif "category_id" in mark:
                    labels[str(mark["image_id"])][names[str(mark["category_id"])]] = None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{part} is no JSON as COCO has it (images, annotations, categories): {error!r}."
            ) from error
    columns = {name: [image.get(name) for image in images.values()] for name in scalars(images.values())}
    if any(captions.values()):
        columns["caption"] = [[text for _, text in captions[key]] for key in images]
    if names:
        columns["category"] = [list(labels[key]) for key in images]
    return columns


def scalars(rows: Collection[Mapping[str, Any]]) -> list[str]:
    """The names that rows have, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row if name != "sentences"))

"""The page of `xmodal demo`, and the JSON below it: indexes, examples, searches, pictures, for this machine alone."""

import io
import time
from asyncio import Semaphore
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from xmodal.batch import Side
from xmodal.errors import UserError
from xmodal.run import whole
from xmodal.search.index import Answers, Index
from xmodal.search.sources import LARGEST

PAGE = Path(__file__).with_name("page")
THUMBNAIL, MOST = 256, 200  # pixels of a picture's longer side; hits of a request
POSTS = 4  # pictures that are held at a time
SAFE = {  # nothing but this server is asked for anything
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Shelf:
    """One index behind the page; opened when it is first chosen, searched by one request at a time.

    Args:
        opened: gives the index.
    """

    def __init__(self, opened: Any) -> None:  # noqa: ANN401 - a function without arguments
        self._opened, self.lock = opened, Lock()
        self._index: Index | None = None

    @property
    def index(self) -> Index:
        """See the class; call it under the lock."""
        if self._index is None:
            self._index = self._opened()
        return self._index

    def about(self) -> dict[str, Any]:
        """What the page says of it."""
        with self.lock:
            index = self.index
            sizes: dict[str, int] = {side: len(ids) for side, ids in index.ids.items()}
            return {
                "method": index.about["method"],
                "bits": index.bits,
                "source": index.about["source"].get("dataset") or Path(index.about["source"]["folder"]).name,
                "sizes": sizes,
                "examples": index.data is not None and bool(index.relevance),
            }

    def examples(self, count: int, seed: int) -> list[dict[str, Any]]:
        """Queries of the dataset, whose relevant items are known; none for a folder."""
        with self.lock:
            if self.index.data is None or not self.index.relevance:
                return []
            positions = self.index.data.positions("query")
            some = np.random.default_rng(seed).choice(positions, min(count, len(positions)), replace=False)
            return [{"id": int(each), "text": self.index.data.caption(int(each))} for each in some]

    def search(
        self, k: int, text: str | None, picture: bytes | None, example: int | None, asked: Side
    ) -> dict[str, Any]:
        """Answer a query: words, a picture's content, or a side of an example.

        Raises:
            UserError: the query cannot be used.
        """
        with self.lock:
            index, started = self.index, time.perf_counter()
            if example is not None:
                if index.data is None or example not in index.data.positions("query"):
                    raise UserError(f"{example} is no example of this index.")
                item: Any = index.data.caption(example) if asked == "text" else index.data.picture(example)
            else:
                item = text if picture is None else picture
                asked = "text" if picture is None else "image"
            if item is None:
                raise UserError("this example has no picture here: ask with its words.")
            answers = index.search(texts=[item], k=k) if asked == "text" else index.search(images=[item], k=k)
            seconds = time.perf_counter() - started
            return {
                "query": item if isinstance(item, str) else None,
                "among": answers.side,
                "milliseconds": round(1000 * seconds, 1),
                "hits": self._hits(index, answers, example),
            }

    def _hits(self, index: Index, answers: Answers, example: int | None) -> list[dict[str, Any]]:
        right: list[bool | None] = [None] * int(answers.counts[0])
        if example is not None and index.data is not None:
            query = index.data.judged(np.array([example]))
            rows = torch.from_numpy(np.ascontiguousarray(answers.found.rows[0, : len(right)]))
            right = query.relevant(index.relevance[answers.side].at(rows))[0].tolist()
        return [{**vars(hit), "right": mark} for hit, mark in zip(answers[0], right, strict=True)]

    def picture(self, number: int) -> bytes | None:
        """A small picture, as WebP, of an item or an example; None where there is none."""
        with self.lock:
            index = self.index
            if index.data is not None:
                known = number in index.ids["image"] or number in index.data.positions("query")
                found: Any = index.data.picture(number) if known else None
            else:
                row = int(np.searchsorted(index.ids["image"], number))
                there = row < len(index.ids["image"]) and int(index.ids["image"][row]) == number
                found = index.item("image", row) if there else None
        if not isinstance(found, Image.Image):
            return None
        found.thumbnail((THUMBNAIL, THUMBNAIL))
        found.save(buffer := io.BytesIO(), "WEBP", quality=85)
        return buffer.getvalue()


def app(shelves: Mapping[str, Shelf]) -> Starlette:
    """The server.

    Args:
        shelves: by the name that the page shows.
    """
    posts = Semaphore(POSTS)

    def shelf(request: Request) -> Shelf:
        name = request.query_params.get("index", next(iter(shelves)))
        if name not in shelves:
            raise HTTPException(404, f"there is no index {name!r}; there are: {', '.join(shelves)}.")
        return shelves[name]

    def number(request: Request, name: str, default: int, low: int, high: int) -> int:
        return whole(name, request.query_params.get(name, str(default)), low, high)

    async def indexes(request: Request) -> Response:
        return JSONResponse(list(shelves))

    async def about(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(shelf(request).about))

    async def examples(request: Request) -> Response:
        count, seed = number(request, "count", 8, 1, 100), number(request, "seed", 0, 0, 2**31)
        return JSONResponse(await run_in_threadpool(shelf(request).examples, count, seed))

    async def search(request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise HTTPException(403, "another site asks: open the page of this server.")
        if request.method == "GET":
            return await answered(request, None)
        if posts.locked():
            raise HTTPException(503, f"{POSTS} pictures are being searched with: ask again in a moment.")
        async with posts:
            return await answered(request, await _body(request))

    async def answered(request: Request, content: bytes | None) -> Response:
        given, k = request.query_params, number(request, "k", 12, 1, MOST)
        example = number(request, "example", 0, 0, 2**62) if "example" in given else None
        asked: Side = "image" if given.get("side") == "image" else "text"
        if content is None and example is None and "text" not in given:
            raise HTTPException(400, "there is no query: give text, or example and side, or post a picture.")
        work = partial(shelf(request).search, k, given.get("text"), content, example, asked)
        return JSONResponse(await run_in_threadpool(work))

    async def picture(request: Request) -> Response:
        content = await run_in_threadpool(shelf(request).picture, number(request, "id", 0, 0, 2**62))
        if content is None:
            raise HTTPException(404, "there is no such picture.")
        return Response(content, media_type="image/webp", headers={"Cache-Control": "max-age=3600"})

    routes = [
        Route("/api/indexes", indexes),
        Route("/api/about", about),
        Route("/api/examples", examples),
        Route("/api/search", search, methods=["GET", "POST"]),
        Route("/api/picture", picture),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    local = Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])
    found = Starlette(
        routes=routes, middleware=[local], exception_handlers={UserError: _refused, HTTPException: _refused}
    )
    found.add_middleware(_Safe)
    return found


class _Safe:
    """Adds `SAFE` to every answer."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - an ASGI application
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - of ASGI
        async def safe(message: Any) -> None:  # noqa: ANN401 - of ASGI
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((n.lower().encode(), v.encode()) for n, v in SAFE.items())]
            await send(message)

        await self.app(scope, receive, safe if scope["type"] == "http" else send)


async def _body(request: Request) -> bytes:
    """The content that was posted, no more of it than a picture may have."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            raise HTTPException(413, f"a picture to search with has {LARGEST >> 20} MiB at most.")
        parts.append(part)
    return b"".join(parts)


async def _refused(request: Request, error: Exception) -> Response:
    status, words = (error.status_code, error.detail) if isinstance(error, HTTPException) else (400, str(error))
    return JSONResponse({"error": words}, status_code=status)

"""Models that speak our own contract: an encoded JPEG in, a batch dimension, so that Triton can batch.

The light models do, and so does any model whose name is not one of the field's (``model_config``).
"""

from __future__ import annotations

from errors import UsageError
from inference.captions import checked, keywords_of, refuse_error_text
from inference.connection import TritonConnection
from inference.contract import Contract, single, text_of
from inference.vectors import VectorReader, fuse
from records import Caption, ModelIdentity, Picture, Vector

CAPTIONER = Contract(inputs={"image": ("BYTES", 2)}, outputs={"caption": "BYTES", "keywords": "BYTES"})
EMBEDDER = Contract(
    inputs={"image": ("BYTES", 2), "text": ("BYTES", 2)},
    outputs={"image_embedding": "FP32", "text_embedding": "FP32"},
)


class LightCaptioner:
    """Caption and keywords for a JPEG of longest side 512."""

    contract = CAPTIONER

    def __init__(self, name: str, connection: TritonConnection) -> None:
        self._name = name
        self._connection = connection

    @property
    def identity(self) -> ModelIdentity:
        """The model, and its version once it has answered; there is no prompt."""
        return ModelIdentity(self._name, self._connection.version(self._name))

    async def caption(self, picture: Picture) -> Caption:
        """Caption and keywords. Raises ``TransientError`` or ``PartUnavailable``."""
        with self._connection.observed(self._name, "caption"):
            outputs = await self._connection.infer(self._name, CAPTIONER, {"image": single(picture.jpeg, 2)})
            text = text_of(self._name, outputs, "caption")
            refuse_error_text(self._name, text)
            keywords = keywords_of(text_of(self._name, outputs, "keywords").split(","))
            return checked(self._name, Caption(" ".join(text.split(" ")).strip(), keywords))


class LightEmbedder:
    """Pictures (as JPEG of longest side 512) and texts in one space; the dimension is the model's."""

    contract = EMBEDDER

    def __init__(self, name: str, connection: TritonConnection) -> None:
        self._name = name
        self._connection = connection
        self._reader = VectorReader(name)

    @property
    def identity(self) -> ModelIdentity:
        """The model, and its version once it has answered."""
        return ModelIdentity(self._name, self._connection.version(self._name))

    async def embed_image(self, picture: Picture) -> Vector:
        """float32[D], of unit length. Raises ``TransientError`` or ``PartUnavailable``."""
        with self._connection.observed(self._name, "embed_image"):
            return await self._embed(picture.jpeg, "", "image_embedding")

    async def embed_text(self, text: str) -> Vector:
        """float32[D], of unit length.

        Raises ``UsageError`` for a blank text, ``TransientError`` or ``PartUnavailable``.
        """
        if not text.strip():
            raise UsageError("the text to embed is empty: give at least one word")
        with self._connection.observed(self._name, "embed_text"):
            # It costs little, and somebody may wait for the answer to a search.
            return await self._embed(b"", text, "text_embedding", urgent=True)

    def fuse(self, image: Vector, text: Vector, text_share: float) -> Vector:
        """One vector of unit length from the picture's and its caption's, which weighs 0 to 1."""
        return fuse(image, text, 1 - text_share)

    async def _embed(self, image: bytes, text: str, output: str, *, urgent: bool = False) -> Vector:
        inputs = {"image": single(image, 2), "text": single(text, 2)}
        outputs = await self._connection.infer(self._name, EMBEDDER, inputs, urgent=urgent)
        return self._reader.read(outputs[output])

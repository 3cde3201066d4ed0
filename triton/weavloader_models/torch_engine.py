"""What models with weights share: loading them whole, in their number format, onto their device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from weavloader_models.pictures import Decoder
from weavloader_models.serving import Arrays, Engine

logging.set_verbosity_error()
logging.disable_progress_bar()

#: Pixels of the longest side that any of these models looks at.
LONGEST = 1120


class TorchEngine(Engine):
    """An engine whose weights lie in the folder that its parameter ``weights`` names."""

    def start(self) -> None:
        """Load the weights."""
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.folder = self.parameters["weights"]
        self.dtype = getattr(torch, self.parameters["dtype"])
        self.context = int(self.parameters["context"])
        self.decoder = Decoder(min(8, len(os.sched_getaffinity(0))), LONGEST)
        self.open()

    def open(self) -> None:
        """Load model and processor from ``folder``."""
        raise NotImplementedError

    def model_of(self, kind: Any) -> Any:
        """The model of an (auto) class, ready to answer.

        Raises ``ValueError`` when the folder lacks some of its weights, which would else be random.
        """
        model, loading = kind.from_pretrained(
            self.folder, dtype=self.dtype, local_files_only=True, output_loading_info=True
        )
        if lacking := sorted(loading["missing_keys"]):
            raise ValueError(
                f"{self.folder} lacks weights that {self.name} needs: {', '.join(map(str, lacking[:3]))} …"
            )
        return model.eval().to(self.device)

    def on_device(self, batch: Any) -> dict[str, Any]:
        """Tensors on the model's device, those with fractions in its number format."""
        return {
            name: value.to(self.device, self.dtype if value.is_floating_point() else None)
            for name, value in batch.items()
        }

    def pictures(self, rows: Sequence[Arrays]) -> list[Any]:
        """The ``image`` of each row, decoded; None where it is empty, a ``Refusal`` where it cannot be decoded."""
        encoded = [row["image"].reshape(-1)[0] for row in rows]
        decoded = iter(self.decoder.decode([data for data in encoded if data]))
        return [next(decoded) if data else None for data in encoded]


def numbers(tensor: Any) -> np.ndarray:
    """float32 numbers on the CPU."""
    values: np.ndarray = tensor.float().cpu().numpy()
    return values

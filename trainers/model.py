"""A trained model from a checkpoint's safetensors, as evaluations see it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.core import Config, ConfigError, StorageError, UserError
from pipelines.core.config import load_yaml
from pipelines.decode.tokenizer import Tokenizer
from pipelines.reader import Reader, Rows, Share, open_source
from pipelines.views import ClipView, ViewBuilder, normalise, pixels
from trainers.checkpoint import MODEL, Commit
from trainers.core.evaluation import Answers
from trainers.core.objective import ComparingObjective, Objective, Surroundings
from trainers.films import Films, read_films
from trainers.left_out import check_whole
from trainers.objectives import OBJECTIVES
from trainers.proxy import MOST, judge
from trainers.recipe import Recipe, parse_recipe

RECIPE, TOKENIZER = "recipe.yaml", "tokenizer.json"
_BATCH = 256


def build_objective(recipe: Recipe, tokenizer: Tokenizer | None) -> Objective:
    """Build a recipe's objective with initial weights drawn from its seed.

    Raises:
        ConfigError: The recipe repeats samples that the objective compares.
    """
    torch.manual_seed(recipe.seed)
    video, audio = recipe.data.decode.video, recipe.data.decode.audio
    surroundings = Surroundings(
        size=recipe.data.decode.size or 0,
        vocabulary=tokenizer.size if tokenizer else 0,
        length=tokenizer.length if tokenizer else 0,
        frames=video.frames if video else 0,
        frame_size=video.size if video else 0,
        frame_rate=video.rate if video else 0.0,
        sound=audio.samples if audio else 0,
        sound_rate=audio.rate if audio else 0,
    )
    objective: Objective = OBJECTIVES.build(recipe.objective, surroundings)
    compares = isinstance(objective, ComparingObjective) and not objective.repeats
    if recipe.repeats > 1 and compares:
        kind = OBJECTIVES.kind_of(recipe.objective)
        raise ConfigError(
            f"repeats: '{kind}' compares the samples of a batch, and the same one "
            "must not be there twice; set repeats to 1"
        )
    return objective


class Model:
    """A frozen model; implements ``Encoders``.

    Args:
        objective: With trained weights.
        recipe: It was trained by.
        tokenizer: Needed for texts.
        device: Where to compute.
        fallback: For indexes of data sets that are read-only; None keeps them in memory.
    """

    def __init__(
        self,
        objective: Objective,
        recipe: Recipe,
        tokenizer: Tokenizer | None,
        device: torch.device | None = None,
        fallback: str | None = None,
    ):
        self.recipe, self._fallback = recipe, fallback
        self._device = device or torch.device("cpu")
        self._tokenizer = tokenizer
        self._objective = objective.to(self._device).eval()
        self._encoders: Mapping[str, nn.Module] = self._objective.encoders()

    @property
    def size(self) -> int:
        """Side of the images it was trained on, or of frames as images, in pixels; 0 for none."""
        decode = self.recipe.data.decode
        frames = decode.video if "image" in self._encoders else None
        return decode.size or (frames.size if frames else 0)

    @property
    def image_tower(self) -> nn.Module:
        """The image tower, for what trains it further."""
        return self._encoder("image", "an image tower")

    def features(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Features of the image tower. [N, H, W, 3] -> [N, D]."""
        return self._images(self.image_tower, images)

    @torch.inference_mode()
    def pictures(self, images: npt.NDArray[np.uint8]) -> Mapping[str, npt.NDArray[np.uint8]]:
        """What the objective shows on images, by heading. [N, H, W, 3] -> [N, H, W, 3] each."""
        seen = normalise(pixels(torch.from_numpy(images).to(self._device)))
        return {name: made.cpu().numpy() for name, made in self._objective.pictures(seen).items()}

    def embed_images(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Images in the joint space. [N, H, W, 3] -> [N, D], of unit length."""
        encoder = self._encoder("image_embedding", "a joint space of images and texts")
        return F.normalize(self._images(encoder, images), dim=1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts in the joint space. N texts -> [N, D], of unit length."""
        encoder = self._encoder("text_embedding", "a text tower")
        if self._tokenizer is None:
            raise UserError("the checkpoint has no tokenizer")
        ids = torch.from_numpy(self._tokenizer.encode(texts))
        return F.normalize(self._batched(lambda part: encoder(part), ids), dim=1)

    def readings(self, texts: Sequence[str]) -> Sequence[Hashable]:
        """The tokens of each text."""
        if self._tokenizer is None:
            return texts
        return [row.tobytes() for row in self._tokenizer.encode(texts)]

    def films(self, data: Config, label: str, samples: int) -> tuple[Tensor, Sequence[str]]:
        """Features of cuts of films, as in training but not augmented. [N, D], and N labels."""
        tower = self._encoder("video", "a video tower")
        seen = next(v for v in self._objective.views.values() if isinstance(v, ClipView))
        films = Films(data, label, samples)
        return read_films(tower, seen, self.recipe, films, self._device, self._fallback)

    def proxy(self, data: Config, samples: int, seed: int) -> Answers:
        """Set the objective its own task.

        What compares samples sees as many at once as training has views.
        """
        recipe, views = self.recipe, self._objective.views
        source = open_source(data, fallback=self._fallback)
        check_whole(source)
        reader = Reader(source, recipe.data, seed)
        size = recipe.data.decode.size
        build = ViewBuilder(views, seed, size, self._tokenizer, self._device)
        count = min(samples, reader.order.size)
        batch = recipe.global_batch * recipe.repeats
        if not isinstance(self._objective, ComparingObjective):
            batch = min(batch, MOST)
        share = Share(batch, 0, 1, 0, -(-count // batch))
        return judge(self._objective, build, reader.read(Rows(share, 0, count)))

    def _encoder(self, name: str, meaning: str) -> nn.Module:
        if name not in self._encoders:
            kind = OBJECTIVES.kind_of(self.recipe.objective)
            raise UserError(f"a model trained by '{kind}' has no {meaning.split(' ', 1)[1]}")
        return self._encoders[name]

    def _images(self, encoder: nn.Module, images: npt.NDArray[np.uint8]) -> Tensor:
        array = torch.from_numpy(images)
        return self._batched(lambda part: encoder(normalise(pixels(part))), array)

    @torch.inference_mode()
    def _batched(self, encode: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        parts = [
            encode(part.to(self._device)).float().cpu() for part in torch.split(inputs, _BATCH)
        ]
        return torch.cat(parts)


def load_model(
    commit: Commit, device: torch.device | None = None, fallback: str | None = None
) -> Model:
    """Load a model from a commit; reads verified YAML, JSON and safetensors, unpickles nothing.

    Args:
        commit: The commit.
        device: Where to compute.
        fallback: As a model's.

    Raises:
        StorageError: A file is missing, damaged or does not fit its recipe.
    """
    recipe = parse_recipe(load_yaml(commit.read_text(RECIPE), RECIPE), RECIPE)
    tokenizer = None
    if recipe.tokenizer is not None:
        tokenizer = Tokenizer.from_json(commit.read_text(TOKENIZER), recipe.tokenizer.length)
    objective = build_objective(recipe, tokenizer)
    try:
        objective.load_state_dict(safetensors.torch.load(commit.read(MODEL)))
    except (RuntimeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise StorageError(f"{commit.url}: weights do not fit the recipe ({reason})") from None
    return Model(objective, recipe, tokenizer, device, fallback)

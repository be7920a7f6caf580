"""Whether an image processor prepares pictures as the image tower behind it takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.models.boundary import boundary

# Their towers take pictures of any size: the number of patches, or of tokens, follows it.
ANY_SIZE = ("align", "vilt", "idefics3", "smolvlm", "siglip2")
NARROWEST, WIDEST = 0.5, 20.0  # between black and white, in the unit of the tower's input; usual are 1 to 4.4
NORMALISATIONS = {
    "CLIP's": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "SigLIP's": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
USUAL = {  # model_type of a tower's configuration -> whose normalisation it was trained with
    "clip_vision_model": "CLIP's", "blip_vision_model": "CLIP's", "blip_2_vision_model": "CLIP's",
    "siglip_vision_model": "SigLIP's", "siglip2_vision_model": "SigLIP's", "vilt": "SigLIP's",
}  # fmt: skip
PIXELS = {"shortest_edge": "min_pixels", "longest_edge": "max_pixels"}  # in `size`, and as keys of their own
SIZES = ("size", "crop_size", "pad_size", *PIXELS.values(), "patch_size", "merge_size", "size_divisor")
WHERE = {"size": "do_resize", "crop_size": "do_center_crop", "pad_size": "do_pad"}  # what it takes for a size to count
FILES = ("preprocessor_config.json", "processor_config.json")  # the latter as version 5 of transformers writes it


def black_and_white(width: int = 64, height: int = 48) -> Image.Image:
    """A picture whose left half is black and whose right half is white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = 255
    return Image.fromarray(pixels)


def _settings_file(config: Any) -> str:
    """Which file of the checkpoint holds the image processor's settings."""
    folder = Path(config.name_or_path or "")
    return next((file for file in FILES if (folder / file).is_file()), FILES[0])


def require_fit(name: str, processor: Any, config: Any) -> list[str]:
    """ModelError where the image processor cannot be that of the tower; else notes on what is unusual.

    Parameters
    ----------
    processor
        Of the transformers library, with its `image_processor`.
    config
        Of the model.
    """
    images = getattr(processor, "image_processor", None)
    if images is None:
        return []
    file = _settings_file(config)
    require_sizes(name, images, config, file)
    with boundary(
        f"{name}: the image processor prepares no picture",
        expected=f"settings that fit each other in {file}",
        remedy="take the file from the repository that config.json is from",
    ):
        prepared = images(images=[black_and_white()], return_tensors="pt")
        pixels = prepared if isinstance(prepared, Tensor) else prepared["pixel_values"]
    if not isinstance(pixels, Tensor):
        return []
    require_range(name, pixels, f"{file}: do_rescale, rescale_factor, do_normalize, image_std")
    tower = getattr(config, "vision_config", None) or getattr(config, "image_config", None) or config
    if pixels.ndim >= 4:  # else a list of flattened patches
        _require_shape(name, pixels, tower, file, any_size=config.model_type in ANY_SIZE)
    return _size_notes(images, config, file) + normalisation_notes(
        USUAL.get(str(getattr(tower, "model_type", ""))),
        getattr(images, "image_mean", None) if getattr(images, "do_normalize", True) else None,
        getattr(images, "image_std", None),
        file,
    )


def require_sizes(name: str, images: Any, config: Any, file: str) -> None:
    """ModelError for a size among an image processor's settings that no picture can have.

    `file`: where the settings stand; `config`: of the model.
    """
    found = {key: _size(getattr(images, key, None)) for key in SIZES if getattr(images, WHERE.get(key, ""), True)}
    wrong = [f"{key} {_shown(value)}" for key, value in found.items() if any(one <= 0 for one in value.values())]
    for value in (found.get("size", {}), {edge: getattr(images, key, None) for edge, key in PIXELS.items()}):
        least, most = (value.get(edge) for edge in PIXELS)
        if not wrong and least is not None and most is not None and least > most:
            wrong = [f"min_pixels or shortest_edge {least}, above max_pixels or longest_edge {most}"]
    patch, divisor = getattr(config, "patch_size", 1), getattr(images, "size_divisor", None)
    if not wrong and config.model_type == "vilt" and isinstance(divisor, int) and divisor % patch:
        wrong = [f"size_divisor {divisor}, where config.json has patch_size {patch}"]
    if wrong:
        raise ModelError(
            f"{name}: {file} has {'; '.join(wrong)}",
            expected="sizes above 0 that fit each other: the least at most the most, a size_divisor of whole patches",
            remedy=f"correct the key, or take {file} from the repository that config.json is from",
        )


def _size(value: Any) -> dict[str, float]:
    """The numbers of a size, however it is written, by their names."""
    named = vars(value) if hasattr(value, "__dict__") else value if isinstance(value, Mapping) else {"": value}
    return {key: one for key, one in named.items() if isinstance(one, int | float) and not isinstance(one, bool)}


def _shown(size: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:g}".strip() for key, value in size.items())


def _size_notes(images: Any, config: Any, file: str) -> list[str]:
    """What to say of a ViLT whose pictures are of another size than it was made for: it stretches its positions."""
    edge = getattr(getattr(images, "size", None), "shortest_edge", None)
    if config.model_type != "vilt" or edge == config.image_size:
        return []
    return [
        f"{file} has size {edge}, config.json has image_size {config.image_size}: the positions are stretched to fit"
    ]


def _require_shape(name: str, pixels: Tensor, tower: Any, file: str, *, any_size: bool) -> None:
    """ModelError for a number of channels or a size that the tower was not made for."""
    size, channels = getattr(tower, "image_size", None), getattr(tower, "num_channels", None)
    expected = [size, size] if isinstance(size, int) else list(size) if isinstance(size, list | tuple) else None
    found = list(pixels.shape[-3:])
    wrong = []
    if isinstance(channels, int) and found[0] != channels:
        wrong.append(f"{found[0]} channels where config.json has num_channels {channels}")
    if expected is not None and not any_size and found[1:] != expected:
        wrong.append(f"{found[1]} × {found[2]} pixels where config.json has image_size {expected[0]} × {expected[1]}")
    if wrong:
        raise ModelError(
            f"{name}: the image processor does not fit the image tower: it makes {' and '.join(wrong)}",
            expected=f"size and crop_size in {file} that are the tower's",
            remedy=f"take {file} from the repository that config.json is from",
        )


def require_range(name: str, pixels: Tensor, where: str) -> None:
    """ModelError unless black and white are about as far apart as any tower has them.

    `pixels`: of `black_and_white`, as the tower takes them.
    """
    span = float(pixels.max() - pixels.min()) if bool(torch.isfinite(pixels).all()) else float("nan")
    if not NARROWEST <= span <= WIDEST:
        raise ModelError(
            f"{name}: black and white are {span:.4g} apart after the image processor",
            expected=f"{NARROWEST:g} to {WIDEST:g}, as image towers are trained with",
            remedy=f"correct the scaling ({where})",
        )


def normalisation_notes(usual: str | None, mean: Any, std: Any, where: str) -> list[str]:
    """What to say of pictures that are normalised otherwise than such a tower's usually are.

    Parameters
    ----------
    usual
        A key of `NORMALISATIONS`; None: nothing is known, so nothing is said.
    mean, std
        Of the channels, 0 to 1; None where pictures are not normalised.
    """
    if usual is None or _same((mean, std), NORMALISATIONS[usual]):
        return []
    if mean is None:
        found = "pictures are not normalised"
    else:
        whose = [other for other, values in NORMALISATIONS.items() if _same((mean, std), values)]
        found = f"pictures are normalised with the mean {_listed(mean)} and the deviation {_listed(std)}"
        found += f", {whose[0]}" if whose else ""
    return [
        f"{where}: {found}, where such a tower is usually trained with {usual}: unless it is meant, no number is right"
    ]


def _same(found: tuple[Any, Any], known: tuple[tuple[float, ...], tuple[float, ...]]) -> bool:
    try:
        return all(np.allclose(a, b, atol=2e-3) for a, b in zip(found, known, strict=True))
    except (TypeError, ValueError):
        return False


def _listed(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in np.atleast_1d(values))


def activation_notes(name: str, config: Any, origin: str) -> list[str]:
    """What to say of a CLIP of the transformers library whose activation contradicts its origin, or itself."""
    if getattr(config, "model_type", "") != "clip":
        return []
    text, vision = config.text_config.hidden_act, config.vision_config.hidden_act
    if text != vision:
        return [f"config.json: hidden_act is {text} in text_config and {vision} in vision_config"]
    if "openai" in f"{name} {origin}".lower() and text != "quick_gelu":
        return [f"config.json: hidden_act is {text}, where OpenAI's weights were trained with quick_gelu"]
    return []

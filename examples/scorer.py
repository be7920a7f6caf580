"""A model behind an API: no weights, so no attention; a function that scores pairs is all there is.

attention-collapse diagnose --kind scorer --model examples.scorer:score --pairs FOLDER
"""

from PIL import ImageStat


def score(images, texts):
    """Stands for a call of your API: one number per pair, higher for a better match."""
    brightness = [ImageStat.Stat(image.convert("L").resize((8, 8))).mean[0] / 255 for image in images]
    return [light + (0.1 if "white" in text else 0.0) for light, text in zip(brightness, texts, strict=True)]

"""Images and labels as people have them: decoded, stacked, numbered."""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps

from memspike.datasets.split import Split, fits_int64
from memspike.errors import DataError, first_line

# What data sets come in. Pillow knows more, some of which it hands to other programs (EPS to Ghostscript).
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP")


def decode(data: Any, where: str) -> NDArray[np.uint8]:
    """One encoded image as uint8 `[channels, height, width]`: grey has one channel, all else becomes RGB."""
    if not isinstance(data, bytes):
        raise DataError(f"holds no image bytes but {type(data).__name__}", where=where)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.mode.startswith(("I", "F")) or _is_deep(image):
                raise DataError(f"is an image of mode {image.mode}, with more than 8 bits per pixel", where=where, cure="convert it to 8 bits")
            if (frames := getattr(image, "n_frames", 1)) > 1:
                raise DataError(f"holds {frames} images", where=where, cure="keep one of them in a file")
            if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
                raise DataError("has transparent pixels, and nothing says what shines through", where=where, cure="put it on a background first")
            grey = image.mode in ("L", "1", "LA", "La")
            wanted = "L" if grey else "RGB"
            upright = image if image.getexif().get(ExifTags.Base.Orientation, 1) == 1 else ImageOps.exif_transpose(image)
            pixels = np.asarray(upright if upright.mode == wanted else upright.convert(wanted))
    except DataError:
        raise
    except Exception as error:  # whatever a decoder makes of damaged bytes
        known = f"images are {', '.join(FORMATS)}"
        why = first_line(error).partition(" <")[0] or type(error).__name__  # Pillow names the buffer in memory
        raise DataError(f"is no image that can be decoded: {why}", where=where, cure=known) from error
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _is_deep(image: Image.Image) -> bool:
    """Whether the file has more bits than the mode that Pillow opens it with: it would cut them off."""
    if not isinstance(image, ImageFile.ImageFile):
        return False
    said = [tile.args if isinstance(tile.args, tuple) else (tile.args,) for tile in image.tile]
    return any(";16" in str(args) or (image.format == "PPM" and isinstance(args[-1], int) and args[-1] > 255) for args in said)


def stacked(images: Iterable[tuple[str, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Images `[n, channels, height, width]`, if all are of one shape."""
    stack: list[NDArray[np.uint8]] = []
    for place, image in images:
        if stack and image.shape != stack[0].shape:
            sizes = f"{list(image.shape)}, the first image is {list(stack[0].shape)}"
            raise DataError(f"is {sizes} [channels, height, width]", where=place, cure="bring all images to one size and one mode first")
        stack.append(image)
    return np.stack(stack) if stack else np.zeros((0, 1, 1, 1), np.uint8)


def labels_of(array: NDArray[Any], where: str) -> NDArray[Any]:
    """Labels as int64 `[n]`; DataError unless they are integers that fit."""
    if array.size and (array.dtype.kind not in "iu" or array.ndim != 1):
        shown = f"{array.dtype} {list(array.shape)}, such as {str(array.flat[0])[:40]!r}"
        raise DataError(f"labels are {shown}; expected integers [n]", where=where, cure="number the classes from 0")
    fits_int64(array, where)
    return array.astype(np.int64)


def numbered(train: Split, where: str) -> tuple[str, ...]:
    """Classes by number, for labels without names: they must be 0 to k - 1, each of them there."""
    found = np.unique(train.labels).tolist()
    if found != list(range(len(found))):
        shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        raise DataError(f"training labels are {shown}; expected 0 to {len(found) - 1}", where=where, cure="number the classes from 0, leaving none out")
    return tuple(map(str, found))


def pixels_of(array: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Images as `[n, channels, height, width]`; the channels may come last, or not at all."""
    if array.dtype != np.uint8:
        raise DataError(f"images are {array.dtype}; expected uint8, 0 (black) to 255", where=where, cure="scale them and use astype('uint8')")
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        raise DataError(f"images have the shape {list(array.shape)}; expected [n, height, width], with channels first or last", where=where)
    first, last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
    if first == last:
        what = "could have channels first or last" if first else "have neither 1 nor 3 channels, first or last"
        raise DataError(f"images {list(array.shape)} {what}", where=where, cure="save them as [n, height, width], or with 1 or 3 channels")
    return array if first else array.transpose(0, 3, 1, 2)

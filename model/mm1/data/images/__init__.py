"""Images: one decoder for ingest, loader, evaluation, server and reports, which shows the model what people see.

    bytes -> header (format, size, limits!) -> decode -> RGB on white -> upright -> bicubic resize to the model's side

Orientation tags are applied, transparent pixels are white, greys of 16 and 32 bits are scaled to 8 bits. As in MM1Processor,
the aspect ratio is not preserved. Values stay uint8 until they are on the device (:class:`mm1.data.load.collate.PixelNorm`).
"""

from mm1.data.images.decode import Pixels, decode, decode_image, decode_into, decode_small, decode_tiles
from mm1.data.images.foreign import foreign_format
from mm1.data.images.header import FORMATS, MAX_PIXELS, EncodedImage, data_url, extension_of, open_image, size_of
from mm1.data.images.thumbnails import THUMBNAIL_BYTES, are_near, contrast, thumbnail

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "THUMBNAIL_BYTES",
    "EncodedImage",
    "Pixels",
    "are_near",
    "contrast",
    "data_url",
    "decode",
    "decode_image",
    "decode_into",
    "decode_small",
    "decode_tiles",
    "extension_of",
    "foreign_format",
    "open_image",
    "size_of",
    "thumbnail",
]

// Images of a message: read a file, scale it if it is large, and give it as a data: address.

const SENT_AS_THEY_ARE = ["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"];
const MAX_SIDE_PX = 2048; // far above what the vision tower sees
const KEPT_PIXELS = 4_000_000;
const JPEG_QUALITY = 0.9;

// Read an image file; throws an Error that names the file and the remedy. The answer: {url, width, height, scaled}.
export async function readImage(file, limits) {
  const address = URL.createObjectURL(file);
  try {
    const image = new Image();
    image.src = address;
    await image.decode().catch(() => { throw new Error(`${file.name || "The image"} cannot be read: save it as JPEG or PNG.`); });
    const width = image.naturalWidth || MAX_SIDE_PX / 2, height = image.naturalHeight || MAX_SIDE_PX / 2;
    const fits = width * height <= Math.min(KEPT_PIXELS, limits.max_image_pixels) && file.size <= limits.max_request_bytes / 16;
    if (fits && SENT_AS_THEY_ARE.includes(file.type)) return { url: await dataUrl(file), width, height, scaled: false };
    return draw(image, width, height, limits);
  } finally {
    URL.revokeObjectURL(address);
  }
}

// The browser has applied the orientation of a photo, so it is part of the pixels that are drawn.
function draw(image, width, height, limits) {
  const scale = Math.min(1, MAX_SIDE_PX / Math.max(width, height), Math.sqrt(limits.max_image_pixels / (width * height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(width * scale));
  canvas.height = Math.max(1, Math.floor(height * scale));
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "white"; // below transparent parts, as on the server
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return { url: canvas.toDataURL("image/jpeg", JPEG_QUALITY), width: canvas.width, height: canvas.height, scaled: scale < 1 };
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read: ${reader.error.message}`));
    reader.readAsDataURL(file);
  });
}

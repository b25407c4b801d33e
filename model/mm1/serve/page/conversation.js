// The conversation, and the part of it that fits into a request.
//
// An exchange is {question: {text, images: [{url, width, height}]}, answer: {text, finish}}; finish is null while the answer is being
// written, then "stop", "length", "stopped" (by the reader) or "lost" (the connection).

const ENVELOPE_BYTES = 2048; // JSON around the messages
const encoder = new TextEncoder();

export class Conversation {
  exchanges = [];
  first = 0; // index of the oldest exchange that is still sent
  reason = ""; // why the older ones are not

  get last() {
    return this.exchanges.at(-1);
  }

  add(question) {
    const exchange = { question, answer: { text: "", finish: null } };
    this.exchanges.push(exchange);
    return exchange;
  }

  removeLast() {
    this.exchanges.pop();
    this.first = Math.max(0, Math.min(this.first, this.exchanges.length - 1));
  }

  // Leave out the oldest exchange that is still sent; false if only the last one is left.
  dropOldest(reason) {
    if (this.first >= this.exchanges.length - 1) return false;
    this.first += 1;
    this.reason = reason;
    return true;
  }

  // Leave out old exchanges until the request keeps the server's limits of images and bytes.
  fit(system, limits) {
    const images = () => this.sent().reduce((sum, exchange) => sum + exchange.question.images.length, 0);
    while (images() > limits.max_images && this.dropOldest(`the server takes ${limits.max_images} images a request`));
    const bytes = () => encoder.encode(JSON.stringify(this.messages(system, true))).length + ENVELOPE_BYTES;
    while (bytes() > limits.max_request_bytes && this.dropOldest(`the server takes ${size(limits.max_request_bytes)} a request`));
  }

  sent() {
    return this.exchanges.slice(this.first);
  }

  // Messages of a request. With `continued`, the last answer is part of it, and the server goes on writing it.
  messages(system, continued) {
    const messages = system ? [{ role: "system", content: system }] : [];
    for (const exchange of this.sent()) {
      messages.push({ role: "user", content: content(exchange.question) });
      if (exchange !== this.last || continued) messages.push({ role: "assistant", content: exchange.answer.text });
    }
    return messages;
  }
}

function size(bytes) {
  return bytes < 2 ** 20 ? `${Math.floor(bytes / 1024)} KB` : `${Math.floor(bytes / 2 ** 20)} MB`;
}

function content({ text, images }) {
  const parts = images.map(image => ({ type: "image_url", image_url: { url: image.url } }));
  return text ? [...parts, { type: "text", text }] : parts;
}

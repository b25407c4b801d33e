// The composer: text and images of the next message.

import { readImage } from "./images.js";
import { iconButton, picture } from "./view.js";

const $ = id => document.getElementById(id);

export class Composer {
  images = [];
  #reading = Promise.resolve(); // files are read one after another
  #numReading = 0;

  // limits: () -> limits; report: (message) -> shows what was not added; submit: () -> sends
  constructor({ limits, report, submit }) {
    Object.assign(this, { limits, report });
    this.field = $("text");
    this.field.addEventListener("input", () => this.show());
    this.field.addEventListener("keydown", event => {
      const composing = event.isComposing || event.keyCode === 229; // an input method is choosing characters
      if (event.key === "Enter" && !event.shiftKey && !composing) { event.preventDefault(); submit(); }
    });
    $("composer").addEventListener("submit", event => { event.preventDefault(); submit(); });
    $("attach").addEventListener("click", () => $("files").click());
    $("files").addEventListener("change", () => { this.addFiles([...$("files").files]); $("files").value = ""; });
    document.addEventListener("paste", event => this.#paste(event));
    for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) document.addEventListener(kind, event => this.#drag(event));
    this.show();
  }

  get empty() {
    return !this.field.value.trim() && !this.images.length && !this.#numReading;
  }

  get message() {
    return { text: this.field.value, images: this.images };
  }

  // The message, which leaves the composer; waits for images that are still being read.
  async take() {
    await this.#reading;
    const message = { ...this.message, text: this.field.value.trim() };
    this.set({ text: "", images: [] });
    return message;
  }

  set({ text, images }) {
    this.field.value = text;
    this.images = images;
    this.show();
  }

  // Give a message back that could not be sent, in front of what was written since.
  giveBack({ text, images }) {
    this.set({ text: [text, this.field.value].filter(Boolean).join("\n"), images: [...images, ...this.images] });
  }

  addFiles(files) {
    const refused = [];
    this.#numReading += files.length;
    for (const file of files) this.#reading = this.#reading.then(() => this.#add(file, refused));
    this.#reading = this.#reading.then(() => { if (refused.length) this.report(refused.join(" ")); });
    this.show();
  }

  async #add(file, refused) {
    try {
      const { max_images: most } = this.limits();
      if (this.images.length >= most) throw new Error(`${file.name} was not added: a message has at most ${most} images.`);
      if (file.type && !file.type.startsWith("image/")) throw new Error(`${file.name} is not an image.`);
      this.images = [...this.images, { ...(await readImage(file, this.limits())), name: file.name }];
    } catch (error) {
      refused.push(error.message);
    } finally {
      this.#numReading -= 1;
      this.show();
    }
  }

  #paste(event) {
    const data = event.clipboardData;
    if (document.querySelector("dialog[open]") || !data?.files.length || data.types.includes("text/plain")) return;
    event.preventDefault();
    this.addFiles([...data.files]);
    this.field.focus();
  }

  #drag(event) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    const leaves = event.type === "dragleave" && event.relatedTarget;
    document.body.classList.toggle("dragging", event.type !== "drop" && (event.type !== "dragleave" || Boolean(leaves)));
    if (event.type === "drop") this.addFiles([...event.dataTransfer.files]);
  }

  show() {
    const shown = this.images.map((image, index) => {
      const item = document.createElement("li"), name = image.name || `image ${index + 1}`;
      const size = `${image.width} × ${image.height}${image.scaled ? " px, scaled in the browser" : " px"}`;
      const remove = iconButton(`Remove ${name}`, "×", () => { this.images = this.images.filter(other => other !== image); this.show(); this.field.focus(); });
      item.title = `${name}, ${size}`;
      item.append(picture(image, `${name}, ${size}`), remove);
      return item;
    });
    const waiting = Array.from({ length: this.#numReading }, () => {
      const item = document.createElement("li");
      item.className = "reading";
      item.setAttribute("aria-label", "Reading an image");
      return item;
    });
    $("chosen").replaceChildren(...shown, ...waiting);
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
    $("send").disabled = this.empty;
  }
}

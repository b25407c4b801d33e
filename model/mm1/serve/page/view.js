// What the reader sees of the conversation.

import { render } from "./markdown.js";

const $ = id => document.getElementById(id);
const CUT = {
  length: "The answer is cut: it reached its longest length.",
  stopped: "You stopped the answer.",
  lost: "The connection was lost before the answer was complete.",
};
const NEAR_PX = 80; // as close to the end as that, the view follows the answer

export function make(tag, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

export function button(label, action, className = "quiet") {
  const node = make("button", className, label);
  node.type = "button";
  node.addEventListener("click", action);
  return node;
}

export function iconButton(label, sign, action) {
  const node = button(sign, action, "remove");
  node.setAttribute("aria-label", label);
  return node;
}

export function picture({ url }, description) {
  const image = make("img");
  image.alt = description;
  image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth <= 96));
  image.src = url;
  return image;
}

// The nodes of one exchange. actions: {edit, retry, resume} without arguments.
export class ExchangeView {
  #timer = 0;

  constructor(exchange, actions) {
    this.exchange = exchange;
    this.node = make("section", "exchange");
    this.node.append(this.#question(actions), this.#answer(actions));
    this.update();
  }

  #question(actions) {
    const { text, images } = this.exchange.question;
    const turn = make("article", "turn user");
    turn.setAttribute("aria-label", "You");
    if (images.length) {
      const row = make("div", "images");
      row.append(...images.map((image, index) => picture(image, image.name || `image ${index + 1}`)));
      turn.append(row);
    }
    if (text) turn.append(make("div", "text", text));
    const tools = make("div", "tools only-last");
    tools.append(button("Edit", actions.edit));
    const box = make("div", "side");
    box.append(turn, tools);
    return box;
  }

  #answer(actions) {
    this.turn = make("article", "turn assistant");
    this.turn.setAttribute("aria-label", "MM1");
    this.text = make("div", "text");
    this.cut = make("p", "cut");
    this.turn.append(this.text, this.cut);
    this.resume = button("Continue", actions.resume, "quiet only-last");
    this.copied = button("Copy", () => this.#copy());
    this.tools = make("div", "tools");
    this.tools.append(this.resume, this.copied, button("Retry", actions.retry, "quiet only-last"));
    const box = make("div", "side");
    box.append(this.turn, this.tools);
    return box;
  }

  // Show the answer as it is now.
  update() {
    const { text, finish } = this.exchange.answer;
    this.text.replaceChildren(text ? render(text) : finish ? "(no answer)" : "");
    this.turn.classList.toggle("waiting", finish === null);
    this.cut.textContent = CUT[finish] ?? "";
    this.cut.hidden = this.resume.hidden = !CUT[finish];
    this.tools.hidden = finish === null;
  }

  // Show it with the next picture that the browser draws.
  updateSoon() {
    this.#timer ||= requestAnimationFrame(() => { this.#timer = 0; following(() => this.update()); });
  }

  async #copy() {
    await copy(this.exchange.answer.text);
    this.copied.textContent = "Copied";
    announce("Copied");
    setTimeout(() => { this.copied.textContent = "Copy"; }, 1500);
  }
}

// A page that comes over plain HTTP from another machine has no clipboard; selecting a hidden field works there.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = make("textarea", "hidden");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

// -- the whole page -----------------------------------------------------------------------------------------------------------

let follows = true; // the view stays at the end, until the reader scrolls up

export function scrollToEnd() {
  follows = true;
  $("talk").scrollTop = $("talk").scrollHeight;
}

// Do something that changes the height, and stay at the end if the view was there.
export function following(change) {
  change();
  if (follows) scrollToEnd();
  showJump();
}

export function watchScrolling() {
  const talk = $("talk");
  let before = 0;
  talk.addEventListener("scroll", () => {
    follows = isAtEnd() || (follows && talk.scrollTop >= before);
    before = talk.scrollTop;
    showJump();
  }, { passive: true });
  talk.addEventListener("load", () => following(() => {}), { capture: true }); // an image has its height
  new ResizeObserver(() => following(() => {})).observe(talk); // the composer grows, a keyboard opens
  $("jump").addEventListener("click", scrollToEnd);
}

function isAtEnd() {
  const talk = $("talk");
  return talk.scrollHeight - talk.scrollTop - talk.clientHeight < NEAR_PX;
}

function showJump() {
  $("jump").hidden = isAtEnd();
}

// For screen readers: what happened, without the tokens one by one.
export function announce(text) {
  $("announce").textContent = text;
}

// A message above the composer, with buttons [{label, action}]; an empty text hides it.
export function showNotice(text, buttons = [], kind = "error") {
  following(() => {
    const row = make("div", "buttons");
    row.append(...buttons.map(({ label, action }) => button(label, action)));
    $("notice").className = kind;
    $("notice").replaceChildren(make("span", "", text), row);
    $("notice").hidden = !text;
  });
}

export function hideNotice() {
  if (!$("notice").hidden) showNotice("");
}

// The line below which the conversation is still sent.
export function showTrimmed(conversation, views) {
  $("talk").querySelector(".trimmed")?.remove();
  views.forEach(({ node }, index) => node.classList.toggle("unsent", index < conversation.first));
  if (!conversation.first) return;
  const text = `The model no longer sees the messages above: ${conversation.reason}.`;
  const line = make("p", "trimmed", text);
  line.setAttribute("role", "note");
  views[conversation.first].node.before(line);
}

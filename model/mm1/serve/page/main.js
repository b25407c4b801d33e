// The chat page: sends messages, shows answers, and says what went wrong.

import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { ask, DEFAULT_LIMITS, getExamples, getLimits } from "./server.js";
import { editSettings, loadSettings, maxTokens, settings } from "./settings.js";
import { announce, button, ExchangeView, following, hideNotice, make, picture, scrollToEnd, showNotice, showTrimmed, watchScrolling } from "./view.js";

const $ = id => document.getElementById(id);
const MAX_ATTEMPTS = 6; // at a busy server

let limits = DEFAULT_LIMITS;
let conversation = new Conversation();
let views = [];
let running = null; // AbortController of the answer that is being written
let editing = null; // {stash}: the last message is being edited, and this was in the composer before

const composer = new Composer({ limits: () => limits, report: showNotice, submit: send });

// -- sending ------------------------------------------------------------------------------------------------------------------

async function send() {
  if (running || composer.empty) return;
  const controller = start();
  const question = await composer.take();
  if (controller.signal.aborted || !(question.text || question.images.length)) { composer.giveBack(question); finish(controller); return; }
  const replaced = editing && conversation.last;
  if (editing) { composer.set(editing.stash); removeLast(); }
  editing = null;
  showExchange(conversation.add(question));
  scrollToEnd();
  announce("Sent");
  const outcome = await write(conversation.last, controller, false);
  if (outcome === "nothing") takeBack(question, replaced);
}

// Nothing of the answer has come: the message goes back into the composer, and an edited exchange is as it was.
function takeBack(question, replaced) {
  removeLast();
  if (replaced) { conversation.exchanges.push(replaced); showExchange(replaced); }
  composer.giveBack(question);
  showEmpty();
}

// Answer the last message again; what was there stays if nothing new comes.
async function retry() {
  const { answer } = conversation.last, before = { ...answer };
  Object.assign(answer, { text: "", finish: null });
  if (await write(conversation.last, start(), false) === "nothing") Object.assign(answer, before);
  views.at(-1).update();
}

async function resume() {
  const { answer } = conversation.last, before = { ...answer };
  answer.finish = null;
  if (await write(conversation.last, start(), true) === "nothing") Object.assign(answer, before);
  views.at(-1).update();
}

// Write the answer of the last exchange. Returns "nothing" if no text has come, "some" otherwise.
async function write(exchange, controller, continued) {
  const { answer } = exchange, view = views.at(-1), length = answer.text.length;
  try {
    view.update();
    for await (const piece of attempts(controller, continued)) {
      if (piece.text) answer.text += piece.text;
      else answer.finish = piece.finish;
      view.updateSoon();
    }
    announce(answer.text || "No answer");
    return "some";
  } catch (error) {
    const stopped = error.name === "AbortError";
    if (!stopped) explain(error, continued);
    if (answer.text.length === length) return "nothing";
    answer.finish = stopped ? "stopped" : "lost";
    return "some";
  } finally {
    if (controller === running) following(() => view.update());
    finish(controller);
  }
}

// Ask, and ask again while the server is busy, or with less of the conversation while it does not fit.
async function* attempts(controller, continued) {
  for (let attempt = 1; ; ) {
    conversation.fit(settings.system, limits);
    showTrimmed(conversation, views);
    try {
      yield* ask(requestBody(continued), settings.key, controller.signal);
      return;
    } catch (error) {
      if (error.code === "context_length_exceeded" && conversation.dropOldest(`its context of ${limits.max_model_len || "a few thousand"} tokens was full`)) continue;
      if (!error.retryAfter || attempt >= MAX_ATTEMPTS) throw error;
      attempt += 1;
      await countDown(error.retryAfter, controller.signal);
    }
  }
}

function requestBody(continued) {
  return {
    messages: conversation.messages(settings.system, continued), temperature: settings.temperature, max_tokens: maxTokens(limits),
  };
}

async function countDown(seconds, signal) {
  let skip = () => {};
  const skipped = new Promise(resolve => { skip = resolve; });
  let now = false;
  skipped.then(() => { now = true; });
  for (let left = seconds; left > 0 && !now; left -= 1) {
    showNotice(`The server is busy. Trying again in ${left} s.`, [{ label: "Try now", action: skip }], "busy");
    await Promise.race([skipped, pause(1000, signal)]);
  }
  hideNotice();
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    const abort = () => { clearTimeout(timer); hideNotice(); reject(new DOMException("stopped", "AbortError")); };
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
  });
}

async function explain(error, continued) {
  const again = () => { hideNotice(); continued ? resume() : composer.empty ? conversation.last && retry() : send(); };
  if (error.status === 401) {
    const asked = settings.key ? "The server refused this API key." : "The server asks for an API key.";
    showNotice(asked, [{ label: "Enter the key", action: () => openSettings(asked).then(saved => saved && again()) }]);
    if (await openSettings(asked)) again();
    return;
  }
  const left = error.code === "context_length_exceeded" ? [{ label: "New chat", action: newChat }] : [];
  showNotice(error.message, [{ label: "Retry", action: again }, ...left, { label: "Dismiss", action: hideNotice }]);
}

// -- state of the page --------------------------------------------------------------------------------------------------------

function start() {
  running?.abort();
  running = new AbortController();
  hideNotice();
  showRunning();
  return running;
}

function finish(controller) {
  if (controller !== running) return;
  running = null;
  showRunning();
  if (!document.querySelector("dialog[open]")) $("text").focus({ preventScroll: true });
}

function showRunning() {
  document.body.classList.toggle("running", Boolean(running));
  $("talk").setAttribute("aria-busy", String(Boolean(running)));
  $("stop").hidden = !running;
  $("send").hidden = Boolean(running);
}

function showExchange(exchange) {
  const view = new ExchangeView(exchange, { edit, retry, resume });
  views.push(view);
  $("exchanges").append(view.node);
  showEmpty();
}

function removeLast() {
  conversation.removeLast();
  views.pop()?.node.remove();
  showTrimmed(conversation, views);
}

function showEmpty() {
  $("empty").hidden = $("new").hidden = views.length > 0;
  $("new").hidden = !views.length;
}

function edit() {
  if (running) return;
  const stash = editing?.stash ?? { text: composer.field.value, images: composer.images };
  editing = { stash };
  composer.set(conversation.last.question);
  composer.field.focus();
  showNotice("Editing your last message.", [{ label: "Cancel", action: cancelEdit }], "busy");
}

function cancelEdit() {
  if (editing) composer.set(editing.stash);
  editing = null;
  hideNotice();
  composer.field.focus();
}

function newChat() {
  running?.abort();
  running = editing = null;
  conversation = new Conversation();
  views.forEach(view => view.node.remove());
  views = [];
  $("talk").querySelector(".trimmed")?.remove();
  hideNotice();
  showRunning();
  showEmpty();
  composer.field.focus();
}

async function openSettings(reason = "") {
  if ($("settings").open) return false;
  const saved = await editSettings(limits, reason);
  composer.field.focus();
  return saved;
}

// -- start ----------------------------------------------------------------------------------------------------------------------

async function connect() {
  try {
    limits = await getLimits();
    $("model").textContent = limits.model === "mm1" ? "" : limits.model;
    showExamples(await getExamples(settings.key).catch(() => []));
  } catch (error) {
    $("model").textContent = "not connected";
    showNotice(error.message, [{ label: "Retry", action: () => { hideNotice(); connect(); } }]);
  }
}

function showExamples(examples) {
  $("examples").replaceChildren(...examples.map(({ question, image }) => {
    const example = button("", () => { composer.giveBack({ text: question, images: [{ url: image, name: "example" }] }); send(); }, "example");
    example.append(picture({ url: image }, ""), make("span", "", question));
    return example;
  }));
}

$("stop").addEventListener("click", () => running?.abort());
$("new").addEventListener("click", newChat);
$("open-settings").addEventListener("click", () => openSettings());
document.addEventListener("keydown", event => { if (event.key === "Escape" && running && !document.querySelector("dialog[open]")) running.abort(); });
watchScrolling();
loadSettings();
showEmpty();
connect();

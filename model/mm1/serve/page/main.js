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
  const controller = start(), question = await composer.take();
  if (controller.signal.aborted || !(question.text || question.images.length)) {
    composer.giveBack(question);
    finish(controller);
    return;
  }
  const replaced = editing && conversation.last;
  if (editing) { composer.set(editing.stash); removeLast(); }
  editing = null;
  const exchange = conversation.add(question);
  showExchange(exchange);
  scrollToEnd();
  announce("Sent");
  const { error, isNew } = await write(controller, false);
  if (exchange !== conversation.last) return; // a new chat
  if (!isNew) takeBack(question, replaced);
  if (error) explain(error, isNew ? retry : send);
}

// Nothing of the answer has come: the message goes back into the composer; an edited one is still being edited.
function takeBack(question, replaced) {
  removeLast();
  if (!replaced) {
    composer.giveBack(question);
  } else {
    conversation.exchanges.push(replaced);
    showExchange(replaced);
    editing = { stash: composer.message };
    composer.set(question);
  }
  showEmpty();
}

// Answer the last message again.
function retry() {
  return rewrite(retry, false, { text: "", finish: null });
}

// Go on with the last answer.
function resume() {
  return rewrite(resume, true, { finish: null });
}

// The answer stays as it was if nothing new comes.
async function rewrite(again, continued, change) {
  if (running) return;
  const { answer } = conversation.last, before = { ...answer }, view = views.at(-1);
  const controller = start();
  Object.assign(answer, change);
  const { error, isNew } = await write(controller, continued);
  if (!isNew) Object.assign(answer, before);
  following(() => view.update());
  if (error && view === views.at(-1)) explain(error, again);
}

// Write the answer of the last exchange; returns whether new text has come, and the error that ended it.
async function write(controller, continued) {
  const { answer } = conversation.last, view = views.at(-1), { length } = answer.text;
  const outcome = { error: null, isNew: true };
  following(() => view.update());
  try {
    for await (const piece of attempts(controller.signal, continued)) {
      if (piece.text) answer.text += piece.text;
      else answer.finish = piece.finish;
      view.updateSoon();
    }
    announce(answer.text || "No answer");
  } catch (error) {
    const stopped = error.name === "AbortError";
    outcome.error = stopped ? null : error;
    outcome.isNew = answer.text.length > length;
    answer.finish = stopped ? "stopped" : "lost";
  }
  following(() => view.update());
  finish(controller);
  return outcome;
}

// Ask, and ask again while the server is busy, or with less while the request does not fit.
async function* attempts(signal, continued) {
  let attempt = 1, limited = true;
  for (;;) {
    conversation.fit(settings.system, limits);
    showTrimmed(conversation, views);
    try {
      yield* ask(requestBody(continued, limited), settings.key, signal);
      return;
    } catch (error) {
      const reason = tooLarge(error);
      if (reason && conversation.dropOldest(reason)) continue;
      if (error.code === "context_length_exceeded" && limited) {
        limited = false; // as long an answer as the model has room for
      } else if (error.retryAfter && attempt < MAX_ATTEMPTS) {
        attempt += 1;
        await countDown(error.retryAfter, signal);
      } else {
        throw error;
      }
    }
  }
}

// Why a request has to leave out old messages, or an empty text.
function tooLarge({ code, status }) {
  if (code === "context_length_exceeded") return "the context was full";
  if (code === "too_many_images") return "there were too many images for a request";
  return status === 413 ? "the request was too large" : "";
}

function requestBody(continued, limited) {
  const body = { messages: conversation.messages(settings.system, continued), temperature: settings.temperature };
  return limited ? { ...body, max_tokens: maxTokens(limits) } : body;
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

// Say what went wrong; `again` repeats what failed.
async function explain(error, again) {
  const repeat = () => { hideNotice(); again(); };
  if (error.status === 401) {
    const reason = settings.key ? "The server refused this API key." : "The server asks for an API key.";
    const enter = async () => { if (await openSettings(reason)) repeat(); };
    showNotice(reason, [{ label: "Enter the key", action: enter }]);
    await enter();
    return;
  }
  const full = error.code === "context_length_exceeded" ? [{ label: "New chat", action: newChat }] : [];
  showNotice(error.message, [{ label: "Retry", action: repeat }, ...full, { label: "Dismiss", action: hideNotice }]);
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
  const stash = editing?.stash ?? composer.message;
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
  if (saved && reason) loadExamples(); // they needed the key too
  composer.field.focus();
  return saved;
}

// -- start ----------------------------------------------------------------------------------------------------------------------

async function connect() {
  try {
    limits = await getLimits();
    $("model").textContent = limits.model === "mm1" ? "" : limits.model;
    loadExamples();
  } catch (error) {
    $("model").textContent = "not connected";
    showNotice(error.message, [{ label: "Retry", action: () => { hideNotice(); connect(); } }]);
  }
}

async function loadExamples() {
  const examples = await getExamples(settings.key).catch(() => []);
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

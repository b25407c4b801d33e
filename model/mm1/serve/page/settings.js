// The reader's settings: kept in the browser, the API key only until the tab is closed.

const $ = id => document.getElementById(id);
const NAMES = ["temperature", "maxTokens", "system"];

export const settings = { temperature: 0, maxTokens: null, system: "", key: "" };

export function loadSettings() {
  for (const name of NAMES) settings[name] = stored()[name] ?? settings[name];
  settings.key = read("sessionStorage", "mm1-key") ?? "";
}

// Tokens of the longest answer: the reader's wish, or a quarter of the model's context, within the server's limit.
export function maxTokens(limits) {
  return Math.min(limits.max_tokens, settings.maxTokens ?? usualTokens(limits));
}

function usualTokens({ max_tokens, default_max_tokens, max_model_len }) {
  return Math.min(max_tokens, max_model_len ? Math.max(64, Math.floor(max_model_len / 4)) : default_max_tokens);
}

// Show the dialog, with the reason if the server asked for a key. Resolves to whether the settings were saved.
export function editSettings(limits, reason = "") {
  const dialog = $("settings"), fields = $("settings-form").elements;
  $("settings-reason").textContent = reason;
  $("settings-reason").hidden = !reason;
  fields.maxTokens.max = limits.max_tokens;
  fields.maxTokens.placeholder = usualTokens(limits);
  for (const name of [...NAMES, "key"]) fields[name].value = settings[name] ?? "";
  if (settings.maxTokens) fields.maxTokens.value = maxTokens(limits);
  dialog.returnValue = "";
  dialog.showModal();
  if (reason) fields.key.focus();
  $("settings-form").onsubmit = event => { if (event.submitter?.value !== "cancel") save(fields); };
  return new Promise(resolve => dialog.addEventListener("close", () => resolve(dialog.returnValue === "save"), { once: true }));
}

function save(fields) {
  settings.temperature = Number(fields.temperature.value);
  settings.maxTokens = fields.maxTokens.value ? Number(fields.maxTokens.value) : null;
  settings.system = fields.system.value.trim();
  settings.key = fields.key.value.trim();
  write("localStorage", "mm1-settings", JSON.stringify(Object.fromEntries(NAMES.map(name => [name, settings[name]]))));
  write("sessionStorage", "mm1-key", settings.key);
}

function stored() {
  try { return JSON.parse(read("localStorage", "mm1-settings")) ?? {}; } catch { return {}; }
}

// A browser can forbid storage; the settings then hold until the page is closed.
function read(storage, name) {
  try { return window[storage].getItem(name); } catch { return null; }
}

function write(storage, name, value) {
  try { window[storage].setItem(name, value); } catch { /* forbidden */ }
}

// The server's API: limits, examples, and answers as streams.

// Until the server has named its own, and for servers that name none.
export const DEFAULT_LIMITS = {
  model: "mm1", max_model_len: 0, max_tokens: 512, default_max_tokens: 64, max_images: 16, max_image_pixels: 16_000_000,
  max_request_bytes: 20 << 20,
};

// An error reply, or no reply (status 0). retryAfter: seconds after which a busy server wants to be asked again, or null.
export class ServerError extends Error {
  constructor(message, { status = 0, code = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

export async function getLimits() {
  try {
    return { ...DEFAULT_LIMITS, ...(await (await request("limits", {})).json()) };
  } catch (error) {
    if (error.status === 404) return DEFAULT_LIMITS;
    throw error;
  }
}

export async function getExamples(key) {
  return (await request("examples", { headers: headers(key) })).json();
}

// Ask for an answer: yields {text} for each new piece, and at the end {finish}.
export async function* ask(body, key, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST", signal, headers: { "Content-Type": "application/json", ...headers(key) }, body: JSON.stringify({ ...body, stream: true }),
  });
  let finish = null;
  for await (const event of events(response)) {
    if (event.error) throw new ServerError(event.error.message, { status: 500, code: event.error.code });
    const choice = event.choices?.[0];
    if (choice?.delta?.content) yield { text: choice.delta.content };
    finish = choice?.finish_reason ?? finish;
  }
  if (!finish) throw new ServerError("The connection to the server was lost.");
  yield { finish };
}

function headers(key) {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function request(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached.");
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  const message = error?.message ?? `The server replied ${response.status} ${response.statusText}`.trim();
  throw new ServerError(message, { status: response.status, code: error?.code, retryAfter: retryAfter(response) });
}

function retryAfter(response) {
  if (response.status !== 429 && response.status !== 503) return null;
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return Number.isFinite(seconds) ? Math.min(600, Math.max(1, seconds)) : 5;
}

// Server-sent events: blocks of lines between empty lines; lines that start with a colon are comments.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await read(reader);
    if (done) return;
    const parts = (rest + value).split(/\r?\n\r?\n/);
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter(line => line.startsWith("data:")).map(line => line.slice(5).trimStart()).join("\n");
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The connection to the server was lost.");
  }
}

// Markdown of an answer as DOM nodes. Text only ever becomes text nodes: HTML in an answer stays text.
//
//     render(text) -> DocumentFragment of p, h3-h6, ul, ol, li, blockquote, pre, code, strong, em, a, br, hr
//
// Links go to http and https only. The subset is the one that language models write; everything else is shown as it is.

const MAX_DEPTH = 8;
const FENCE = /^\s{0,3}(`{3,}|~{3,})(.*)$/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^\s{0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^\s{0,3}> ?(.*)$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const LINK = /\[([^[\]\n]*)\]\((https?:\/\/[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)\)/y;
const ADDRESS = /https?:\/\/[^\s<>"`]+/y;
const SPECIAL = /[\\`*_[]|https?:\/\//g;
const WORD = /[\p{L}\p{N}]/u;

export function render(text) {
  const fragment = document.createDocumentFragment();
  blocks(text.replaceAll("\r\n", "\n").split("\n"), fragment, 0);
  return fragment;
}

function element(tag, ...children) {
  const node = document.createElement(tag);
  node.append(...children);
  return node;
}

// -- blocks: each reader takes the lines from `start` on and returns [node, index of the next line], or null ----------------

function blocks(lines, parent, depth) {
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) { at += 1; continue; }
    const block = fence(lines, at) ?? heading(lines, at) ?? rule(lines, at)
      ?? (depth < MAX_DEPTH ? quote(lines, at, depth) ?? list(lines, at, depth) : null)
      ?? paragraph(lines, at);
    parent.append(block[0]);
    at = block[1];
  }
}

function fence(lines, start) {
  const open = FENCE.exec(lines[start]);
  if (!open || (open[1][0] === "`" && open[2].includes("`"))) return null;
  let end = start + 1;
  const closes = line => line.trim().length >= open[1].length && [...line.trim()].every(sign => sign === open[1][0]);
  while (end < lines.length && !closes(lines[end])) end += 1;
  return [element("pre", element("code", lines.slice(start + 1, end).join("\n"))), end + 1];
}

function heading(lines, start) {
  const match = HEADING.exec(lines[start]);
  if (!match) return null;
  const node = element(`h${Math.min(6, match[1].length + 2)}`);
  inline(match[2], node, 0);
  return [node, start + 1];
}

function rule(lines, start) {
  return RULE.test(lines[start]) ? [element("hr"), start + 1] : null;
}

function quote(lines, start, depth) {
  let end = start;
  const inner = [];
  for (let match; end < lines.length && (match = QUOTE.exec(lines[end])); end += 1) inner.push(match[1]);
  if (end === start) return null;
  const node = element("blockquote");
  blocks(inner, node, depth + 1);
  return [node, end];
}

function list(lines, start, depth) {
  const first = ITEM.exec(lines[start]);
  if (!first) return null;
  const ordered = /\d/.test(first[2]), indent = first[1].length;
  const node = element(ordered ? "ol" : "ul");
  if (ordered && parseInt(first[2], 10) !== 1) node.start = parseInt(first[2], 10);
  let at = start;
  for (let match; at < lines.length && (match = ITEM.exec(lines[at])); ) {
    if (match[1].length > indent + 1 || match[1].length < indent || /\d/.test(match[2]) !== ordered || RULE.test(lines[at])) break;
    const end = itemEnd(lines, at + 1, indent);
    node.append(item([match[3], ...lines.slice(at + 1, end)], depth));
    at = end;
    while (at < lines.length && !lines[at].trim() && ITEM.test(lines[at + 1] ?? "")) at += 1; // a loose list
  }
  return at > start ? [node, at] : null;
}

function itemEnd(lines, start, indent) {
  let end = start;
  while (end < lines.length) {
    const line = lines[end], inner = /^\s*/.exec(line)[0].length > indent + 1;
    if (!line.trim() ? !/^\s{2,}\S/.test(lines[end + 1] ?? "") : !inner && startsBlock(line)) break;
    end += 1;
  }
  return end;
}

function item(lines, depth) {
  const inner = lines.slice(1).filter(line => line.trim()).map(line => /^\s*/.exec(line)[0].length);
  const indent = inner.length ? Math.min(...inner) : 0;
  const node = element("li");
  blocks([lines[0], ...lines.slice(1).map(line => line.slice(indent))], node, depth + 1);
  if (node.children.length && node.firstChild.tagName === "P") node.firstChild.replaceWith(...node.firstChild.childNodes);
  return node;
}

function startsBlock(line) {
  return FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || ITEM.test(line) || RULE.test(line);
}

function paragraph(lines, start) {
  let end = start + 1;
  while (end < lines.length && lines[end].trim() && !startsBlock(lines[end])) end += 1;
  const node = element("p");
  inline(lines.slice(start, end).join("\n"), node, 0);
  return [node, end];
}

// -- text in a line: each reader looks at `at` and returns [node, index of the next character], or null ----------------------

function inline(text, parent, depth) {
  const unclosed = new Set(); // signs that close nothing in the rest of the text, so that no text takes quadratic time
  let plain = "";
  const flush = () => {
    plain.split("\n").forEach((line, number) => parent.append(...(number ? [element("br"), line] : [line])));
    plain = "";
  };
  for (let at = 0; at < text.length; ) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text)?.index ?? text.length;
    plain += text.slice(at, next);
    if (next === text.length) break;
    const span = escaped(text, next) ?? code(text, next, unclosed) ?? link(text, next) ?? address(text, next)
      ?? (depth < MAX_DEPTH ? emphasis(text, next, depth, unclosed) : null) ?? [text[next], next + 1];
    if (typeof span[0] === "string") plain += span[0];
    else { flush(); parent.append(span[0]); }
    at = span[1];
  }
  flush();
}

function escaped(text, at) {
  return text[at] === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "") ? [text[at + 1], at + 2] : null;
}

function code(text, at, unclosed) {
  const ticks = run(text, at, "`"), start = at + ticks, sign = "`".repeat(ticks);
  if (!ticks) return null;
  for (let end = unclosed.has(sign) ? -1 : text.indexOf("`", start); end >= 0; ) {
    const length = run(text, end, "`");
    if (length === ticks) return [element("code", text.slice(start, end)), end + ticks];
    end = text.indexOf("`", end + length);
  }
  unclosed.add(sign);
  return [sign, start];
}

function run(text, at, sign) {
  let end = at;
  while (text[end] === sign) end += 1;
  return end - at;
}

function anchor(href, label) {
  const node = element("a", label);
  node.href = href;
  node.target = "_blank";
  node.rel = "noopener noreferrer nofollow";
  return node;
}

function link(text, at) {
  LINK.lastIndex = at;
  const match = LINK.exec(text);
  return match && URL.canParse(match[2]) ? [anchor(match[2], match[1] || match[2]), LINK.lastIndex] : null;
}

function address(text, at) {
  ADDRESS.lastIndex = at;
  const match = ADDRESS.exec(text);
  if (!match) return null;
  const href = match[0].replace(/[.,;:!?'*_)\]]+$/, "");
  return URL.canParse(href) ? [anchor(href, href), at + href.length] : [match[0], at + match[0].length];
}

function emphasis(text, at, depth, unclosed) {
  if (text[at] !== "*" && text[at] !== "_") return null;
  const width = Math.min(2, run(text, at, text[at])), sign = text[at].repeat(width), start = at + width;
  const opens = !/\s/.test(text[start] ?? " ") && !(text[at] === "_" && WORD.test(text[at - 1] ?? "")) && !unclosed.has(sign);
  const end = opens ? emphasisEnd(text, start, sign) : -1;
  if (opens && end < 0) unclosed.add(sign);
  if (end < 0) return [sign, start];
  const node = element(width === 2 ? "strong" : "em");
  inline(text.slice(start, end), node, depth + 1);
  return [node, end + width];
}

function emphasisEnd(text, start, sign) {
  for (let end = text.indexOf(sign[0], start + 1); end >= 0; ) {
    const length = run(text, end, sign[0]), after = end + length;
    const inWord = sign[0] === "_" && WORD.test(text[after] ?? "");
    if ((length === sign.length || length >= 3) && !/[\s\\]/.test(text[end - 1]) && !inWord) return after - sign.length;
    end = text.indexOf(sign[0], after);
  }
  return -1;
}

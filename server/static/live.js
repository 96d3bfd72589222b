// Keeps an open page current without losing the reader's place.
//
// The server says when something changed (body[data-events], server-sent events); then the page is fetched
// again, and what differs in the parts marked data-live is changed in place. Without events, it asks every 10 s.
// An element with data-key stays the same one wherever it moves to; data-keep leaves one to the page's own script.
"use strict";

const PERIOD_MS = 10_000; // between two fetches without events
const MOST_MS = 120_000;
const LEAST_MS = 3_000; // between two fetches with events
const SURE_MS = 60_000; // with events: ages grow even where nothing changes

// --- changing a part in place ---

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key || "" : "");
const isSame = (a, b) => a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

function syncAttributes(old, next) {
  for (const { name } of [...old.attributes])
    if (!next.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  for (const { name, value } of next.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
}

function findSame(from, next) {
  for (let node = from; node; node = node.nextSibling) if (isSame(node, next)) return node;
  return null;
}

function syncChildren(old, next) {
  let at = old.firstChild;
  for (const wanted of [...next.childNodes]) {
    const found = at && isSame(at, wanted) ? at : keyOf(wanted) && findSame(at, wanted);
    if (!found) {
      old.insertBefore(wanted, at);
    } else {
      if (found === at) at = at.nextSibling;
      else old.insertBefore(found, at);
      sync(found, wanted);
    }
  }
  while (at) {
    const rest = at.nextSibling;
    at.remove();
    at = rest;
  }
}

function sync(old, next) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  const isReaders = old.hasAttribute("data-keep") || (old.nodeName === "FORM" && old.contains(document.activeElement));
  if (isReaders || old.isEqualNode(next)) return;
  syncAttributes(old, next);
  syncChildren(old, next);
}

function showFresh(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const focused = document.activeElement;
  document.title = fresh.title;
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${old.dataset.live}"]`);
    if (next) sync(old, next);
  }
  // An element that was moved to another place lost the focus on its way.
  if (focused && focused.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  document.dispatchEvent(new CustomEvent("pathgrade:fresh"));
}

// --- when to ask ---

let timer = 0;
let wait = PERIOD_MS;
let fetchedAt = Date.now();
let source = null;

const hasEvents = () => source !== null && source.readyState === EventSource.OPEN;
const readerIsBusy = () => document.hidden || !document.getSelection().isCollapsed;

function askIn(ms) {
  clearTimeout(timer);
  timer = setTimeout(refresh, ms);
}

async function refresh() {
  let failed = false;
  if (!readerIsBusy()) {
    fetchedAt = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected) return location.reload(); // the session is over: to the page that asks who one is
      if (answer.ok) showFresh(await answer.text());
      failed = !answer.ok;
    } catch {
      failed = true;
    }
  }
  wait = failed ? Math.min(2 * wait, MOST_MS) : PERIOD_MS; // the server is away: ask less and less often
  askIn(hasEvents() && !failed && !readerIsBusy() ? SURE_MS : wait);
}

function listen() {
  const address = document.body.dataset.events;
  if (!address || source) return;
  source = new EventSource(address);
  source.addEventListener("revision", () => askIn(Math.max(0, fetchedAt + LEAST_MS - Date.now())));
  // The browser connects again by itself, but for an answer that is none: then asking must do.
  source.addEventListener("error", () => askIn(wait));
}

// A tab nobody looks at holds no connection: a browser opens only six to a server.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    if (source) source.close();
    source = null;
  } else {
    listen();
    askIn(0);
  }
});

addEventListener("pagehide", () => source && source.close());
listen();
askIn(PERIOD_MS);
